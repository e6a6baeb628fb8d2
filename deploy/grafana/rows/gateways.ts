import type { Row } from "../panel.ts";
import { CHOSEN, perSecond } from "../promql.ts";

export const gateways: Row = {
  title: "Gateways",
  panels: [
    {
      kind: "graph",
      title: "Attempts by outcome",
      description: "Tries a second, by what they showed.",
      unit: "ops",
      queries: [
        {
          expr: perSecond("outbox_attempts_total", "gateway, outcome"),
          legend: "{{gateway}} {{outcome}}",
        },
      ],
      width: 12,
    },
    {
      kind: "graph",
      title: "Attempts that were accepted",
      description: "Of all tries at the gateway.",
      unit: "percentunit",
      queries: [
        {
          expr: `sum by (gateway) (rate(outbox_attempts_total{${CHOSEN}, outcome="accepted"}[$__rate_interval])) / ${perSecond("outbox_attempts_total", "gateway")}`,
          legend: "{{gateway}}",
        },
      ],
      width: 12,
    },
    {
      kind: "states",
      title: "Circuit",
      description:
        "open: left alone, for it fails. half open: being probed. select * from outbox.gateway_status says why.",
      unit: "none",
      queries: [{ expr: `max by (gateway) (outbox_circuit_state{${CHOSEN}})`, legend: "{{gateway}}" }],
      width: 12,
      values: {
        0: { text: "closed", color: "green" },
        1: { text: "half open", color: "orange" },
        2: { text: "open", color: "red" },
      },
    },
    {
      kind: "states",
      title: "Held",
      description:
        "throttled: it asked for patience. hold: its answer faults the account or the URL. paused: by a person. select * from outbox.gateway_status.",
      unit: "none",
      queries: [
        {
          expr: `max by (gateway, reason) (outbox_gateway_held{${CHOSEN}})`,
          legend: "{{gateway}} {{reason}}",
        },
      ],
      width: 12,
      values: { 0: { text: "no", color: "green" }, 1: { text: "held", color: "red" } },
    },
    {
      kind: "graph",
      title: "Dead letters by reason",
      description: "Messages a second that ended without being sent. select * from outbox.failures.",
      unit: "ops",
      queries: [{ expr: `outbox:dead_letters:rate5m{${CHOSEN}} > 0`, legend: "{{gateway}} {{reason}}" }],
      width: 8,
      otherwise: "none",
    },
    {
      kind: "graph",
      title: "Attempt by gateway, p99",
      description: "How long the slowest hundredth of its answers takes, over 5 minutes.",
      unit: "s",
      queries: [
        {
          expr: `outbox:attempt_duration_seconds:quantile_rate5m{${CHOSEN}, quantile="0.99"}`,
          legend: "{{gateway}}",
        },
      ],
      width: 8,
    },
    {
      kind: "graph",
      title: "POSTs under way",
      description: "Of all relayers together. One relayer has at most relay.concurrency for each gateway.",
      unit: "short",
      queries: [{ expr: `sum by (gateway) (outbox_inflight{${CHOSEN}})`, legend: "{{gateway}}" }],
      width: 8,
    },
  ],
};
