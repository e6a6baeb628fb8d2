import { z } from "@hono/zod-openapi";
import type { Query } from "./connection.ts";
import { time } from "./message.ts";
import { milliseconds, msColumn } from "./milliseconds.ts";
import { withoutAnswer } from "./pii.ts";

/** A row of outbox.gateway_status, with what is set for it in outbox.gateways. */
export const Gateway = z
  .object({
    name: z.string(),
    state: z
      .enum(["relaying", "paused", "throttled", "hold", "circuit_open", "probe_due", "probing"])
      .openapi({
        description:
          "relaying; paused by a person; throttled, hold or circuit_open until `held_until`; probe_due: the next messages are " +
          "a probe; probing: it is under way.",
      }),
    paused: z.boolean().openapi({ description: "By a person. It may be held besides." }),
    held_until: time.nullable().openapi({ description: "Nothing is claimed for it before this time." }),
    hold_reason: z.enum(["throttled", "hold", "circuit_open"]).nullable().openapi({
      description:
        "Of the last hold. throttled: it asked to be left alone. hold: its answer faults the account or the URL. circuit_open: it fails.",
    }),
    hold_detail: z.string().nullable().openapi({
      description:
        "The answer or the failures that led to it. Without the scope read_pii of an answer only the status.",
    }),
    circuit: z.enum(["closed", "open", "half_open"]),
    circuit_changed_at: time.nullable().openapi({ description: "Since when. Null: it was never open." }),
    run_of_failures: z.int().openapi({ description: "Failures since the last attempt that passed." }),
    due: z.int().openapi({ description: "Messages that wait for it and are due." }),
    scheduled: z.int().openapi({ description: "Messages for it that wait for their time." }),
    in_flight: z.int().openapi({ description: "Messages for it that are claimed." }),
    oldest_due_age_ms: milliseconds("How long the oldest due one has been due.").nullable(),
    tokens: z.int().nullable().openapi({ description: "With a rate: how many could go now." }),
    url: z
      .string()
      .nullable()
      .openapi({ description: "Where its messages are POSTed, without the query, which may hold a token." }),
    concurrency: z.int().openapi({ description: "The most POSTs one relayer keeps in flight." }),
    timeout_ms: milliseconds("The longest an attempt may take."),
    max_attempts: z.int().openapi({ description: "Attempts before a message is a dead letter." }),
    base_delay_ms: milliseconds("The wait after the first failed attempt; it doubles with each further one."),
    max_delay_ms: milliseconds("The longest such wait."),
    jitter: z.number().openapi({ description: "The random part of each wait: 0.2 is plus or minus 20 %." }),
    rate_per_second: z
      .number()
      .nullable()
      .openapi({ description: "The most POSTs a second, for all relayers together; null: no limit." }),
    burst: z.int().nullable().openapi({
      description:
        "With a rate: how many may go at once after a quiet time; null: what it gives in 100 ms, at least 10.",
    }),
    hold_for_ms: milliseconds(
      "How long it is left alone after an answer that faults the account or the URL.",
    ),
    on_unknown: z.enum(["retry", "park"]).openapi({
      description:
        "When an attempt may or may not have arrived: POST again with the same Idempotency-Key, or a dead letter for a person to decide on.",
    }),
    circuit_failures: z.int().openapi({ description: "So many failures in a row open the circuit." }),
    circuit_ratio: z.number().openapi({
      description: "This share of failures within circuit_window_ms, of at least 20 attempts, opens it too.",
    }),
    circuit_window_ms: milliseconds("See circuit_ratio."),
    circuit_pause_ms: milliseconds("The wait before the first probe; it doubles while probes fail."),
    circuit_max_pause_ms: milliseconds("The longest such wait."),
    circuit_probes: z.int().openapi({ description: "How many messages a probe sends." }),
    weights: z
      .array(z.number())
      .openapi({ description: "The shares of priorities 0, 1 and 2 in each claim while all of them wait." }),
    keep_attempts: z.enum(["failed", "all"]).openapi({ description: "Which attempts are kept on record." }),
    dedupe_window_ms: milliseconds("How long a dedupe_key is remembered."),
  })
  .openapi("Gateway");

export type Gateway = z.infer<typeof Gateway>;

export const GATEWAY_EXAMPLE: Gateway = {
  name: "default",
  state: "relaying",
  paused: false,
  held_until: null,
  hold_reason: null,
  hold_detail: null,
  circuit: "closed",
  circuit_changed_at: null,
  run_of_failures: 0,
  due: 3,
  scheduled: 12,
  in_flight: 64,
  oldest_due_age_ms: 15,
  tokens: 48,
  url: "https://sms.example.com/send",
  concurrency: 64,
  timeout_ms: 10_000,
  max_attempts: 5,
  base_delay_ms: 1_000,
  max_delay_ms: 600_000,
  jitter: 0.2,
  rate_per_second: 500,
  burst: null,
  hold_for_ms: 300_000,
  on_unknown: "retry",
  circuit_failures: 5,
  circuit_ratio: 0.5,
  circuit_window_ms: 30_000,
  circuit_pause_ms: 2_000,
  circuit_max_pause_ms: 60_000,
  circuit_probes: 3,
  weights: [16, 4, 1],
  keep_attempts: "failed",
  dedupe_window_ms: 86_400_000,
};

// A hold of a person's own making may be for ever, which JSON cannot say.
export const SELECT_GATEWAYS = `
    select
      gateways.name, status.state, gateways.paused,
      case when isfinite(status.held_until) then status.held_until end as held_until,
      status.hold_reason, status.hold_detail, status.circuit, status.circuit_changed_at, status.run_of_failures,
      status.due, status.scheduled, status.in_flight, ${msColumn("status.oldest_due_age")}, status.tokens,
      split_part(gateways.url, '?', 1) as url,
      gateways.concurrency, ${msColumn("gateways.timeout")}, gateways.max_attempts, ${msColumn("gateways.base_delay")}, ${msColumn("gateways.max_delay")}, gateways.jitter,
      gateways.rate_per_second, gateways.burst, ${msColumn("gateways.hold_for")}, gateways.on_unknown,
      gateways.circuit_failures, gateways.circuit_ratio, ${msColumn("gateways.circuit_window")}, ${msColumn("gateways.circuit_pause")},
      ${msColumn("gateways.circuit_max_pause")}, gateways.circuit_probes, gateways.weights, gateways.keep_attempts, ${msColumn("gateways.dedupe_window")}
    from outbox.gateway_status as status
    join outbox.gateways on gateways.name = status.gateway`;

export function readGateways(query: Query): Promise<Gateway[]> {
  return query<Gateway>(`${SELECT_GATEWAYS} order by gateways.name`, []);
}

export async function readGateway(query: Query, name: string): Promise<Gateway | undefined> {
  const [gateway] = await query<Gateway>(`${SELECT_GATEWAYS} where gateways.name = $1`, [name]);
  return gateway;
}

/** As its reader may see it: the answer that led to a hold may quote a message. */
export function shownGateway(gateway: Gateway, mayReadPii: boolean): Gateway {
  return mayReadPii ? gateway : { ...gateway, hold_detail: withoutAnswer(gateway.hold_detail) };
}
