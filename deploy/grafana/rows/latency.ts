import type { Row } from "../panel.ts";
import { average, CHOSEN, CLUSTER, percentiles } from "../promql.ts";

export const latency: Row = {
  title: "Latency",
  panels: [
    {
      kind: "graph",
      title: "Delivery",
      description: "From when a message was due to when the gateway accepted it.",
      unit: "s",
      queries: percentiles("outbox_delivery_latency_seconds"),
      width: 12,
    },
    {
      kind: "graph",
      title: "Delivery by gateway and priority, p99",
      description: "The slowest hundredth of each gateway and priority, over 5 minutes.",
      unit: "s",
      queries: [
        {
          expr: `outbox:delivery_latency_seconds:quantile_rate5m{${CHOSEN}, quantile="0.99"}`,
          legend: "{{gateway}} {{priority}}",
        },
      ],
      width: 12,
    },
    {
      kind: "graph",
      title: "Attempt",
      description: "One try at a gateway, connecting included.",
      unit: "s",
      queries: percentiles("outbox_attempt_duration_seconds"),
      width: 8,
    },
    {
      kind: "graph",
      title: "Claim and settle, p99",
      description: "What the relayers wait for Postgres. When it creeps up, look at outbox.snapshots.",
      unit: "s",
      queries: [
        { expr: `outbox:claim_duration_seconds:quantile_rate5m{${CLUSTER}}`, legend: "claim" },
        { expr: `outbox:settle_duration_seconds:quantile_rate5m{${CLUSTER}}`, legend: "settle" },
      ],
      width: 8,
    },
    {
      kind: "graph",
      title: "Outcomes in a settle",
      description: "How many outcomes are recorded by one transaction, on average.",
      unit: "short",
      queries: [{ expr: average("outbox_settle_batch_size"), legend: "outcomes" }],
      width: 8,
    },
  ],
};
