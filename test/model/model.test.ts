import fc from "fast-check";
import { expect, test } from "vitest";
import { useOutbox } from "../sql/outbox-under-test.ts";
import { type Coverage, lacking } from "./coverage.ts";
import { asking, reset } from "./database.ts";
import { go } from "./run.ts";
import { runs } from "./runs.ts";

// A failure names its seed and its path: MODEL_SEED=… MODEL_PATH=… npx vitest run test/model goes straight there.
// MODEL_RUNS is how many to try; MODEL_COVERAGE=1 shows what happened in them, and how often.
const { MODEL_RUNS = "1000", MODEL_SEED, MODEL_PATH, MODEL_COVERAGE } = process.env;
const RUNS = Number(MODEL_RUNS);
/** For shrinking a failure, too; without one, a thousand runs take half a minute. */
const MS = 60_000 + RUNS * 120;

const outbox = useOutbox();

test(
  "whatever happens, the outbox is what the model says",
  async () => {
    // One session is enough here: who waits for whom is the other files' concern.
    const session = await outbox.session();
    await session.query("set synchronous_commit = off");
    const ask = asking(session);
    const coverage: Coverage = new Map();

    await fc.assert(
      fc.asyncProperty(fc.noBias(runs), async (run) => {
        await reset(session, run.policies);
        await go(run, ask, coverage);
      }),
      {
        numRuns: RUNS,
        ...(MODEL_SEED !== undefined && { seed: Number(MODEL_SEED) }),
        ...(MODEL_PATH !== undefined && { path: MODEL_PATH }),
        interruptAfterTimeLimit: MS - 20_000,
        markInterruptAsFailure: true,
      },
    );

    if (MODEL_COVERAGE !== undefined) console.log(Object.fromEntries([...coverage].sort()));
    if (MODEL_PATH === undefined) expect(lacking(coverage, RUNS)).toEqual([]);
  },
  MS,
);
