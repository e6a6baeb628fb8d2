import type { Bench } from "../support/bench.ts";
import type { Gateway } from "../support/gateway.ts";
import { inTurn } from "../support/in-turn.ts";
import { median } from "../support/median.ts";
import { insertAndRelay, insertMessages, relayPaused } from "../support/messages.ts";
import type { Stage } from "../support/stage.ts";

const MESSAGES = 100_000;
/** For each relayer. */
const WARM_UP = 25_000;
const COUNTS = [1, 2, 4];
const ROUNDS = 3;

/** What so many relayers did together. */
interface Round {
  readonly perSecond: number;
  /** POSTs for each message: 1, or something is wrong. */
  readonly posts: number;
  /** Messages that were claimed more than once, or are not in sent. */
  readonly astray: number;
  /** The smallest share of one relayer. */
  readonly leastShare: number;
}

export const relayers: Bench = {
  measures: "1, 2 and 4 relayers on one database: messages a second of all together, each message once",
  async run(stage) {
    const gateway = await stage.gateway();
    const rounds = new Map(COUNTS.map((count) => [count, [] as Round[]]));
    await stage.pool.query("select outbox.pause()");
    for (const round of stage.rounds(ROUNDS)) {
      for (const [count, done] of inTurn([...rounds], round)) {
        stage.say(`round ${round} of ${ROUNDS}: ${count} relayers`);
        done.push(await measure(stage, gateway, count, stage.size(MESSAGES)));
      }
    }
    const best = Math.max(
      ...[...rounds.values()].map((done) => median(done.map(({ perSecond }) => perSecond))),
    );
    return [...rounds].map(([count, done]) => {
      const per_second = median(done.map(({ perSecond }) => perSecond));
      return {
        case: count === 1 ? "1 relayer" : `${count} relayers`,
        per_second,
        ratio_to_best: per_second / best,
        posts_per_message: Math.max(...done.map(({ posts }) => posts)),
        astray: Math.max(...done.map(({ astray }) => astray)),
        least_share: Math.min(...done.map(({ leastShare }) => leastShare)),
      };
    });
  },
};

async function measure(stage: Stage, gateway: Gateway, count: number, messages: number): Promise<Round> {
  const { pool } = stage;
  const started = await Promise.all(
    Array.from({ length: count }, () => stage.relayer({ webhookUrl: gateway.url })),
  );
  // Each is new, and has its code to compile.
  await insertAndRelay(pool, count * stage.size(WARM_UP));
  await insertMessages(pool, messages);
  const before = await gateway.received();
  const { rows } = await pool.query<{ first: string }>("select min(id) as first from outbox.messages");
  const perSecond = await relayPaused(pool, messages);
  await pool.query("select outbox.pause()");
  const after = await gateway.received();
  const told = await pool.query<{ sent: number; once: number; least: number }>(
    `select sum(sent)::int as sent, sum(once)::int as once, min(sent)::int as least
     from (
       select count(*) as sent, count(*) filter (where attempts = 1) as once
       from outbox.sent
       where id >= $1
       group by claimed_by
     ) as relayer`,
    [rows[0]?.first],
  );
  await Promise.all(started.map((relayer) => relayer.stop()));
  const { sent = 0, once = 0, least = 0 } = told.rows[0] ?? {};
  return {
    perSecond,
    posts: (after - before) / messages,
    astray: messages - Math.min(sent, once),
    leastShare: least / messages,
  };
}
