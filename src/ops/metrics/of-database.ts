import { Gauge, type Registry } from "prom-client";
import type { Figures } from "../figures.ts";
import { absentAtFirst } from "./of-relayer.ts";

const HELD_FOR = ["throttled", "hold", "circuit_open", "paused"] as const;
const CIRCUIT = { closed: 0, half_open: 1, open: 2 } as const;
const STATES = ["due", "scheduled", "in_flight"] as const;

/** Shows figures of the whole cluster, as Postgres has them. What is not known is absent. */
export function createMetricsOfDatabase(registry: Registry): (figures: Figures) => void {
  const gauge = (name: string, help: string, ...labelNames: string[]) =>
    new Gauge({ name, help, labelNames, registers: [registry] });
  const plain = (name: string, help: string) => absentAtFirst(registry, { name, help });

  const up = plain("outbox_postgres_up", "1 while Postgres answers this relayer, which asks each second.");
  const messages = gauge(
    "outbox_messages",
    "Messages in the outbox, of all relayers. Counted to 100,000 (in_flight: for all gateways together), which means so many or more.",
    "state",
    "gateway",
    "priority",
  );
  const oldest = gauge(
    "outbox_oldest_due_age_seconds",
    "How long the oldest due message has been due; 0 when none is.",
    "gateway",
    "priority",
  );
  const held = gauge(
    "outbox_gateway_held",
    "1 while nothing is claimed for a gateway, by why.",
    "gateway",
    "reason",
  );
  const circuit = gauge("outbox_circuit_state", "0 closed, 1 half_open, 2 open.", "gateway");
  const relayers = plain(
    "outbox_relayers_alive",
    "Relayers that hold their lock and were heard of within 30 s.",
  );
  const estimated = plain(
    "outbox_messages_estimated",
    "Messages in the outbox as of its last vacuum or analyze: the order of magnitude of a backlog beyond what outbox_messages counts.",
  );
  const connections = plain("outbox_postgres_connections", "Sessions of the whole server.");
  const maxConnections = plain("outbox_postgres_max_connections", "The most that it allows.");
  const transaction = plain(
    "outbox_postgres_oldest_transaction_age_seconds",
    "How long the oldest transaction has been open that keeps dead rows from being removed; 0 when there is none.",
  );
  const slot = plain(
    "outbox_postgres_slot_retained_bytes",
    "The most WAL that a replication slot of the query store holds back. Absent without one.",
  );
  const bytes = gauge("outbox_postgres_table_bytes", "Bytes on disk, with indexes and partitions.", "table");
  const dead = gauge(
    "outbox_postgres_dead_rows",
    "Dead rows that a vacuum has yet to remove, estimated.",
    "table",
  );

  return ({ up: isUp, queue, server }) => {
    up(isUp === undefined ? undefined : isUp ? 1 : 0);
    for (const labelled of [messages, oldest, held, circuit, bytes, dead]) labelled.reset();
    for (const figure of queue ?? []) {
      const labels = { gateway: figure.gateway, priority: figure.priority };
      for (const state of STATES) messages.set({ state, ...labels }, figure[state]);
      oldest.set(labels, Math.max(0, figure.oldest_due_age_seconds ?? 0));
    }
    for (const { name, paused, held_for, circuit: state } of server?.gateways ?? []) {
      for (const reason of HELD_FOR)
        held.set({ gateway: name, reason }, (reason === "paused" ? paused : held_for === reason) ? 1 : 0);
      circuit.set({ gateway: name }, CIRCUIT[state]);
    }
    for (const table of server?.tables ?? []) {
      bytes.set({ table: table.name }, table.bytes);
      dead.set({ table: table.name }, table.dead_rows);
    }
    relayers(server?.relayers_alive);
    estimated(server?.messages_estimated ?? undefined);
    connections(server?.connections);
    maxConnections(server?.max_connections);
    transaction(server && (server.oldest_transaction_age_seconds ?? 0));
    slot(server?.slot_retained_bytes ?? undefined);
  };
}
