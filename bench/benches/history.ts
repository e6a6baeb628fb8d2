import { Pool } from "pg";
import { migrate } from "../../src/db/migrate.ts";
import type { Bench } from "../support/bench.ts";
import type { Gateway, ScriptedGateway } from "../support/gateway.ts";
import { inTurn } from "../support/in-turn.ts";
import { median } from "../support/median.ts";
import { insertMessages, relayPaused } from "../support/messages.ts";
import { insertInTurn, observe } from "../support/observed.ts";
import { percentile } from "../support/percentile.ts";
import { startRelayer } from "../support/relayer.ts";
import type { Stage } from "../support/stage.ts";

const ROWS = [0, 1_000_000, 10_000_000];
const DAYS = 5;
const MESSAGES = 100_000;
/** In each round, for each history. */
const ONE_AT_A_TIME = 70;
const REQUESTS = 200;
const LEAST_REQUESTS = 20;
const ROUNDS = 3;
/** The largest page, and how many of them down a deep one is. */
const LIMIT = 200;
const PAGES = 500;

interface History {
  readonly name: string;
  readonly pool: Pool;
  /** GET /api/v1/messages/sent */
  readonly list: string;
  /** Notes when messages of `observed`, a second gateway of this database, arrive. */
  readonly watching: ScriptedGateway;
  deep: Deep;
  readonly perSecond: number[];
  readonly idleP50Ms: number[];
  readonly first: Pages;
  readonly deepPages: Pages;
}

interface Deep {
  readonly rows: number;
  readonly url: string;
}

/** Of each round. */
interface Pages {
  readonly p50Ms: number[];
  readonly p99Ms: number[];
}

/** What was sent is kept for months: it must cost neither those who send nor those who look. */
export const history: Bench = {
  measures: "throughput, idle latency and pages of what was sent, with up to 10,000,000 rows in outbox.sent",
  settings: { max_connections: "200" },
  async run(stage) {
    const gateway = await stage.gateway();
    const histories: History[] = [];
    for (const [n, rows] of ROWS.entries())
      histories.push(await fill(stage, gateway, `history_${n}`, rows === 0 ? 0 : stage.size(rows)));

    const messages = stage.size(MESSAGES);
    for (const one of histories) await relay(one, Math.ceil(messages / 4)); // warms up
    for (const round of stage.rounds(ROUNDS)) {
      stage.say(`round ${round} of ${ROUNDS}`);
      const turns = inTurn(histories, round);
      for (const one of turns) one.perSecond.push(await relay(one, messages));
      await oneAtATime(histories, Math.max(5, stage.size(ONE_AT_A_TIME)));
      for (const one of turns) {
        if (round === 1) one.deep = await goDown(one.list, stage.size(PAGES));
        await turnPages(one, Math.max(LEAST_REQUESTS, stage.size(REQUESTS)));
      }
    }

    const [none] = histories as [History];
    return histories.map((one) => ({
      case: one.name,
      per_second: median(one.perSecond),
      throughput_ratio: median(one.perSecond) / median(none.perSecond),
      idle_p50_ms: median(one.idleP50Ms),
      first_page_p50_ms: median(one.first.p50Ms),
      first_page_p99_ms: median(one.first.p99Ms),
      deep_page_p50_ms: median(one.deepPages.p50Ms),
      deep_page_p99_ms: median(one.deepPages.p99Ms),
      deep_page_rows: one.deep.rows,
    }));
  },
};

async function fill(stage: Stage, gateway: Gateway, name: string, rows: number): Promise<History> {
  stage.say(`${rows} rows`);
  const connectionString = await stage.otherDatabase(name);
  await migrate({ connectionString, log: () => {} });
  const pool = new Pool({ connectionString, max: 2 });
  stage.atEnd(() => pool.end());
  await pool.query("select outbox.make_partitions('sent', 'sent_at', now() - make_interval(days => $1))", [
    DAYS,
  ]);
  await pool.query(
    `insert into outbox.sent (
       id, gateway, priority, recipient, content, metadata, available_at, attempts, claimed_by, claimed_at, created_at,
       sent_at, gateway_message_id, duration_ms
     )
     select
       n, 'default', 1, '+90555' || lpad((n % 10000000)::text, 7, '0'), 'Your code is ' || n, '{}', at, 1, 1, at, at,
       at, md5(n::text)::uuid::text, 40
     from generate_series(1, $1::int) as n
     cross join lateral (select now() - ($1 - n) * make_interval(days => $2) / $1::int) as moment (at)`,
    [rows, DAYS],
  );
  // The messages to come go on where it ends.
  await pool.query("select setval('outbox.messages_id_seq', $1::bigint + 1)", [rows]);
  await pool.query("vacuum (freeze, analyze) outbox.sent");
  await pool.query("checkpoint");

  const watching = await stage.scriptedGateway();
  await pool.query("insert into outbox.gateways (name, url) values ('observed', $1)", [watching.url]);
  const relayer = await startRelayer({ databaseUrl: connectionString, webhookUrl: gateway.url });
  stage.atEnd(() => relayer.stop());
  const list = `${relayer.api}/messages/sent`;
  return {
    name: `${rows} rows`,
    pool,
    list,
    watching,
    deep: { rows: 0, url: list },
    perSecond: [],
    idleP50Ms: [],
    first: { p50Ms: [], p99Ms: [] },
    deepPages: { p50Ms: [], p99Ms: [] },
  };
}

async function relay({ pool }: History, messages: number): Promise<number> {
  await pool.query("select outbox.pause()");
  await insertMessages(pool, messages);
  return await relayPaused(pool, messages);
}

async function oneAtATime(histories: readonly History[], count: number): Promise<void> {
  const observed = await Promise.all(
    histories.map(({ name, watching, pool }) =>
      observe({ name, gateway: watching, insert: () => insertObserved(pool) }),
    ),
  );
  await insertInTurn(observed, count, [20, 120]);
  for (const [n, { latencies }] of observed.entries())
    histories[n]?.idleP50Ms.push(percentile(await latencies(), 0.5));
}

async function insertObserved(pool: Pool): Promise<number> {
  const { rows } = await pool.query<{ id: string }>({
    name: "insert",
    text: "insert into outbox.messages (gateway, recipient, content) values ('observed', '+905551234567', 'Your code is 123456') returning id",
  });
  return Number(rows[0]?.id);
}

/** From page to page, as clients do, so many times or as far as the history goes. */
async function goDown(list: string, pages: number): Promise<Deep> {
  let deep: Deep = { rows: 0, url: list };
  for (let page = 1; page <= pages; page++) {
    const { next_cursor } = await get(`${deep.url}${deep.url === list ? "?" : "&"}limit=${LIMIT}`);
    if (next_cursor === null) break;
    deep = { rows: page * LIMIT, url: `${list}?cursor=${next_cursor}` };
  }
  return deep;
}

async function turnPages(one: History, requests: number): Promise<void> {
  const took = { first: [] as number[], deep: [] as number[] };
  for (let request = 0; request < requests; request++) {
    took.first.push(await timed(() => get(one.list)));
    took.deep.push(await timed(() => get(one.deep.url)));
  }
  note(one.first, took.first);
  note(one.deepPages, took.deep);
}

function note(pages: Pages, took: readonly number[]): void {
  pages.p50Ms.push(percentile(took, 0.5));
  pages.p99Ms.push(percentile(took, 0.99));
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

async function get(url: string): Promise<{ readonly next_cursor: string | null }> {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: HTTP ${answer.status}`);
  return (await answer.json()) as { next_cursor: string | null };
}
