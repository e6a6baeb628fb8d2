import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Book, createBook } from "./book.ts";
import { createCleanup } from "./cleanup.ts";
import { type Facts, readFacts } from "./facts.ts";
import { createFaultLog, type FaultLog } from "./fault-log.ts";
import { runFaults } from "./faults.ts";
import { checkInvariants } from "./invariants/all.ts";
import type { Violation } from "./invariants/violation.ts";
import { queryUntilAnswered } from "./persistent-query.ts";
import { POSTGRES_FAULTS } from "./postgres-faults.ts";
import { PRODUCER_NAME, produce } from "./producer.ts";
import { RELAYER_FAULTS } from "./relayer-faults.ts";
import { createSeed, type Seed } from "./seed.ts";
import { startWorld, type World } from "./world.ts";
import { WORLD_FAULTS } from "./world-faults.ts";

export interface ChaosOptions {
  /** Every choice comes from it. */
  readonly seed: string;
  /** How long faults are made and messages inserted; what follows takes a few more. */
  readonly seconds: number;
  /** Messages inserted a second. */
  readonly rate: number;
  /** At least two. */
  readonly relayers: number;
  /** Keep what the relayers said also when every invariant holds. */
  readonly keepLogs?: boolean;
  readonly say: (line: string) => void;
}

export interface ChaosResult {
  readonly facts: Facts;
  readonly violations: readonly Violation[];
  /** Where the relayers' logs are, when they are kept. */
  readonly logFolder: string | undefined;
}

const PRODUCERS = 4;
const LAST_MESSAGE_MS = 60_000;

/** Starts everything, breaks it for a while, lets it recover, and looks at what came of it. */
export async function runChaos(options: ChaosOptions): Promise<ChaosResult> {
  const { relayers, say } = options;
  const seed = createSeed(options.seed);
  const cleanup = createCleanup();
  const folder = mkdtempSync(join(tmpdir(), "outbox-chaos-"));
  const logFolder = join(folder, "relayers");
  mkdirSync(logFolder);
  let keepLogs = options.keepLogs ?? false;
  cleanup.add(() => {
    const rubbish = keepLogs ? join(folder, "postgres") : folder;
    rmSync(rubbish, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
  });
  try {
    const world = await startWorld({ relayers, seed, folder, logFolder, cleanup });
    const book = createBook();
    const faults = createFaultLog();
    await breakThings(world, book, faults, seed, options);
    say("mending");
    const facts = await mend(world, book, faults);
    const violations = checkInvariants(facts);
    keepLogs ||= violations.length > 0;
    return { facts, violations, logFolder: keepLogs ? logFolder : undefined };
  } catch (error) {
    keepLogs = true;
    say(`what the relayers said is in ${logFolder}`);
    throw error;
  } finally {
    cleanup.run();
  }
}

/** Messages are inserted and faults are made and undone, until the time is over. */
async function breakThings(
  world: World,
  book: Book,
  log: FaultLog,
  seed: Seed,
  { seconds, rate, say }: ChaosOptions,
): Promise<void> {
  const over = new AbortController();
  const timer = setTimeout(() => over.abort(), seconds * 1_000);
  const { signal } = over;
  const { url } = world.postgres;
  const keys: string[] = [];
  const producer = (nth: number) =>
    produce({ url, nth, rate: rate / PRODUCERS, keys, book, seed: seed.fork(`producer ${nth}`), signal });
  const lane = (name: string) => ({ world, log, seed: seed.fork(name), signal, say });
  try {
    await Promise.all([
      ...Array.from({ length: PRODUCERS }, (_, i) => producer(i + 1)),
      runFaults({ ...lane("relayers"), faults: RELAYER_FAULTS, pauseMs: [500, 3_000] }),
      runFaults({ ...lane("more relayers"), faults: RELAYER_FAULTS, pauseMs: [3_000, 8_000] }),
      runFaults({ ...lane("postgres"), faults: POSTGRES_FAULTS, pauseMs: [4_000, 9_000] }),
      runFaults({ ...lane("world"), faults: WORLD_FAULTS, pauseMs: [1_500, 5_000] }),
    ]);
  } finally {
    clearTimeout(timer);
    over.abort();
  }
}

/** With a healthy gateway and nothing paused, everything is sent that can be; then everybody is told to go. */
async function mend(world: World, book: Book, faults: FaultLog): Promise<Facts> {
  const { cluster, gateway, pauses, postgres, recovery, shutdowns } = world;
  const { url } = postgres;
  const heldForMs = await heldFor(url);
  gateway.setMood("healthy");
  await queryUntilAnswered(url, "select outbox.resume(), outbox.resume('default')");
  await emptied(url);
  await recovery.done();
  await Promise.all(cluster.berths.map(({ process }) => shutdowns.terminate(process)));
  await gateway.close();
  return readFacts(url, {
    book,
    posts: gateway.posts,
    pauses: pauses.pauses,
    faults,
    recoveries: recovery.recoveries,
    shutdowns: shutdowns.all,
    processes: cluster.processes,
    heldForMs,
  });
}

async function heldFor(url: string): Promise<number> {
  const [gateway] = await queryUntilAnswered<{ held: number | null }>(
    url,
    "select extract(epoch from held_until - clock_timestamp())::float8 * 1000 as held from outbox.gateways where name = 'default'",
  );
  return gateway?.held ?? 0;
}

/** Nothing is left to be sent, nor to be inserted by a session that has not yet noticed that its producer is gone. */
async function emptied(url: string): Promise<void> {
  const giveUpAt = performance.now() + LAST_MESSAGE_MS;
  while (performance.now() < giveUpAt) {
    const [left] = await queryUntilAnswered<{ left: boolean }>(
      url,
      `select exists (select from outbox.messages)
           or exists (select from pg_stat_activity where application_name = $1) as left`,
      [PRODUCER_NAME],
    );
    if (left?.left === false) return;
    await delay(100);
  }
}
