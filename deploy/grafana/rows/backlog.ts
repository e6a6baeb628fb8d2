import type { Row } from "../panel.ts";
import { CHOSEN, CLUSTER, perSecond } from "../promql.ts";

export const backlog: Row = {
  title: "In, out and backlog",
  panels: [
    {
      kind: "graph",
      title: "In and out",
      description:
        "Messages a second. What comes in is reckoned: what ended, and what the outbox grew by meanwhile.",
      unit: "ops",
      queries: [
        { expr: `sum(outbox:enqueued:rate5m{${CHOSEN}})`, legend: "in" },
        { expr: `sum(outbox:sent:rate5m{${CHOSEN}})`, legend: "sent" },
        { expr: `sum(outbox:dead_letters:rate5m{${CHOSEN}})`, legend: "dead letters" },
      ],
      width: 12,
    },
    {
      kind: "graph",
      title: "Backlog by state",
      description:
        "due: could go now. scheduled: later, or between two attempts. in_flight: claimed by a relayer.",
      unit: "short",
      queries: [{ expr: `sum by (state) (outbox:messages:max{${CHOSEN}})`, legend: "{{state}}" }],
      width: 12,
      stacked: true,
    },
    {
      kind: "graph",
      title: "Due by gateway and priority",
      description: "What waits and could go now. Priority 0 goes first, 2 is bulk.",
      unit: "short",
      queries: [{ expr: `outbox:messages:max{${CHOSEN}, state="due"}`, legend: "{{gateway}} {{priority}}" }],
      width: 12,
      stacked: true,
    },
    {
      kind: "graph",
      title: "What wakes the relayers",
      description:
        "Wakes a second, by what told them; and NOTIFYs that INSERTs were spared, because a relayer was awake.",
      unit: "ops",
      queries: [
        { expr: perSecond("outbox_wakeups_total", "source", CLUSTER), legend: "{{source}}" },
        {
          expr: `sum(rate(outbox_notify_skipped_total{${CLUSTER}}[$__rate_interval]))`,
          legend: "NOTIFY skipped",
        },
      ],
      width: 12,
    },
  ],
};
