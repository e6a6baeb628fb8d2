import type { Row } from "../panel.ts";
import { CLUSTER, last } from "../promql.ts";

export const postgres: Row = {
  title: "Postgres and the query store",
  panels: [
    {
      kind: "states",
      title: "Postgres",
      description: "Does each relayer reach it?",
      unit: "none",
      queries: [{ expr: `max by (instance) (outbox_postgres_up{${CLUSTER}})`, legend: "{{instance}}" }],
      width: 8,
      values: { 0: { text: "away", color: "red" }, 1: { text: "reached", color: "green" } },
    },
    {
      kind: "graph",
      title: "Connections",
      description: "Of the whole server, and how many it takes at most.",
      unit: "short",
      queries: [
        { expr: last("outbox_postgres_connections"), legend: "in use" },
        { expr: last("outbox_postgres_max_connections"), legend: "at most" },
      ],
      width: 8,
    },
    {
      kind: "graph",
      title: "Oldest transaction",
      description:
        "While it is open, dead rows stay in the outbox, and claims get slower. select * from outbox.snapshots says whose it is.",
      unit: "s",
      queries: [{ expr: last("outbox_postgres_oldest_transaction_age_seconds"), legend: "age" }],
      width: 8,
      steps: [{ from: 600, color: "red" }],
    },
    {
      kind: "graph",
      title: "Size of the tables",
      description: "On disk, with indexes and partitions.",
      unit: "bytes",
      queries: [{ expr: `max by (table) (outbox_postgres_table_bytes{${CLUSTER}})`, legend: "{{table}}" }],
      width: 8,
    },
    {
      kind: "graph",
      title: "Dead rows",
      description: "Rows that vacuum has yet to remove, as Postgres estimates them.",
      unit: "short",
      queries: [{ expr: `max by (table) (outbox_postgres_dead_rows{${CLUSTER}})`, legend: "{{table}}" }],
      width: 8,
    },
    {
      kind: "graph",
      title: "Lag of the query store",
      description: "How old is what is read there. Nothing without a query store.",
      unit: "s",
      queries: [{ expr: last("outbox_query_store_lag_seconds"), legend: "lag" }],
      width: 4,
      otherwise: "no query store",
    },
    {
      kind: "graph",
      title: "WAL held back",
      description: "The most that a replication slot of the query store keeps Postgres from removing.",
      unit: "bytes",
      queries: [{ expr: last("outbox_postgres_slot_retained_bytes"), legend: "held back" }],
      width: 4,
      steps: [{ from: 1_073_741_824, color: "red" }],
      otherwise: "no slot",
    },
  ],
};
