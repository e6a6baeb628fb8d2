import { setTimeout as pause } from "node:timers/promises";
import { Client } from "pg";
import { createPost } from "../peers/post.ts";
import type { Bench, Row } from "../support/bench.ts";
import { now } from "../support/clock.ts";
import { median } from "../support/median.ts";
import { percentile } from "../support/percentile.ts";
import { startReader } from "../support/reader.ts";
import { allSent } from "../support/sent.ts";
import { INSERT as INTO_QUEUE, QUEUE, workOff } from "../support/skip-locked.ts";
import type { Stage } from "../support/stage.ts";
import { produceSteadily } from "../support/steady.ts";

const ROWS = 1_000_000;
const READS_PER_SECOND = 400;
const PER_SECOND = 2_000;
const ROUNDS = 4;
const ROUND_MS = 15_000;
const OLD_SNAPSHOT_MS = 5 * 60_000;
const WARM_UP_MS = 5_000;
/** What was sent last is to be settled before the next round begins. */
const REST_MS = 200;
const INTO_OUTBOX =
  "insert into outbox.messages (recipient, content) select '+905551234567', 'Your code is ' || n from generate_series(1, $1::int) as n";

/** What was read while one thing went on, for how long, and how many messages were sent meanwhile. */
interface Observed {
  readonly reads: readonly number[];
  readonly ms: number;
  readonly sent: number;
}

/**
 * The application's own queries are what the outbox shares a database with. Compared with the median of the rounds without
 * relaying, which take turns with the others.
 */
export const bystander: Bench = {
  measures: "reads of another table by its primary key, beside 2,000 messages a second, and an old snapshot",
  async run(stage) {
    const { pool } = stage;
    const read = await reading(stage);
    const gateway = await stage.gateway();
    await stage.relayer({ webhookUrl: gateway.url });
    const producer = await session(stage);
    const report = await session(stage);

    async function observe(ms: number): Promise<Observed> {
      const before = await gateway.received();
      const start = now();
      const reads = await read(ms);
      return { reads, ms: now() - start, sent: (await gateway.received()) - before };
    }

    async function relaying(ms: number): Promise<Parts> {
      const end = produceSteadily(producer, INTO_OUTBOX, PER_SECOND);
      const observed = await inParts(observe, ms).finally(end);
      await allSent(pool);
      await pause(REST_MS);
      return observed;
    }

    async function queueing(ms: number): Promise<Parts> {
      await pool.query(QUEUE);
      const worker = await session(stage);
      const endProducing = produceSteadily(producer, INTO_QUEUE, PER_SECOND);
      const endWorking = workOff(worker, createPost(gateway.url, 64));
      const observed = await inParts(observe, ms).finally(endProducing);
      await endWorking();
      return observed;
    }

    async function besideOldSnapshot(go: (ms: number) => Promise<Parts>): Promise<Parts> {
      await report.query("begin isolation level repeatable read");
      await report.query("select from accounts limit 1");
      const observed = await go(stage.milliseconds(OLD_SNAPSHOT_MS));
      await report.query("rollback");
      return observed;
    }

    stage.say("warm-up");
    await relaying(stage.milliseconds(WARM_UP_MS));
    const without: Observed[] = [];
    const beside: Observed[] = [];
    for (const round of stage.rounds(ROUNDS)) {
      stage.say(`round ${round} of ${ROUNDS}`);
      without.push(await observe(stage.milliseconds(ROUND_MS)));
      beside.push((await relaying(stage.milliseconds(ROUND_MS))).whole);
    }
    stage.say("relaying beside an old snapshot");
    const old = await besideOldSnapshot(relaying);
    stage.say("nothing again");
    const after = await observe(stage.milliseconds(ROUND_MS));
    stage.say("a queue that is one table, beside an old snapshot");
    const queue = await besideOldSnapshot(queueing);

    const baseline = { p50: middle(without, 0.5), p99: middle(without, 0.99) };
    const row = (name: string, observed: readonly Observed[]): Row => ({
      case: name,
      reads: observed.reduce((sum, { reads }) => sum + reads.length, 0),
      p50_ms: middle(observed, 0.5),
      p99_ms: middle(observed, 0.99),
      ratio_p50: middle(observed, 0.5) / baseline.p50,
      ratio_p99: middle(observed, 0.99) / baseline.p99,
      sent_per_second: median(observed.map(({ sent, ms }) => (sent / ms) * 1_000)),
    });
    return [
      row("no relaying", without),
      row("relaying", beside),
      row("relaying, old snapshot", [old.whole]),
      row("relaying, old snapshot, last fifth", [old.lastFifth]),
      row("no relaying, afterwards", [after]),
      row("SKIP LOCKED queue, old snapshot", [queue.whole]),
      row("SKIP LOCKED queue, old snapshot, last fifth", [queue.lastFifth]),
    ];
  },
};

/** A table that has nothing to do with messages, and a client of it. */
async function reading(stage: Stage): Promise<(ms: number) => Promise<readonly number[]>> {
  const rows = stage.size(ROWS);
  await stage.pool.query(
    "create table accounts (id bigint primary key, name text not null, balance numeric not null, opened_at timestamptz not null)",
  );
  await stage.pool.query(
    "insert into accounts select n, 'Account ' || n, n % 10000, now() - n * interval '1 minute' from generate_series(1, $1::int) as n",
    [rows],
  );
  await stage.pool.query("vacuum (freeze, analyze) accounts");
  await stage.pool.query("checkpoint");
  const reader = await startReader(
    stage.databaseUrl,
    "select id, name, balance, opened_at from accounts where id = $1",
    rows,
    READS_PER_SECOND,
  );
  stage.atEnd(() => reader.stop());
  return reader.read;
}

async function session(stage: Stage): Promise<Client> {
  const client = new Client({ connectionString: stage.databaseUrl });
  await client.connect();
  stage.atEnd(() => client.end());
  return client;
}

/** A percentile of each round's reads, and of these the median. */
function middle(rounds: readonly Observed[], share: number): number {
  return median(rounds.map(({ reads }) => percentile(reads, share)));
}

interface Parts {
  readonly whole: Observed;
  readonly lastFifth: Observed;
}

async function inParts(observe: (ms: number) => Promise<Observed>, ms: number): Promise<Parts> {
  const first = await observe(ms * 0.8);
  const lastFifth = await observe(ms * 0.2);
  const whole = {
    reads: [...first.reads, ...lastFifth.reads],
    ms: first.ms + lastFifth.ms,
    sent: first.sent + lastFifth.sent,
  };
  return { whole, lastFifth };
}
