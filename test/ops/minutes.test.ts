import { expect, onTestFinished, test } from "vitest";
import { createMinutes } from "../../src/ops/minutes.ts";

/** With a `close` that answers what a test gives it, in turn, and then 0. */
function minutesOf(answers: (number | Error)[], intervalMs = 60_000) {
  const calls: number[] = [];
  const errors: unknown[] = [];
  let told = () => {};
  const minutes = createMinutes({
    intervalMs,
    async close() {
      const answer = answers[calls.length] ?? 0;
      calls.push(performance.now());
      told();
      if (answer instanceof Error) throw answer;
      return answer;
    },
    onError: (error) => errors.push(error),
  });
  onTestFinished(() => minutes.stop());
  const called = (times: number) =>
    new Promise<void>((resolve) => {
      told = () => calls.length >= times && resolve();
      told();
    });
  return { minutes, calls, errors, called };
}

test("closes at once, and goes on without a pause while there is more", async () => {
  const { minutes, calls, called } = minutesOf([3, 1, 1]);
  minutes.start();
  await called(4);
  await minutes.stop();
  expect(calls).toHaveLength(4);
});

test("looks again after a while when there was nothing", async () => {
  const { minutes, calls, called } = minutesOf([], 50);
  minutes.start();
  await called(3);
  // Node's timers count in whole milliseconds, and may be early by a part of one.
  expect((calls[2] as number) - (calls[0] as number)).toBeGreaterThanOrEqual(98);
});

test("tells of a failure, does not try again at once, and goes on", async () => {
  const failure = new Error("no");
  const { minutes, calls, errors, called } = minutesOf([1, failure, 0], 50);
  minutes.start();
  await called(3);
  expect(errors).toEqual([failure]);
  expect((calls[2] as number) - (calls[1] as number)).toBeGreaterThanOrEqual(49);
});

test("stops between two, and waits for the one under way", async () => {
  const [begun, end] = [Promise.withResolvers<void>(), Promise.withResolvers<number>()];
  let calls = 0;
  const minutes = createMinutes({
    close() {
      calls++;
      begun.resolve();
      return end.promise;
    },
    onError: () => {},
  });
  minutes.start();
  minutes.start();
  await begun.promise;
  let stopped = false;
  const stopping = minutes.stop().then(() => {
    stopped = true;
  });
  await new Promise(setImmediate);
  expect(stopped).toBe(false);
  end.resolve(1);
  await stopping;
  await minutes.stop();
  expect(calls).toBe(1);
});

test("may be stopped without having started, and does not start again", async () => {
  const { minutes, calls } = minutesOf([1]);
  await minutes.stop();
  minutes.start();
  await minutes.stop();
  expect(calls).toEqual([]);
});
