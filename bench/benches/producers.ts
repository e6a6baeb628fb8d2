import type { Bench, Row } from "../support/bench.ts";
import { median } from "../support/median.ts";
import type { Stage } from "../support/stage.ts";

const CLIENTS = [1, 16, 64];
const ROUNDS = 5;
const ROUND_MS = 2_000;
/** What the busy relayer relays meanwhile, whichever table is inserted into. */
const BUSY_PER_SECOND = 2_000;

/** The same columns, constraints and indexes: alone, and with the trigger that any queue of this kind has. */
const TABLES_TO_COMPARE = `
  create schema compared;
  create table compared.bare (like outbox.messages including all);
  create table compared.notify (like outbox.messages including all);
  create function compared.notify() returns trigger language plpgsql as $$
  begin
    perform pg_notify('compared', '');
    return null;
  end
  $$;
  create trigger notify after insert on compared.notify for each statement execute function compared.notify();`;

const DUE_NOW = "insert into TABLE (recipient, content) values ('+905551234567', 'Your code is 123456')";
const DUE_TOMORROW =
  "insert into TABLE (recipient, content, available_at) values ('+905551234567', 'Your code is 123456', now() + interval '1 day')";

/** What is inserted stays where it is, so that a relayer does the same work whichever table is inserted into. */
interface Situation {
  readonly relayer: string;
  readonly insert: string;
  begin(stage: Stage): Promise<unknown>;
}

const SITUATIONS: readonly Situation[] = [
  {
    relayer: "idle, inserts due tomorrow",
    insert: DUE_TOMORROW,
    begin: async () => {},
  },
  {
    relayer: "busy, inserts due tomorrow",
    insert: DUE_TOMORROW,
    begin: (stage) =>
      stage.pool.query(
        "insert into outbox.messages (gateway, recipient, content) select 'busy', '+905551234567', 'Your code is ' || n from generate_series(1, $1::int) as n",
        [
          Math.ceil(
            (stage.milliseconds(ROUND_MS) / 1_000) * BUSY_PER_SECOND * ROUNDS * 3 * CLIENTS.length * 1.3,
          ),
        ],
      ),
  },
  {
    relayer: "idle, inserts for a paused gateway",
    insert: DUE_NOW,
    begin: (stage) => stage.pool.query("select outbox.pause('default')"),
  },
];

export const producers: Bench = {
  measures:
    "INSERTs per second, a commit each: outbox.messages beside a bare table and a plain NOTIFY trigger",
  async run(stage) {
    const gateway = await stage.gateway();
    await stage.pool.query(TABLES_TO_COMPARE);
    await stage.pool.query(
      "insert into outbox.gateways (name, url, rate_per_second) values ('busy', $1, $2)",
      [gateway.url, BUSY_PER_SECOND],
    );
    await stage.relayer({ webhookUrl: gateway.url });
    const rows: Row[] = [];
    for (const { relayer, insert, begin } of SITUATIONS) {
      await begin(stage);
      for (const clients of CLIENTS) {
        stage.say(`relayer ${relayer}, ${clients} clients`);
        const rates = await compare(stage, insert, clients);
        rows.push({
          case: `${clients} clients, relayer ${relayer}`,
          ...rates,
          ratio: rates.messages_per_second / rates.bare_per_second,
          notify_ratio: rates.notify_per_second / rates.bare_per_second,
        });
      }
    }
    return rows;
  },
};

async function compare(stage: Stage, insert: string, clients: number) {
  const sessions = await stage.sessions(clients);
  const tables = ["outbox.messages", "compared.bare", "compared.notify"];
  const rates = new Map(tables.map((table) => [table, [] as number[]]));
  for (const _ of stage.rounds(ROUNDS)) {
    for (const table of tables)
      rates
        .get(table)
        ?.push(await sessions.repeat(insert.replace("TABLE", table), stage.milliseconds(ROUND_MS)));
    tables.push(tables.shift() as string); // none is always first
  }
  await sessions.stop();
  const rate = (table: string) => median(rates.get(table) ?? []);
  return {
    messages_per_second: rate("outbox.messages"),
    bare_per_second: rate("compared.bare"),
    notify_per_second: rate("compared.notify"),
  };
}
