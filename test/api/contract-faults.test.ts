import { expect, test } from "vitest";
import { startServer } from "../../src/api/server.ts";
import { examine } from "./contract/contract.ts";
import { FAULTS, type Fault } from "./contract/parcels/faults.ts";
import { parcelServer } from "./contract/parcels/server.ts";

const credentials = { right: () => "key write operate", without: () => "key other" };

async function faultsWith(plant: (fault: Fault) => boolean, seed: number): Promise<readonly string[]> {
  const app = parcelServer(plant);
  const server = await startServer({ app, host: "127.0.0.1", port: 0, graceMs: 100 });
  try {
    return (await examine({ url: `${server.url}/openapi.json`, seed, runs: 40, credentials })).faults;
  } finally {
    await server.stop();
  }
}

test("a server that keeps its contract has no faults", async () => {
  for (const seed of [1, 2, 3]) expect(await faultsWith(() => false, seed)).toEqual([]);
});

test.each(Object.entries(FAULTS))("%s is found", async (planted, said) => {
  const faults = await faultsWith((fault) => fault === planted, 1);
  expect(faults.filter((fault) => said.test(fault)).length, faults.join("\n")).toBeGreaterThan(0);
});
