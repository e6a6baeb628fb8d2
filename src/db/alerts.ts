import type { Pool } from "pg";

export type Severity = "critical" | "warning";

/** A condition that is not as it should be, in the form of outbox.find_alerts(). */
export interface Finding {
  readonly kind: string;
  /** The kind, and what it is about. */
  readonly key: string;
  readonly severity: Severity;
  /** A sentence, without numbers and texts of messages. */
  readonly summary: string;
  /** ISO 8601; left out: not known, it counts from when it is first found. */
  readonly since?: string;
  /** Milliseconds for which it has to be so before it is told. */
  readonly lastingMs?: number;
  readonly help?: string;
  /** A method and a path below /api/v1. */
  readonly request?: string;
}

/** From when on what is found; null: not looked for. */
export interface AlertThresholds {
  readonly newDeadLetters: number | null;
  readonly deadLetters: number | null;
  readonly oldestDueAgeMs: number | null;
  readonly gatewayHeldMs: number | null;
  readonly schedulerStoppedMs: number | null;
  readonly noRelayerMs: number | null;
  readonly slotWalBytes: number | null;
}

export interface Noting {
  readonly thresholds: AlertThresholds;
  /** What the database cannot know of itself. */
  readonly findings: readonly Finding[];
  /** Kinds that nobody has looked for: their alerts stay as they are. */
  readonly unseen: readonly string[];
  /** A job notify_CHANNEL is added for each. */
  readonly channels: readonly string[];
  readonly repeatMs: number;
  readonly recoverAfterMs: number;
}

/** One alert in a notice. */
export interface Told {
  readonly event: "opened" | "escalated" | "repeated" | "recovered";
  readonly id: number;
  readonly kind: string;
  readonly key: string;
  readonly severity: Severity;
  readonly summary: string;
  /** For a person, as is how long it lasted. */
  readonly since: string;
  readonly lasted: string;
  readonly count: number | null;
  readonly sample_ids: readonly number[];
  readonly help: string | null;
  readonly request: string | null;
  /** How often it had come back shortly after its end. */
  readonly returns: number;
}

/** What is told at one time, over every channel. */
export interface Notice {
  readonly id: string;
  readonly at: string;
  readonly installation: string;
  readonly alerts: readonly Told[];
}

export interface Alerts {
  /** Looks for what is wrong, takes note of it, and queues what is to be told, in one transaction. null: nothing is. */
  note(noting: Noting): Promise<Notice | null>;
  /** Says that this watcher is alive, and frees the jobs of workers that are gone. Returns how many of them were. */
  watch(worker: string, name: string, deadAfterMs: number): Promise<number>;
}

export function createAlerts(pool: Pool): Alerts {
  return {
    async note({ thresholds, findings, unseen, channels, repeatMs, recoverAfterMs }) {
      const { rows } = await pool.query<{ notice: Notice | null }>(NOTE, [
        thresholds.newDeadLetters,
        thresholds.deadLetters,
        interval(thresholds.oldestDueAgeMs),
        interval(thresholds.gatewayHeldMs),
        interval(thresholds.schedulerStoppedMs),
        interval(thresholds.noRelayerMs),
        thresholds.slotWalBytes,
        JSON.stringify(findings.map(asRow)),
        channels,
        unseen,
        interval(repeatMs),
        interval(recoverAfterMs),
      ]);
      return rows[0]?.notice ?? null;
    },

    async watch(worker, name, deadAfterMs) {
      const { rows } = await pool.query<{ gone: number }>("select outbox.watch($1, $2, $3) as gone", [
        worker,
        name,
        interval(deadAfterMs),
      ]);
      return rows[0]?.gone ?? 0;
    },
  };
}

const NOTE = `
  select outbox.note_alerts(
    coalesce(jsonb_agg(to_jsonb(finding)), '[]') || $8::jsonb,
    channels => $9,
    unseen => $10,
    repeat_after => $11,
    recover_after => $12
  ) as notice
  from outbox.find_alerts(
    new_dead_letters => $1,
    dead_letters => $2,
    oldest_due_age => $3,
    gateway_held => $4,
    scheduler_stopped => $5,
    no_relayer => $6,
    slot_wal => $7
  ) as finding`;

function asRow({ lastingMs, ...finding }: Finding) {
  return lastingMs === undefined ? finding : { ...finding, lasting: interval(lastingMs) };
}

function interval(ms: number | null): string | null {
  return ms === null ? null : `${ms} milliseconds`;
}
