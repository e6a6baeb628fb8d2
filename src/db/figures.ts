import type { Pool } from "pg";

/** What waits for a gateway at a priority, see outbox.queue_figures(). Counts stop at 100,000. */
export interface QueueFigure {
  readonly gateway: string;
  readonly priority: number;
  readonly due: number;
  readonly scheduled: number;
  readonly in_flight: number;
  /** null: nothing is due. */
  readonly oldest_due_age_seconds: number | null;
}

/** What there is to know of the server and the cluster without counting anything. */
export interface ServerFigures {
  readonly relayers_alive: number;
  /** null: outbox.messages was never vacuumed or analysed. */
  readonly messages_estimated: number | null;
  readonly connections: number;
  readonly max_connections: number;
  /** null: none is open that is known. */
  readonly oldest_transaction_age_seconds: number | null;
  /** null: the query store has no replication slot. */
  readonly slot_retained_bytes: number | null;
  readonly gateways: readonly {
    readonly name: string;
    readonly paused: boolean;
    readonly circuit: "closed" | "half_open" | "open";
    /** null: not held now. */
    readonly held_for: string | null;
  }[];
  readonly tables: readonly {
    readonly name: string;
    readonly bytes: number;
    readonly dead_rows: number;
  }[];
}

export async function readQueueFigures(pool: Pool): Promise<readonly QueueFigure[]> {
  const { rows } = await pool.query<QueueFigure>({
    name: "queue_figures",
    text: `
      select
        gateway, priority, due, scheduled, in_flight,
        date_part('epoch', oldest_due_age) as oldest_due_age_seconds
      from outbox.queue_figures()`,
  });
  return rows;
}

export async function readServerFigures(pool: Pool): Promise<ServerFigures> {
  const { rows } = await pool.query<ServerFigures>({
    name: "server_figures",
    text: `
      select
        relayers_alive, messages_estimated, connections, max_connections, slot_retained_bytes,
        date_part('epoch', oldest_transaction_age) as oldest_transaction_age_seconds,
        (
          select coalesce(json_agg(json_build_object(
            'name', gateways.name,
            'paused', gateways.paused,
            'circuit', gateways.circuit,
            'held_for', case when gateways.held_until > clock_timestamp() then gateways.hold_reason end
          )), '[]')
          from outbox.gateways
        ) as gateways,
        (select json_agg(table_figures) from outbox.table_figures()) as tables
      from outbox.server_figures()`,
  });
  return rows[0] as ServerFigures;
}
