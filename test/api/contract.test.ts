import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createApp } from "../../src/api/app.ts";
import { type RunningServer, startServer } from "../../src/api/server.ts";
import { SCOPES, type Scope, sha256Of } from "../../src/config/api-keys.ts";
import { useOutbox } from "../sql/outbox-under-test.ts";
import { poolFor, READY } from "./api-under-test.ts";
import { type Examined, examine } from "./contract/contract.ts";
import type { Credentials } from "./contract/prepare.ts";
import { stock } from "./stock.ts";

// A failure shows the requests that led to it, as curl commands, and its seed: CONTRACT_SEED=… npx vitest run test/api/contract.test.ts
// does the same again. CONTRACT_RUNS is how many stories to tell of each operation; CONTRACT_COVERAGE=1 shows which answers there were.
const { CONTRACT_RUNS = "40", CONTRACT_SEED, CONTRACT_COVERAGE } = process.env;
const runs = Number(CONTRACT_RUNS);
const seed = CONTRACT_SEED === undefined ? Math.trunc(Math.random() * 2 ** 31) : Number(CONTRACT_SEED);
const MS = 60_000 + runs * 2_000;

const keyFor = (scopes: readonly Scope[]) => `key-${scopes.join("-")}`;
const allBut = (scope?: string) => SCOPES.filter((other) => other !== scope);
const keys = [allBut(), ...SCOPES.map(allBut)].map((scopes) => ({
  name: scopes.join("-"),
  scopes,
  sha256: sha256Of(keyFor(scopes)),
  expiresAt: undefined,
}));
const credentials: Credentials = {
  right: () => keyFor(allBut()),
  without: ([scope]) => keyFor(allBut(scope)),
};

const outbox = useOutbox();
let pool: ReturnType<typeof poolFor>;
let server: RunningServer;

beforeEach(async () => {
  await stock(outbox);
  // What cannot be searched is a 501, which is a fault here.
  await outbox.value("select count(*) from outbox.create_search_indexes()");
});
afterEach(async () => {
  await server.stop();
  await pool.end();
});

async function serve(withKeys: boolean): Promise<string> {
  pool = poolFor(outbox.url);
  const app = createApp({
    pool,
    ready: () => READY,
    alive: () => ({ alive: true }),
    metrics: async () => ({ contentType: "text/plain; version=0.0.4; charset=utf-8", body: "up 1\n" }),
    version: "1.2.3",
    log: () => {},
    loopbackOnly: true,
    ...(withKeys && { keys }),
  });
  server = await startServer({ app, host: "127.0.0.1", port: 0, graceMs: 1_000 });
  return `${server.url}/api/v1/openapi.json`;
}

function expectNoFault({ faults, statuses }: Examined): void {
  if (CONTRACT_COVERAGE !== undefined) console.log(statuses);
  expect.soft(faults.join("\n\n"), `CONTRACT_SEED=${seed}`).toBe("");
}

describe("the running server does what its document says, and nothing else", () => {
  test(
    "open to everyone on this machine",
    async () => {
      expectNoFault(await examine({ url: await serve(false), seed, runs }));
    },
    MS,
  );

  test(
    "with keys",
    async () => {
      expectNoFault(await examine({ url: await serve(true), seed, runs: Math.ceil(runs / 4), credentials }));
    },
    MS,
  );
});
