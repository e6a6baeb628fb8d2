import type { Exposed } from "./registry.ts";

/** What the registry is about to have. It no longer counts as soon as the registry has the first of them. */
export const PLANNED: ReadonlyMap<string, Exposed> = new Map<string, Exposed>([
  ...histogram("outbox_delivery_latency_seconds", [1, 10, 30], "gateway", "priority"),
  plain("outbox_messages", "state", "gateway", "priority"),
  plain("outbox_oldest_due_age_seconds", "gateway", "priority"),
  plain("outbox_gateway_held", "gateway", "reason"),
  plain("outbox_circuit_state", "gateway"),
  plain("outbox_relayers_alive"),
  plain("outbox_query_store_lag_seconds"),
  plain("outbox_notify_skipped_total"),
  plain("outbox_postgres_up"),
  plain("outbox_postgres_connections"),
  plain("outbox_postgres_max_connections"),
  plain("outbox_postgres_oldest_transaction_age_seconds"),
  plain("outbox_postgres_table_bytes", "table"),
  plain("outbox_postgres_dead_rows", "table"),
  plain("outbox_postgres_slot_retained_bytes"),
]);

function plain(name: string, ...labels: string[]): [string, Exposed] {
  return [name, { labels, values: new Map() }];
}

function histogram(name: string, buckets: number[], ...labels: string[]): [string, Exposed][] {
  return [
    [`${name}_bucket`, { labels: [...labels, "le"], buckets, values: new Map() }],
    plain(`${name}_count`, ...labels),
    plain(`${name}_sum`, ...labels),
  ];
}
