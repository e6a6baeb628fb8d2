import { expect, test } from "vitest";
import { type CpuProfile, timeByArea } from "../../bench/support/cpu-profile.ts";
import { KERNEL, NODE, relayerArea } from "../../bench/support/relayer-areas.ts";

const SOURCE = new URL("../../src/", import.meta.url).href;

/** Each function is called by the one before. */
function stack(...frames: readonly (readonly [functionName: string, url: string])[]): CpuProfile["nodes"] {
  return frames.map(([functionName, url], id) => ({
    id,
    callFrame: { functionName, url },
    children: id + 1 < frames.length ? [id + 1] : [],
  }));
}

function timesOf(
  nodes: CpuProfile["nodes"],
  samples: readonly number[],
  between: [number, number] = [0, 1_000],
) {
  const profile = { startTime: 0, nodes, samples, timeDeltas: samples.map(() => 10) };
  return Object.fromEntries(timeByArea(profile, between, relayerArea, NODE));
}

test("what is not ours counts for its nearest caller that is", () => {
  const nodes = stack(
    ["(root)", ""],
    ["processTimers", "node:internal/timers"],
    ["send", `${SOURCE}gateway/webhook.ts`],
    ["dispatch", "file:///x/node_modules/undici/lib/dispatcher/client.js"],
    ["write", "node:net"],
    ["writeLatin1String", ""],
  );
  expect(timesOf(nodes, [0, 1, 2, 3, 4, 4, 5])).toEqual({
    [NODE]: 20,
    "src/gateway": 10,
    undici: 30,
    [KERNEL]: 10,
  });
});

test("waiting, and what is not between the two moments, is left out", () => {
  const nodes = stack(["(root)", ""], ["(idle)", ""], ["settle", `${SOURCE}relay/settler.ts`]);
  expect(timesOf(nodes, [2, 1, 2, 2, 2], [15, 40])).toEqual({ "src/relay": 20 });
});

test.each([
  ["(garbage collector)", "", "garbage collection"],
  ["wasm-function[12]", "wasm://wasm/00034eea", "undici"],
  ["parse", "file:///x/node_modules/pg-protocol/dist/parser.js", "pg"],
  ["arrayParser", "file:///x/node_modules/postgres-array/index.js", "pg"],
  ["observe", "file:///x/node_modules/prom-client/lib/histogram.js", "metrics"],
  ["observe", `${SOURCE}ops/metrics.ts`, "metrics"],
  ["claim", `${SOURCE}db/outbox.ts`, "src/db"],
  ["makeWrapper", "file:///x/node_modules/graphile-worker/dist/index.js", "other packages"],
  ["startProgram", `${SOURCE}program.ts`, "src"],
  ["emit", "node:events", undefined],
])("%s of %s: %s", (functionName, url, area) => {
  expect(relayerArea({ functionName, url })).toBe(area);
});
