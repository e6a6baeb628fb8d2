import { expect, test } from "vitest";
import type { DeadlineWheel, Expiring } from "../../src/gateway/deadline-wheel.ts";
import { type Answer, startHttpGateway } from "../support/http-gateway.ts";
import { attemptsAt } from "./attempts.ts";

test("never more requests at once, nor connections, than the concurrency", async () => {
  await using gateway = await startHttpGateway({ answer: () => ({ delayMs: 2 }) });
  const { post } = attemptsAt(gateway.url, { concurrency: 8 });
  const outcomes = await Promise.all(Array.from({ length: 400 }, () => post()));
  expect(outcomes.every((outcome) => outcome.kind === "accepted")).toBe(true);
  expect(gateway.mostAtOnce).toBe(8);
  expect(gateway.mostConnections).toBe(8);
});

test("timeouts and faults in between cost no slot, and no message is sent twice", async () => {
  const faults = [
    {},
    { fault: "hang" },
    { fault: "reset" },
    { status: 500 },
    { thenClose: true },
    { fault: "drip" },
  ] as const;
  await using gateway = await startHttpGateway({ answer: ({ nth }) => faults[nth % faults.length] ?? {} });
  const { post, deadlines } = attemptsAt(gateway.url, { concurrency: 8, timeoutMs: 100 });
  // As the relay loop does: the next when one has ended.
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      for (let nth = 0; nth < 12; nth += 1) await post();
    }),
  );
  expect(deadlines.size).toBe(0);
  expect([...gateway.counts.values()].every((count) => count === 1)).toBe(true);
});

test("5,000 messages arrive once each, and no deadline is left", async () => {
  await using gateway = await startHttpGateway();
  const { post, deadlines } = attemptsAt(gateway.url, { concurrency: 32 });
  const outcomes = await Promise.all(Array.from({ length: 5_000 }, () => post()));
  expect(outcomes.filter((outcome) => outcome.kind === "accepted")).toHaveLength(5_000);
  expect(new Set(outcomes.map((outcome) => outcome.gatewayMessageId)).size).toBe(5_000);
  expect(gateway.counts.size).toBe(5_000);
  expect(gateway.requests).toHaveLength(5_000);
  expect(deadlines.size).toBe(0);
});

test("what waited too long for a connection is retried, and is not sent afterwards", async () => {
  const gate = Promise.withResolvers<Answer>();
  await using gateway = await startHttpGateway({ answer: ({ nth }) => (nth === 1 ? gate.promise : {}) });
  const due = new Set<Expiring>();
  const deadlines: DeadlineWheel = {
    add: (entry) => void due.add(entry),
    remove: (entry) => void due.delete(entry),
    get size() {
      return due.size;
    },
  };
  const { post } = attemptsAt(gateway.url, { concurrency: 1, deadlines });
  const sent = post({ id: 1 });
  const waiting = post({ id: 2 });
  await gateway.received(1);
  expect(due.size).toBe(2);
  [...due][1]?.expire();
  expect(await waiting).toMatchObject({ kind: "retry", error: "no connection within 10 s" });
  gate.resolve({});
  expect(await sent).toMatchObject({ kind: "accepted" });
  expect(await post({ id: 3 })).toMatchObject({ kind: "accepted" });
  expect([...gateway.counts.keys()]).toEqual(["msg_test_1", "msg_test_3"]);
});

test("abort ends what had left as unknown and what had not as retry, and sends nothing more", async () => {
  await using gateway = await startHttpGateway({
    answer: ({ id }) => (id === "msg_test_3" ? {} : { fault: "hang" }),
  });
  const { post, webhook, deadlines } = attemptsAt(gateway.url, { concurrency: 1 });
  const sent = post({ id: 1 });
  const waiting = post({ id: 2 });
  await gateway.received(1);
  webhook.abort("the relayer is stopping");
  expect(deadlines.size).toBe(0);
  expect(await sent).toMatchObject({ kind: "unknown", error: "the relayer is stopping; outcome unknown" });
  expect(await waiting).toMatchObject({ kind: "retry", error: "the relayer is stopping" });

  expect(await post({ id: 3 })).toMatchObject({ kind: "accepted" });
  expect([...gateway.counts.keys()]).toEqual(["msg_test_1", "msg_test_3"]);
});

test("abort after the status: the status decides, but for 2xx", async () => {
  await using gateway = await startHttpGateway({
    answer: ({ nth }) => ({ fault: "drip", status: nth === 1 ? 202 : 400 }),
  });
  const { post } = attemptsAt(gateway.url, { timeoutMs: 200 });
  expect(await post()).toMatchObject({ kind: "unknown", httpStatus: 202 });
  expect(await post()).toMatchObject({ kind: "rejected", httpStatus: 400 });
});

test("close waits for what is in flight, then drops the connections and sends nothing more", async () => {
  const gate = Promise.withResolvers<object>();
  await using gateway = await startHttpGateway({ answer: () => gate.promise });
  const { post, webhook } = attemptsAt(gateway.url);
  const order: string[] = [];
  const inFlight = post().then((outcome) => order.push(outcome.kind));
  await gateway.received(1);
  const closed = webhook.close().then(() => order.push("closed"));
  expect(await post()).toMatchObject({ kind: "retry", error: "not sent: the relayer is stopping" });
  gate.resolve({});
  await Promise.all([inFlight, closed, webhook.close()]);
  expect(order).toEqual(["accepted", "closed"]);
  expect(await post()).toMatchObject({ kind: "retry" });
  expect(gateway.requests).toHaveLength(1);
  await gateway.disconnected();
});

test("closing what was never used is fine", async () => {
  const { webhook } = attemptsAt("http://127.0.0.1:9/");
  await webhook.close();
  await webhook.close();
});

test("the duration is that of the whole attempt", async () => {
  await using gateway = await startHttpGateway({ answer: () => ({ delayMs: 60 }) });
  const { durationMs } = await attemptsAt(gateway.url).post();
  expect(Number.isSafeInteger(durationMs)).toBe(true);
  expect(durationMs).toBeGreaterThanOrEqual(59);
  expect(durationMs).toBeLessThan(5_000);
});

test("a Retry-After that is a date goes by the gateway's own clock, hours off as it may be", async () => {
  const theirs = (afterMs: number) => new Date(Date.parse("2031-05-01T12:00:00Z") + afterMs).toUTCString();
  await using gateway = await startHttpGateway({
    answer: () => ({ status: 429, headers: { date: theirs(0), "retry-after": theirs(7_000) } }),
  });
  expect(await attemptsAt(gateway.url).post()).toMatchObject({ kind: "throttled", retryAfterMs: 7_000 });
});
