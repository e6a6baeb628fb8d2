import { expect, test } from "vitest";
import { createRemembered } from "../../src/ops/remembered.ts";

/** A question whose answers the test gives, and a clock that it turns. */
function asked({ waitMs = 60_000 } = {}) {
  const clock = { ms: 0 };
  const questions: PromiseWithResolvers<string>[] = [];
  const answer = createRemembered({
    ask() {
      const question = Promise.withResolvers<string>();
      questions.push(question);
      return question.promise;
    },
    keepMs: 5_000,
    waitMs,
    now: () => clock.ms,
  });
  return { answer, clock, questions };
}

test("one question at a time, whoever asks, and its answer is kept", async () => {
  const { answer, clock, questions } = asked();
  const both = Promise.all([answer(), answer()]);
  questions[0]?.resolve("one");
  expect(await both).toEqual([
    { kind: "known", value: "one" },
    { kind: "known", value: "one" },
  ]);
  clock.ms = 4_999;
  expect(await answer()).toEqual({ kind: "known", value: "one" });
  expect(questions).toHaveLength(1);
  clock.ms = 5_000;
  const next = answer();
  questions[1]?.resolve("two");
  expect(await next).toEqual({ kind: "known", value: "two" });
});

test("nobody waits for longer than that; the answer is there for who asks later, and no second question meanwhile", async () => {
  const { answer, questions } = asked({ waitMs: 5 });
  expect(await answer()).toEqual({ kind: "waiting" });
  expect(await answer()).toEqual({ kind: "waiting" });
  expect(questions).toHaveLength(1);
  questions[0]?.resolve("late");
  await questions[0]?.promise;
  expect(await answer()).toEqual({ kind: "known", value: "late" });
});

test("an answer that is too old is not shown for a new one that takes long", async () => {
  const { answer, clock, questions } = asked({ waitMs: 5 });
  const first = answer();
  questions[0]?.resolve("old");
  await first;
  clock.ms = 5_000;
  expect(await answer()).toEqual({ kind: "waiting" });
});

test("what takes long to answer is asked seldom: a twentieth of the time at most", async () => {
  const { answer, clock, questions } = asked();
  const first = answer();
  clock.ms = 1_000;
  questions[0]?.resolve("slow");
  await first;
  clock.ms = 20_999;
  expect(await answer()).toEqual({ kind: "known", value: "slow" });
  clock.ms = 21_000;
  void answer();
  expect(questions).toHaveLength(2);
});

test("a failure is kept like an answer, however long it took", async () => {
  const { answer, clock, questions } = asked();
  const first = answer();
  clock.ms = 2_000;
  questions[0]?.reject("away");
  expect(await first).toEqual({ kind: "failed", error: "away" });
  clock.ms = 6_999;
  expect(await answer()).toEqual({ kind: "failed", error: "away" });
  clock.ms = 7_000;
  const next = answer();
  questions[1]?.resolve("back");
  expect(await next).toEqual({ kind: "known", value: "back" });
});
