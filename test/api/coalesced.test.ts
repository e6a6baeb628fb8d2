import { expect, test } from "vitest";
import { coalesced } from "../../src/api/query-store/coalesced.ts";

function gated() {
  const runs: PromiseWithResolvers<void>[] = [];
  const ask = coalesced(() => {
    const run = Promise.withResolvers<void>();
    runs.push(run);
    return run.promise;
  });
  return { runs, ask };
}

test("who asks while it runs shares one run, which begins afterwards", async () => {
  const { runs, ask } = gated();
  const first = ask();
  const others = [ask(), ask(), ask()];
  expect(runs).toHaveLength(1);
  runs[0]?.resolve();
  await first;
  await Promise.resolve();
  expect(runs).toHaveLength(2);
  // It has begun, so this one needs another.
  const late = ask();
  runs[1]?.resolve();
  await Promise.all(others);
  expect(runs).toHaveLength(3);
  runs[2]?.resolve();
  await late;
});

test("one that fails does so for those who asked for it, and the next one runs", async () => {
  const { runs, ask } = gated();
  const first = ask();
  const second = ask();
  runs[0]?.reject(new Error("no"));
  await expect(first).rejects.toThrow("no");
  runs[1]?.resolve();
  await second;
  const third = ask();
  runs[2]?.resolve();
  await third;
});
