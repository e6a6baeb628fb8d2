import { migrate } from "../../src/db/migrate.ts";
import { createOutbox, type Outbox, type Position, type Result } from "../../src/db/outbox.ts";
import { createPool } from "../../src/db/pool.ts";
import type { Bench } from "../support/bench.ts";
import { inTurn } from "../support/in-turn.ts";
import { median } from "../support/median.ts";
import type { Stage } from "../support/stage.ts";

const ROWS = [10_000, 1_000_000, 10_000_000];
const BATCH = 500;
/** In each round so many messages are claimed and settled. */
const CLAIMED = 1_000;
const ROUNDS = 12;

interface Backlog {
  readonly rows: number;
  readonly outbox: Outbox;
  readonly relayer: number;
  position: Position | undefined;
  readonly claimPerSecond: number[];
  readonly settlePerSecond: number[];
  readonly nextDueMs: number[];
}

/** The SQL alone, as the relayer calls it, over one connection: what waits elsewhere, and for later, must cost nothing. */
export const backlog: Bench = {
  measures:
    "claims with 10 thousand to 10 million rows waiting, half for tomorrow and a third for another gateway",
  async run(stage) {
    const backlogs: Backlog[] = [];
    for (const [n, rows] of ROWS.entries())
      backlogs.push(await fill(stage, `backlog_${n}`, stage.size(rows)));
    for (let round = 0; round <= ROUNDS; round++) {
      if (round > 0) stage.say(`round ${round} of ${ROUNDS}`);
      // The first warms up.
      for (const one of inTurn(backlogs, round)) await measure(one, round > 0);
    }
    const claims = backlogs.map(({ claimPerSecond }) => median(claimPerSecond));
    return backlogs.map((one, n) => ({
      case: `${one.rows} rows`,
      claimed_per_second: claims[n] as number,
      ratio_to_least: (claims[n] as number) / (claims[0] as number),
      settled_per_second: median(one.settlePerSecond),
      next_due_ms: median(one.nextDueMs),
    }));
  },
};

async function fill(stage: Stage, name: string, rows: number): Promise<Backlog> {
  stage.say(`${rows} rows`);
  const connectionString = await stage.otherDatabase(name);
  await migrate({ connectionString, log: () => {} });
  const pool = createPool({ connectionString, max: 1, applicationName: "bench", log: stage.say });
  stage.atEnd(() => pool.end());
  const enough = (ROUNDS + 1) * CLAIMED;
  await pool.query("insert into outbox.gateways (name) values ('other')");
  // What is claimed here is due, and of this gateway: a sixth of all, or as much as the rounds need.
  await pool.query(
    `insert into outbox.messages (recipient, content, gateway, available_at)
     select
       '+90555' || lpad((n % 10000000)::text, 7, '0'),
       'Your code is ' || n,
       case when n % 3 = 0 and n > $2 then 'other' else 'default' end,
       case when n % 2 = 0 and n > $2 then now() + interval '1 day' else now() end
     from generate_series(1, greatest($1::int, $2::int)) as n`,
    [rows, enough],
  );
  await pool.query("vacuum analyze outbox.messages");
  await pool.query("checkpoint");
  const registered = await pool.query<{ relayer: number }>(
    "select outbox.register_relayer('bench', '0') as relayer",
  );
  return {
    rows: Math.max(rows, enough),
    outbox: createOutbox(pool),
    relayer: registered.rows[0]?.relayer as number,
    position: undefined,
    claimPerSecond: [],
    settlePerSecond: [],
    nextDueMs: [],
  };
}

async function measure(one: Backlog, counts: boolean): Promise<void> {
  const { outbox, relayer } = one;
  let claimMs = 0;
  let settleMs = 0;
  for (let claimed = 0; claimed < CLAIMED; claimed += BATCH) {
    let start = performance.now();
    const { claims, lasts } = await outbox.claim(relayer, "default", BATCH, one.position);
    claimMs += performance.now() - start;
    if (claims.length !== BATCH) throw new Error(`claimed ${claims.length} of ${BATCH}`);
    one.position = [0, 1, 2].map((priority) => lasts[priority] ?? one.position?.[priority]);
    const results = claims.map(
      (claim): Result => ({
        claim,
        moot: false,
        outcome: {
          kind: "accepted",
          httpStatus: 202,
          gatewayMessageId: `bench-${claim.id}`,
          error: null,
          durationMs: 1,
          retryAfterMs: null,
        },
      }),
    );
    start = performance.now();
    await outbox.settle(relayer, results);
    settleMs += performance.now() - start;
  }
  const start = performance.now();
  await outbox.nextDue("default");
  const nextDueMs = performance.now() - start;
  if (!counts) return;
  one.claimPerSecond.push((CLAIMED / claimMs) * 1_000);
  one.settlePerSecond.push((CLAIMED / settleMs) * 1_000);
  one.nextDueMs.push(nextDueMs);
}
