import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { migrate } from "../../src/db/migrate.ts";
import { createBook } from "./book.ts";
import { type Cleanup, createCleanup } from "./cleanup.ts";
import { startCluster } from "./cluster.ts";
import { type Facts, readFacts } from "./facts.ts";
import { createFaultLog } from "./fault-log.ts";
import { runFaults, type World } from "./faults.ts";
import { startLedgerGateway } from "./gateway-ledger.ts";
import { checkInvariants } from "./invariants/all.ts";
import type { Violation } from "./invariants/violation.ts";
import { createPauseLog } from "./pauses.ts";
import { queryOnce, queryUntilAnswered } from "./persistent-query.ts";
import { POSTGRES_FAULTS } from "./postgres-faults.ts";
import { startChaosPostgres } from "./private-postgres.ts";
import { PRODUCER_NAME, produce } from "./producer.ts";
import { createRecoveryWatch } from "./recovery-watch.ts";
import { startChaosRedis } from "./redis-switch.ts";
import { DEAD_AFTER_MS, RELAYER_FAULTS } from "./relayer-faults.ts";
import { createSeed } from "./seed.ts";
import { createShutdowns, GRACE_MS } from "./shutdowns.ts";
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
    const facts = await breakAndMend(options, folder, logFolder, cleanup);
    const violations = checkInvariants(facts);
    keepLogs ||= violations.length > 0;
    return { facts, violations, logFolder: keepLogs ? logFolder : undefined };
  } finally {
    cleanup.run();
  }
}

async function breakAndMend(
  { seed: seedName, seconds, rate, relayers, say }: ChaosOptions,
  folder: string,
  logFolder: string,
  cleanup: Cleanup,
): Promise<Facts> {
  const seed = createSeed(seedName);
  const postgres = await startChaosPostgres(folder, cleanup);
  const { url } = postgres;
  await migrate({ connectionString: url, log: () => {} });
  await queryOnce(
    url,
    "update outbox.gateways set circuit_pause = '200 milliseconds', circuit_max_pause = '1 second'",
  );
  const redis = await startChaosRedis(cleanup);
  const gateway = await startLedgerGateway(seed.fork("gateway"));
  cleanup.add(() => void gateway.close());
  const env = {
    DATABASE_URL: url,
    WEBHOOK_URL: gateway.url,
    WEBHOOK_TIMEOUT: "1s",
    WEBHOOK_HOLD_FOR: "1s",
    // So few that messages have to wait, in the outbox and in a relayer.
    RELAY_CONCURRENCY: "16",
    RELAY_DEAD_AFTER: `${DEAD_AFTER_MS}ms`,
    RETRY_BASE_DELAY: "50ms",
    RETRY_MAX_DELAY: "500ms",
    RETRY_MAX_ATTEMPTS: "50",
    SHUTDOWN_GRACE: `${GRACE_MS}ms`,
    ...(redis && { REDIS_URL: redis.url }),
  };
  const cluster = startCluster({ relayers, env, logFolder, seed: seed.fork("clocks"), cleanup });
  await Promise.all(cluster.berths.map(({ process }) => process.ready()));

  const world: World = {
    cluster,
    postgres,
    gateway,
    redis,
    recovery: createRecoveryWatch(url),
    pauses: createPauseLog(url),
    shutdowns: createShutdowns(),
  };
  const faults = createFaultLog();
  const book = createBook();
  const over = new AbortController();
  const timer = setTimeout(() => over.abort(), seconds * 1_000);
  const { signal } = over;
  const keys: string[] = [];
  const lane = (name: string) => ({ world, log: faults, seed: seed.fork(name), signal, say });
  await Promise.all([
    ...Array.from({ length: PRODUCERS }, (_, i) =>
      produce({
        url,
        nth: i + 1,
        rate: rate / PRODUCERS,
        keys,
        book,
        seed: seed.fork(`producer ${i}`),
        signal,
      }),
    ),
    runFaults({ ...lane("relayers"), faults: RELAYER_FAULTS, pauseMs: [500, 3_000] }),
    runFaults({ ...lane("more relayers"), faults: RELAYER_FAULTS, pauseMs: [3_000, 8_000] }),
    runFaults({ ...lane("postgres"), faults: POSTGRES_FAULTS, pauseMs: [4_000, 9_000] }),
    runFaults({ ...lane("world"), faults: WORLD_FAULTS, pauseMs: [1_500, 5_000] }),
  ]).finally(() => {
    clearTimeout(timer);
    over.abort();
  });

  say("mending");
  gateway.setMood("healthy");
  await queryUntilAnswered(url, "select outbox.resume(), outbox.resume('default')");
  await emptied(url);
  await world.recovery.done();
  await Promise.all(cluster.berths.map(({ process }) => world.shutdowns.terminate(process)));
  await gateway.close();
  const { recoveries } = world.recovery;
  return readFacts(url, {
    book,
    posts: gateway.posts,
    pauses: world.pauses.pauses,
    faults,
    recoveries,
    shutdowns: world.shutdowns.all,
    processes: cluster.processes,
  });
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
