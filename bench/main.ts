/*
 * npm run bench -- [NAME…] [--scale F]
 *
 * Prints figures, not verdicts: a table and a line of JSON for each bench, which goes to bench/results/ as well. Everything runs on
 * this machine: a PostgreSQL with durable settings, a gateway, and the relayer, each in processes of its own.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { backlog } from "./benches/backlog.ts";
import { bystander } from "./benches/bystander.ts";
import { history } from "./benches/history.ts";
import { latency } from "./benches/latency.ts";
import { memory } from "./benches/memory.ts";
import { peers } from "./benches/peers.ts";
import { producers } from "./benches/producers.ts";
import { profile } from "./benches/profile.ts";
import { queryStore } from "./benches/query-store.ts";
import { relayers } from "./benches/relayers.ts";
import { slowGateway } from "./benches/slow-gateway.ts";
import { snapshot } from "./benches/snapshot.ts";
import { throughput } from "./benches/throughput.ts";
import { wal } from "./benches/wal.ts";
import type { Bench, Row } from "./support/bench.ts";
import { conditions } from "./support/conditions.ts";
import { shown } from "./support/shown.ts";
import { Interrupted, onStage } from "./support/stage.ts";

const BENCHES: Readonly<Record<string, Bench>> = {
  throughput,
  profile,
  peers,
  latency,
  "slow-gateway": slowGateway,
  producers,
  snapshot,
  bystander,
  history,
  backlog,
  relayers,
  memory,
  wal,
  "query-store": queryStore,
};
const RESULTS = fileURLToPath(new URL("results/", import.meta.url));

function usage(fault: string): never {
  const list = Object.entries(BENCHES).map(([name, { measures }]) => `  ${name.padEnd(14)} ${measures}`);
  console.error(
    [
      fault,
      "",
      "npm run bench -- [NAME…] [--scale F]",
      "",
      ...list,
      "",
      "Without a name: all. --scale: from 0.0001 to 1, the share of the full work; below 1, bench/results is left as it is.",
    ].join("\n"),
  );
  process.exit(2);
}

function readArguments() {
  try {
    return parseArgs({ allowPositionals: true, options: { scale: { type: "string", default: "1" } } });
  } catch (error) {
    return usage((error as Error).message);
  }
}

function table(rows: readonly Row[]): void {
  console.table(
    Object.fromEntries(
      rows.map(({ case: name, ...figures }) => [
        name,
        Object.fromEntries(Object.entries(figures).map(([figure, value]) => [figure, shown(value)])),
      ]),
    ),
  );
}

const { positionals, values } = readArguments();
const unknown = positionals.filter((name) => !Object.hasOwn(BENCHES, name));
if (unknown.length > 0) usage(`There is no bench named ${unknown.join(", ")}.`);
const scale = Number(values.scale);
if (!(scale >= 0.0001 && scale <= 1))
  usage(`--scale is ${JSON.stringify(values.scale)}, and has to be a number from 0.0001 to 1.`);

const interrupt = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) {
  process.once(name, () => {
    // What the bench was about to do next fails now, and nobody need read how.
    process.on("uncaughtException", () => {});
    interrupt.abort(new Interrupted(`ended by ${name}`));
  });
}

for (const name of positionals.length > 0 ? positionals : Object.keys(BENCHES)) {
  const { measures, settings = {}, run } = BENCHES[name] as Bench;
  console.error(`${name}: ${measures}`);
  const say = (what: string) => console.error(`${name}: ${what}`);
  const result = await onStage({ settings, scale, say, signal: interrupt.signal }, async (stage) => ({
    bench: name,
    ...(await conditions(stage.pool, scale)),
    rows: await run(stage),
  })).catch((error: unknown) => {
    if (!(error instanceof Interrupted)) throw error;
    say(error.message);
    process.exit(130);
  });
  table(result.rows);
  console.log(JSON.stringify(result));
  // Figures of less than the full work say little; those that are kept are compared for long.
  if (scale < 1) continue;
  mkdirSync(RESULTS, { recursive: true });
  writeFileSync(`${RESULTS}${name}.json`, `${JSON.stringify(result, null, 2)}\n`);
}
