import type pg from "pg";
import { describe, expect, onTestFinished, test } from "vitest";
import { type Row, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { enqueue, insert, message, row, rows, session, value } = outbox;

const TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OTHER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/** A session in a transaction that says which trace it is a part of. */
async function traced(traceparent: string): Promise<pg.Client> {
  const client = await session();
  await client.query("begin");
  await client.query("select set_config('outbox.traceparent', $1, true)", [traceparent]);
  return client;
}

const traceOf = async (id: number, on: pg.Client): Promise<string | null> =>
  await value("select traceparent from outbox.messages where id = $1", [id], on);

const batch = async (messages: readonly Row[], on: pg.Client): Promise<number[]> => {
  const given = messages.map((columns) => ({ recipient: "+905551234567", content: "hi", ...columns }));
  return (await rows("select id from outbox.enqueue_batch($1)", [JSON.stringify(given)], on)).map(
    ({ id }) => id,
  );
};

/** Each way in, with columns of its own or none. */
const WAYS: Readonly<Record<string, (on: pg.Client, columns?: Row) => Promise<number>>> = {
  INSERT: (on, columns) => insert(columns, on),
  "enqueue()": (on, columns) => enqueue(columns, on),
  "enqueue_batch()": async (on, columns = {}) => (await batch([columns], on))[0] as number,
  "enqueue_once()": async (on, columns = {}) =>
    await value(
      "select id from outbox.enqueue_once(gen_random_uuid()::text, $1, 'test')",
      [JSON.stringify({ recipient: "+905551234567", content: "hi", ...columns })],
      on,
    ),
};

describe.each(Object.entries(WAYS))("%s", (_name, put) => {
  test("takes the trace from the setting of the transaction", async () => {
    const client = await traced(TRACE);
    const id = await put(client);
    await client.query("commit");
    expect(await traceOf(id, client)).toBe(TRACE);
    // The setting went with the transaction: a connection of a pool does not carry one request's trace into the next.
    expect(await traceOf(await put(client), client)).toBeNull();
  });

  test("takes the message's own before that", async () => {
    const client = await traced(TRACE);
    expect(await traceOf(await put(client, { traceparent: OTHER }), client)).toBe(OTHER);
  });

  test("ignores a setting that is no traceparent", async () => {
    for (const nonsense of [
      "",
      "nonsense",
      "00-0-0-01",
      TRACE.toUpperCase(),
      ` ${TRACE}`,
      `${TRACE}\n`,
      `${TRACE}-more`,
      TRACE.replace("4bf92f", "4bf-2f"),
      TRACE.replace("4bf92f", "4bfg2f"),
      "x".repeat(1_000_000),
    ]) {
      const client = await traced(nonsense);
      expect(await traceOf(await put(client), client)).toBeNull();
      await client.query("rollback");
    }
  });
});

test("a message of a batch that says null has none", async () => {
  const client = await traced(TRACE);
  const [first = 0, second = 0] = await batch([{ traceparent: null }, {}], client);
  expect(await traceOf(first, client)).toBeNull();
  expect(await traceOf(second, client)).toBe(TRACE);
});

test("a multi-row INSERT and a COPY take it for each row", async () => {
  const client = await traced(TRACE);
  await client.query(`
    insert into outbox.messages (recipient, content) select '+905551234567', 'a' from generate_series(1, 3);
    copy outbox.messages (recipient, content) from program $$printf '+905551234567\tb\n+905551234568\tc\n'$$`);
  expect(await rows("select traceparent, count(*)::int from outbox.messages group by 1", [], client)).toEqual(
    [{ traceparent: TRACE, count: 5 }],
  );
});

test("a producer's INSERT needs no right but his own", async () => {
  const { client } = await outbox.login("outbox_producer");
  await client.query("begin");
  await client.query("select set_config('outbox.traceparent', $1, true)", [TRACE]);
  await client.query("insert into outbox.messages (recipient, content) values ('+905551234567', 'mine')");
  await client.query("commit");
  expect(await row("select content, traceparent from outbox.messages")).toEqual({
    content: "mine",
    traceparent: TRACE,
  });
});

test("nor does that of a user with grants of his own making", async () => {
  const { name, client } = await outbox.login("nobody");
  await outbox.pool.query(
    `grant usage on schema outbox to ${name}; grant insert on outbox.messages to ${name}`,
  );
  onTestFinished(() => outbox.pool.query(`revoke insert on outbox.messages from ${name}`).then(() => {}));
  await client.query(`set outbox.traceparent = '${TRACE}'`);
  await client.query("insert into outbox.messages (recipient, content) values ('+905551234567', 'mine')");
  expect(await value("select traceparent from outbox.messages")).toBe(TRACE);
});

test("a replay keeps what the message has, or that it has none", async () => {
  const { id: relayer } = await outbox.register();
  for (const traceparent of [OTHER, null]) {
    const id = await insert({ traceparent });
    await outbox.claim(relayer);
    await outbox.settle(relayer, [{ id, outcome: "rejected", error: "HTTP 400" }]);
    const client = await traced(TRACE);
    await client.query("select outbox.replay($1)", [id]);
    await client.query("commit");
    expect(await message(id)).toMatchObject({ traceparent });
    await outbox.pool.query("delete from outbox.messages");
  }
});
