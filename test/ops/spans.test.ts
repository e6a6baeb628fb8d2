import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";
import { expect, test } from "vitest";
import type { Claim, Result, Settled } from "../../src/db/outbox.ts";
import type { Outcome } from "../../src/gateway/outcome.ts";
import { createSampler, createSpans } from "../../src/ops/spans.ts";

const TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736";
const traced = (flags: string) => `00-${TRACE_ID}-00f067aa0ba902b7-${flags}`;

const ACCEPTED: Outcome = {
  kind: "accepted",
  httpStatus: 202,
  gatewayMessageId: "gw",
  error: null,
  durationMs: 1,
  retryAfterMs: null,
};
const SETTLED: Settled = { settled_at: "", sent: 1, stale: [], dead: [], dead_reasons: [], held: [] };

const claimOf = (id: number, traceparent: string | null): Claim => ({
  id,
  attempt: 1,
  claimed_at: "2026-11-23T14:11:01.000000Z",
  relayer: 1,
  recipient: "+905551234567",
  content: "hi",
  traceparent,
  revision: 0,
  expiresAtMs: Number.POSITIVE_INFINITY,
  priority: 1,
  dueSinceMs: 0,
});
const resultOf = (claim: Claim): Result => ({ claim, outcome: ACCEPTED, moot: false });

/** A route's spans, as they are when they end. */
function spansOf(ratio = 1, origin = "https://sms.example.com") {
  const exporter = new InMemorySpanExporter();
  const provider = new TracerProvider({
    sampler: createSampler(ratio),
    spanProcessors: [new SimpleSpanProcessor({ exporter })],
  });
  const tracer = createSpans(provider.getTracer("test")).route("bulk", origin);
  const attempt = (claim: Claim) => {
    const one = tracer.attempt(claim);
    one.ended(ACCEPTED);
    return one.traceparent;
  };
  return { tracer, attempt, ended: () => exporter.getFinishedSpans() };
}

test("a claim is kept with what it found", () => {
  const [sampled, out, none] = [claimOf(1, traced("01")), claimOf(2, traced("00")), claimOf(3, null)];
  for (const [ratio, claims, kept] of [
    [1, [none], true],
    [1, [out], false],
    [1, [out, none], true],
    [0, [none], false],
    [0, [out, none, sampled], true],
    [0, [claimOf(4, "nonsense")], false],
    [1, [claimOf(4, "nonsense")], true],
  ] as const) {
    const { tracer, ended } = spansOf(ratio);
    tracer.claimed(claims, 12.5);
    expect(ended()).toHaveLength(kept ? 1 : 0);
    expect(ended().every(({ duration }) => duration[1] === 12_500_000)).toBe(true);
  }
});

test("a settle links to the attempts that are kept, to 128 at most; it is kept with them", async () => {
  const { tracer, attempt, ended } = spansOf(0);
  const claims = Array.from({ length: 300 }, (_, n) => claimOf(n, traced(n % 2 === 0 ? "01" : "00")));
  for (const claim of claims) attempt(claim);
  const attempts = ended();
  expect(attempts).toHaveLength(150);
  await tracer.settle(claims.map(resultOf), async () => SETTLED);
  const settle = ended().at(-1);
  expect(settle?.links.map(({ context }) => context.spanId)).toEqual(
    attempts.slice(0, 128).map((span) => span.spanContext().spanId),
  );
  expect(settle?.attributes).toMatchObject({ "outbox.count": 300, "outbox.gateway": "bulk" });
  expect(await tracer.settle([resultOf(claimOf(7, null))], async () => SETTLED)).toBe(SETTLED);
  expect(ended()).toHaveLength(151);
});

test("a settle that fails says the SQLSTATE, not the words, and its error goes on", async () => {
  const { tracer, attempt, ended } = spansOf();
  const claim = claimOf(1, null);
  attempt(claim);
  const error = Object.assign(new Error("+905551234567 is wrong"), { code: "57P01" });
  await expect(tracer.settle([resultOf(claim)], () => Promise.reject(error))).rejects.toBe(error);
  expect(ended().at(-1)).toMatchObject({ status: { code: 2 }, attributes: { "error.type": "57P01" } });
  expect(JSON.stringify(ended().at(-1)?.status)).not.toContain("905551234567");
});

test("the POST's flags are the attempt's, with what else the parent said of its trace", () => {
  const { attempt } = spansOf();
  for (const flags of ["00", "01", "02", "03"])
    expect(attempt(claimOf(1, traced(flags)))).toMatch(new RegExp(`^00-${TRACE_ID}-[0-9a-f]{16}-${flags}$`));
  expect(attempt(claimOf(1, traced("fd")))).toMatch(/-01$/);
  expect(spansOf(0).attempt(claimOf(1, null))).toMatch(/-00$/);
});

test.each([
  ["https://sms.example.com", "sms.example.com", 443],
  ["http://sms.example.com", "sms.example.com", 80],
  ["http://[::1]:8080", "::1", 8080],
])("a gateway at %s is %s, port %i", (origin, address, port) => {
  const { attempt, ended } = spansOf(1, origin);
  attempt(claimOf(1, null));
  expect(ended()[0]?.attributes).toMatchObject({ "server.address": address, "server.port": port });
});
