import type { Row } from "../panel.ts";
import { CHOSEN, last } from "../promql.ts";

const IN_TIME = `priority!="2", ${CHOSEN}`;

export const objectives: Row = {
  title: "SLO and age",
  panels: [
    {
      kind: "figure",
      title: "Scheduler",
      description:
        "Stopped: somebody has paused the relaying for all gateways. select outbox.resume() ends it.",
      unit: "none",
      queries: [{ expr: last("outbox_scheduler_running"), legend: "scheduler" }],
      width: 4,
      values: { 0: { text: "stopped", color: "red" }, 1: { text: "running", color: "green" } },
      otherwise: "not known",
    },
    {
      kind: "figure",
      title: "Relayers alive",
      description:
        "Relayers that hold their lock and were heard of lately. select * from outbox.relayer_status.",
      unit: "none",
      queries: [{ expr: last("outbox_relayers_alive"), legend: "alive" }],
      width: 4,
      otherwise: "none",
    },
    {
      kind: "figure",
      title: "In time",
      description:
        "Of the messages accepted within the time shown, so many were within 10 s. Bulk (priority 2) is left out. The objective is 99 %.",
      unit: "percentunit",
      queries: [
        {
          expr: `sum(increase(outbox_delivery_latency_seconds_bucket{${IN_TIME}, le=~"10|10[.]0"}[$__range])) / sum(increase(outbox_delivery_latency_seconds_count{${IN_TIME}}[$__range]))`,
          legend: "in time",
        },
      ],
      width: 4,
      otherwise: "nothing sent",
    },
    {
      kind: "figure",
      title: "Delivered",
      description:
        "Of the messages that ended within the time shown, so many were accepted. What a person cancelled is left out. The objective is 99 %.",
      unit: "percentunit",
      queries: [
        {
          expr: `sum(increase(outbox_attempts_total{${CHOSEN}, outcome="accepted"}[$__range])) / (sum(increase(outbox_attempts_total{${CHOSEN}, outcome="accepted"}[$__range])) + sum(increase(outbox_dead_letters_total{${CHOSEN}, reason!="cancelled"}[$__range])))`,
          legend: "delivered",
        },
      ],
      width: 4,
      otherwise: "nothing sent",
    },
    {
      kind: "figure",
      title: "Oldest due",
      description: "For how long the oldest due message has been due.",
      unit: "s",
      queries: [{ expr: `max(outbox:oldest_due_age_seconds:max{${CHOSEN}})`, legend: "age" }],
      width: 4,
      steps: [
        { from: 60, color: "orange" },
        { from: 300, color: "red" },
      ],
      otherwise: "nothing due",
    },
    {
      kind: "figure",
      title: "Due",
      description: "Messages that wait and are due. It counts to 100,000 for each gateway and priority.",
      unit: "short",
      queries: [{ expr: `sum(outbox:messages_due:sum{${CHOSEN}})`, legend: "due" }],
      width: 4,
      otherwise: "nothing due",
    },
    {
      kind: "graph",
      title: "Burn rate of the last hour",
      description:
        "1: the 1 % that may be late (in_time) or undelivered (delivered) is just used up in 30 days. From 14.4 on OutboxSloBurnsFast fires.",
      unit: "none",
      queries: [
        {
          expr: `outbox:slo_errors:ratio_rate1h{${CHOSEN}} / 0.01`,
          legend: "{{gateway}} {{slo}}",
        },
      ],
      width: 12,
      steps: [
        { from: 1, color: "orange" },
        { from: 14.4, color: "red" },
      ],
    },
    {
      kind: "graph",
      title: "Age of the oldest due message",
      description: "For how long it has been due, by gateway and priority (0 first, 2 bulk).",
      unit: "s",
      queries: [{ expr: `outbox:oldest_due_age_seconds:max{${CHOSEN}}`, legend: "{{gateway}} {{priority}}" }],
      width: 12,
      steps: [{ from: 300, color: "red" }],
    },
  ],
};
