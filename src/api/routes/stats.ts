import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { Accesses } from "../access.ts";
import type { ApiEnv } from "../dependencies.ts";
import { API, problems, READING, TAG } from "../documentation.ts";
import { time } from "../message.ts";
import { milliseconds } from "../milliseconds.ts";
import { MOST_DEAD_LETTERS, readStats } from "../stats.ts";

const count = (description: string) => z.int().openapi({ description });

const waiting = {
  due: count("Messages that wait and are due."),
  scheduled: count("Messages that wait for their time."),
  in_flight: count("Messages that are claimed: an attempt is being made."),
  oldest_due_age_ms: milliseconds("How long the oldest due one has been due.").nullable(),
};

const lastHour = {
  sent_last_hour: count("Messages sent in the last 60 whole minutes, and since."),
  failed_last_hour: count("Attempts that ended in anything but accepted."),
  dead_last_hour: count("Messages that ended without being sent."),
};

const upTo = count(
  `At most ${MOST_DEAD_LETTERS.toLocaleString("en")} are counted; that figure stands for more, too.`,
);

const perSecond = z.object({
  sent: z.number().openapi({ description: "Messages sent." }),
  failed: z.number().openapi({ description: "Attempts that ended in anything but accepted." }),
  dead: z.number().openapi({ description: "Messages that ended without being sent." }),
});

const percentiles = {
  latency_p50_ms: milliseconds(
    "From when a message could be sent (inserted, its schedule come, its last retry due) until it was recorded as sent: half " +
      "of them took no longer. Null: none was sent.",
  ).nullable(),
  latency_p95_ms: milliseconds("95 % of them took no longer.").nullable(),
  latency_p99_ms: milliseconds("99 % of them took no longer.").nullable(),
  duration_p50_ms: milliseconds(
    "How long the accepted POSTs took: half of them no longer. Latency far above it: they waited here.",
  ).nullable(),
  duration_p95_ms: milliseconds("95 % of them took no longer.").nullable(),
  duration_p99_ms: milliseconds("99 % of them took no longer.").nullable(),
};

const Rates = z
  .object({ last_minute: perSecond, last_5_minutes: perSecond, last_hour: perSecond })
  .openapi("Rates", { description: "For each second, over minutes that are over." });

const Latency = z.object(percentiles).openapi("Latency", { description: "Of the last minute that is over." });

const Stats = z
  .object({
    as_of: time,
    totals: z.object({
      running: z.boolean().openapi({ description: "False: paused, nothing is claimed." }),
      relayers_alive: z.int(),
      ...waiting,
      sent_last_minute: count("Messages sent in the 60 s before as_of."),
      failed_last_minute: count("Attempts of those 60 s that ended in anything but accepted."),
      dead_last_minute: count("Messages that ended without being sent, in those 60 s."),
      ...lastHour,
      dead_letters: z
        .object({ rejected: upTo, exhausted: upTo, expired: upTo, cancelled: upTo, unknown_outcome: upTo })
        .openapi({ description: "What lies there now, by reason." }),
    }),
    rates: Rates,
    latency: Latency,
    gateways: z.array(
      z.object({ name: z.string(), ...waiting, ...lastHour, rates: Rates, latency: Latency }),
    ),
    minutes: z
      .array(
        z.object({
          minute: time.openapi({ format: "date-time", description: "Its beginning." }),
          sent: count("Messages sent."),
          failed: count(
            "Attempts that ended in anything but accepted: the sum of the five that follow dead.",
          ),
          dead: count("Messages that ended without being sent, for any reason."),
          rejected: count("Attempts after which the gateway never will take the message."),
          retry: count("Attempts that surely sent nothing."),
          throttled: count("Attempts after which the gateway asked to be left alone."),
          unknown: count("Attempts that may have been taken."),
          hold: count("Attempts whose answer faulted the account or the URL."),
          ...percentiles,
        }),
      )
      .openapi({
        description: "The last 60 minutes that are over, the oldest first; also those without traffic.",
      }),
  })
  .openapi("Stats");

type Stats = z.infer<typeof Stats>;

const rates = { sent: 480.5, failed: 1.25, dead: 0.017 };
const latency = {
  latency_p50_ms: 42,
  latency_p95_ms: 91,
  latency_p99_ms: 260,
  duration_p50_ms: 38,
  duration_p95_ms: 80,
  duration_p99_ms: 210,
};
const backlog = { due: 3, scheduled: 12, in_flight: 64, oldest_due_age_ms: 15 };
const hour = { sent_last_hour: 1_729_800, failed_last_hour: 4_500, dead_last_hour: 61 };
const lately = { rates: { last_minute: rates, last_5_minutes: rates, last_hour: rates }, latency };

const EXAMPLE: Stats = {
  as_of: "2026-11-23T09:30:12.123456Z",
  totals: {
    running: true,
    relayers_alive: 2,
    ...backlog,
    sent_last_minute: 28_912,
    failed_last_minute: 70,
    dead_last_minute: 1,
    ...hour,
    dead_letters: { rejected: 812, exhausted: 0, expired: 40, cancelled: 7, unknown_outcome: 0 },
  },
  ...lately,
  gateways: [{ name: "default", ...backlog, ...hour, ...lately }],
  minutes: [
    {
      minute: "2026-11-23T09:29:00.000000Z",
      sent: 28_830,
      failed: 75,
      dead: 1,
      rejected: 1,
      retry: 70,
      throttled: 0,
      unknown: 4,
      hold: 0,
      ...latency,
    },
  ],
};

const statsRoute = createRoute({
  method: "get",
  path: `${API}/stats`,
  operationId: "getStats",
  tags: [TAG.insight],
  summary: "How much goes out, how fast, and what waits?",
  description:
    "Totals up to now; rates and latency of minutes that are over, for all together and for each gateway; and the last hour " +
    "minute by minute. A minute is counted once and for all when it is over, so this may be asked for every few seconds under any load. Percentiles cannot be added up or " +
    "averaged: there are those of each minute, and `latency` is the last of them.",
  responses: {
    200: {
      description: "The figures.",
      content: { "application/json": { schema: Stats, example: EXAMPLE } },
    },
    ...problems(...READING),
  },
});

export function addStats(app: OpenAPIHono<ApiEnv>, access: Accesses): void {
  app.openapi({ ...statsRoute, ...access.read }, async (c) => c.json(await c.get("read")(readStats), 200));
}
