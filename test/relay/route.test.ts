import { expect, onTestFinished, test } from "vitest";
import type { Claim, Gateway, Outbox } from "../../src/db/outbox.ts";
import type { Outcome } from "../../src/gateway/outcome.ts";
import type { RelayEvents } from "../../src/relay/events.ts";
import { createRoute } from "../../src/relay/route.ts";

const AWAY = new Error("away");
const ACCEPTED: Outcome = {
  kind: "accepted",
  httpStatus: 202,
  gatewayMessageId: "gw",
  error: null,
  durationMs: 1,
  retryAfterMs: null,
};
const SILENT = new Proxy({}, { get: () => () => {} }) as RelayEvents;
const ROUTE = {
  gateway: { name: "default", concurrency: 8, timeout_ms: 1_000 } as Gateway,
  awake: { told: () => {}, claimed: () => undefined },
  relayer: () => 1,
  aliveUntilMs: () => Number.POSITIVE_INFINITY,
  continuous: true,
  batchSize: 10,
  pollIntervalMs: 10,
  isOutage: (error: unknown) => error === AWAY,
  events: SILENT,
};

const claimOf = (id: number, relayer: number): Claim => ({
  id,
  relayer,
  attempt: relayer,
  claimed_at: `2026-11-23T14:11:0${relayer}.000000Z`,
  recipient: "",
  content: "",
  traceparent: null,
  revision: 0,
  expiresAtMs: Number.POSITIVE_INFINITY,
  priority: 1,
  dueSinceMs: 0,
});

test("a message that is claimed again here while its earlier result is still to be recorded is not disowned", async () => {
  let relayer = 1;
  let away = false;
  const due: Claim[] = [];
  const disowned: (readonly number[])[] = [];
  const sends: { id: number; done: (outcome: Outcome) => void }[] = [];
  const settled = Promise.withResolvers<void>();
  const asked = Promise.withResolvers<void>();
  const outbox = {
    claim: async () => ({ claims: due.splice(0), lasts: [] }),
    nextDue: async () => null,
    async disown(_relayer: number, _gateway: string, known: readonly number[]) {
      disowned.push(known);
      if (known.length > 0) asked.resolve();
      return 0;
    },
    async settle(number: number, results: readonly { claim: Claim }[]) {
      if (away) throw AWAY;
      expect(number).toBe(1);
      settled.resolve();
      return {
        settled_at: "",
        sent: 0,
        stale: results.map(({ claim }) => claim.id),
        dead: [],
        dead_reasons: [],
        held: [],
      };
    },
  } as unknown as Outbox;
  const route = createRoute({
    ...ROUTE,
    outbox,
    webhook: {
      origin: "http://gateway.test",
      send: ({ id }, done) => void sends.push({ id, done }),
      abort: () => {},
      close: async () => {},
    },
    relayer: () => relayer,
  });

  due.push(claimOf(7, 1));
  route.wake();
  await expect.poll(() => sends.length, { interval: 1 }).toBe(1);
  // Posted, accepted, and Postgres is away; meanwhile the claim is rescued, and made again under a new number.
  away = true;
  sends[0]?.done(ACCEPTED);
  relayer = 2;
  due.push(claimOf(7, 2));
  await expect.poll(() => sends.length, { interval: 1 }).toBe(2);
  away = false;
  await settled.promise;
  // The answer to a claim is lost, so what Postgres has claimed for us is compared with what we know.
  outbox.claim = async () => {
    outbox.claim = async () => ({ claims: [], lasts: [] });
    throw AWAY;
  };
  await asked.promise;
  expect(disowned.at(-1)).toEqual([7]);
  sends[1]?.done(ACCEPTED);
});

test("a question for what is due next that fails is reported, and it looks again at the poll", async () => {
  const did: unknown[] = [];
  const lookedAgain = Promise.withResolvers<void>();
  const events = Object.assign(Object.create(SILENT) as RelayEvents, {
    error: (...told: unknown[]) => did.push(told),
  });
  const outbox = {
    async claim() {
      if (did.push("claim") > 1) lookedAgain.resolve();
      return { claims: [], lasts: [] };
    },
    nextDue: () => Promise.reject(AWAY),
  } as unknown as Outbox;
  const route = createRoute({
    ...ROUTE,
    outbox,
    webhook: { origin: "http://gateway.test", send: () => {}, abort: () => {}, close: async () => {} },
    events,
  });
  onTestFinished(() => route.stop(0));
  route.wake();
  await lookedAgain.promise;
  expect(did).toEqual(["claim", ["next_due", AWAY], "claim"]);
});
