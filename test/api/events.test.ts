import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { startServer } from "../../src/api/server.ts";
import { type ApiKey, type Scope, sha256Of } from "../../src/config/api-keys.ts";
import { useOutbox } from "../sql/outbox-under-test.ts";
import { apiUnderTest, poolFor } from "./api-under-test.ts";
import { createSchemas } from "./contract/schemas.ts";
import { expectingDocumented, type OpenApiDocument } from "./documented-answers.ts";
import { type EventClient, type Heard, listen } from "./event-client.ts";

const outbox = useOutbox();
const { addGateway, claim, insert, insertMany, register, rows, settle } = outbox;

const key = (name: string, scopes: Scope[], expiresAt?: Date): ApiKey => ({
  name,
  scopes,
  sha256: sha256Of(`key-${name}`),
  expiresAt,
});
const as = (name: string) => ({ Authorization: `Bearer key-${name}` });

let pool: ReturnType<typeof poolFor>;
let url: string;
let document: OpenApiDocument;

beforeAll(() => {
  pool = poolFor(outbox.url);
});
afterAll(() => pool.end());

async function serve(overrides: Parameters<typeof apiUnderTest>[1] = {}) {
  const stopping = new AbortController();
  const api = apiUnderTest(pool, { stopping: stopping.signal, ...overrides });
  const server = await startServer({ app: api.app, host: "127.0.0.1", port: 0, graceMs: 10_000 });
  const stop = () => {
    stopping.abort();
    return server.stop();
  };
  onTestFinished(stop);
  return { ...api, url: `${server.url}/api/v1/events`, stop };
}

beforeEach(async () => {
  const api = await serve();
  url = api.url;
  document ??= (await (await api.app.request("/api/v1/openapi.json")).json()) as OpenApiDocument;
});

/** One that listens from now on. */
async function begin(query = "", headers: Record<string, string> = {}): Promise<EventClient> {
  const client = await listen(`${url}${query}`, headers);
  expect(client.response.statusCode).toBe(200);
  return await client.begun();
}

const resume = (id: string, query = "") => begin(query, { "Last-Event-ID": id });
const component = (event: string) =>
  `${event.replace(/(?:^|_)(.)/g, (_, letter: string) => letter.toUpperCase())}Event`;
const told = (heard: readonly Heard[]) => heard.map(({ event, data }) => ({ event, ...data }));
const TIME = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);

/** A message sent, by SQL alone. */
async function send(columns = {}): Promise<number> {
  const relayer = await register();
  const id = await insert(columns);
  await claim(relayer.id, 1, { gateway: (columns as { gateway?: string }).gateway ?? "default" });
  await settle(relayer.id, [{ id }]);
  return id;
}
async function cancel(columns = {}): Promise<number> {
  const id = await insert(columns);
  await outbox.pool.query("select outbox.cancel($1)", [id]);
  return id;
}

describe("the stream", () => {
  test("is one of server-sent events, and begins with an id", async () => {
    const client = await begin();
    expect(client.response.headers).toMatchObject({
      "content-type": "text/event-stream",
      "cache-control": "no-store",
      "x-accel-buffering": "no",
      "transfer-encoding": "chunked",
    });
    expect(client.text).toMatch(/^retry: 2000\nid: [\w-]+\n\n$/);
  });

  test("tells each thing that happens, from its cause", async () => {
    const relayer = await register();
    await outbox.pool.query("update outbox.gateways set circuit_failures = 1, circuit_probes = 1");
    const client = await begin();
    const [sent, refused, expired, cancelled] = [
      await insert({ priority: 0 }),
      await insert(),
      await insert({ expires_at: new Date(Date.now() + 3_600_000), available_at: "2100-01-01" }),
      await insert({ available_at: "2100-01-01" }),
    ];
    await claim(relayer.id);
    const { settled_at } = await settle(relayer.id, [
      { id: sent, gateway_message_id: "gw-1", duration_ms: 12 },
      { id: refused, outcome: "rejected", http_status: 422 },
    ]);
    await outbox.pool.query("select outbox.expire('default', as_of => '2100-01-01')");
    await outbox.pool.query("select outbox.cancel($1)", [cancelled]);
    await outbox.pool.query("select outbox.pause('default', actor => 'ayse')");
    await outbox.pool.query("select outbox.resume('default', actor => 'ali')");
    await outbox.pool.query("select outbox.toggle(actor => 'ali')");
    await outbox.pool.query("select outbox.toggle(actor => 'ali')");

    // The circuit opens, and a probe closes it.
    const failing = await insert();
    await claim(relayer.id);
    await settle(relayer.id, [{ id: failing, outcome: "retry", error: "HTTP 500" }]);
    await outbox.pool.query(
      "update outbox.messages set available_at = '2000-01-01' where id = $1; ".replace("$1", String(failing)),
    );
    const late = new Date(Date.now() + 60_000).toISOString();
    await claim(relayer.id, 1, { as_of: late });
    const { settled_at: late_at } = await settle(relayer.id, [{ id: failing, attempt: 1 }], { as_of: late });
    const throttled = await insert();
    await claim(relayer.id);
    await settle(relayer.id, [
      { id: throttled, outcome: "throttled", retry_after_ms: 60_000, error: "HTTP 429" },
    ]);

    const heard = await client.events(11);
    expect(told(heard)).toEqual([
      {
        event: "settled",
        id: sent,
        gateway: "default",
        priority: 0,
        attempts: 1,
        sent_at: settled_at,
        gateway_message_id: "gw-1",
        duration_ms: 12,
      },
      dead(refused, { reason: "rejected", attempts: 1, died_at: settled_at, http_status: 422 }),
      dead(expired, { reason: "expired", died_at: "2100-01-01T00:00:00.000000Z" }),
      dead(cancelled, { reason: "cancelled" }),
      held("paused", { actor: "ayse" }),
      { event: "gateway_resumed", gateway: "default", reason: "paused", changed_at: TIME, actor: "ali" },
      { event: "scheduler", running: false, changed_at: TIME, changed_by: "ali" },
      { event: "scheduler", running: true, changed_at: TIME, changed_by: "ali" },
      held("circuit_open", { held_until: TIME, detail: "1 failures in a row; the last: HTTP 500" }),
      { event: "gateway_resumed", gateway: "default", reason: "circuit_open", changed_at: TIME, actor: null },
      held("throttled", { held_until: TIME, detail: "HTTP 429" }),
    ]);
    expect(late_at > new Date().toISOString()).toBe(true); // in the future, so not told yet
    const check = createSchemas({ document }).answer;
    for (const { event, data } of heard)
      expect(check({ $ref: `#/components/schemas/${component(event)}` }, data)).toEqual([]);
  });

  const dead = (id: number, more: object) => ({
    event: "dead",
    id,
    gateway: "default",
    priority: 1,
    attempts: 0,
    died_at: TIME,
    http_status: null,
    ...more,
  });
  const held = (reason: string, more: object) => ({
    event: "gateway_held",
    gateway: "default",
    reason,
    changed_at: TIME,
    held_until: null,
    detail: null,
    actor: null,
    ...more,
  });

  test("never tells a recipient or a text", async () => {
    const client = await begin();
    await send({ recipient: "+905559876543", content: "secret words", metadata: { private: 1 } });
    await cancel({ recipient: "+905559876543", content: "secret words", metadata: { private: 1 } });
    await client.events(2);
    expect(client.text).not.toMatch(/5559876543|secret|private/);
  });

  test("begins now: nothing of before", async () => {
    await send();
    await cancel();
    const client = await begin();
    const id = await send();
    expect(told(await client.events(1))).toMatchObject([{ event: "settled", id }]);
  });

  test("begins now for a second one too, while the first listens", async () => {
    const first = await begin();
    const before = await send();
    await first.events(1);
    const second = await begin();
    const after = await cancel();
    expect(told(await second.events(1))).toMatchObject([{ id: after }]);
    expect(told(await first.events(2))).toMatchObject([{ id: before }, { id: after }]);
  });

  test("HEAD says what GET would, and leaves nothing open", async () => {
    const api = await serve();
    const answer = await api.app.request("/api/v1/events", { method: "HEAD" });
    expect(answer.status).toBe(200);
    expect(answer.headers.get("Content-Type")).toBe("text/event-stream");
    expect(answer.body).toBeNull();
  });
});

describe("what is wanted", () => {
  test.each([
    ["settled", ["settled"]],
    ["dead", ["dead"]],
    ["settled,scheduler", ["settled", "scheduler", "scheduler"]],
    ["gateway_resumed,gateway_held", ["gateway_held", "gateway_resumed"]],
  ])("types=%s", async (types, expected) => {
    const client = await begin(`?types=${types}`);
    await send();
    await cancel();
    await outbox.pool.query("select outbox.pause('default')");
    await outbox.pool.query("select outbox.resume('default')");
    await outbox.pool.query("select outbox.pause()");
    await outbox.pool.query("select outbox.resume()");
    const all = await resume(/id: (\S+)/.exec(client.text)?.[1] ?? "");
    await all.events(6);
    await client.events(expected.length);
    expect(client.heard.map(({ event }) => event)).toEqual(expected);
  });

  test("gateway=bulk: what concerns it, as the scheduler does", async () => {
    await addGateway("bulk");
    const client = await begin("?gateway=bulk");
    await send();
    await cancel();
    await outbox.pool.query("select outbox.pause('default')");
    const [sent, died] = [await send({ gateway: "bulk" }), await cancel({ gateway: "bulk" })];
    await outbox.pool.query("select outbox.pause('bulk')");
    await outbox.pool.query("select outbox.pause()");
    expect(told(await client.events(4))).toMatchObject([
      { event: "settled", id: sent },
      { event: "dead", id: died },
      { event: "gateway_held", gateway: "bulk" },
      { event: "scheduler", running: false },
    ]);
  });

  test.each([
    ["?types=", "types"],
    ["?types=settled,", "types"],
    ["?types=message_sent", "types"],
    ["?types=settled&types=dead", "types"],
    ["?gateway=Bulk", "gateway"],
    ["?last_event_id=", "last_event_id"],
    ["?last_event_id=AAAA", "last_event_id"],
    ["?last_event_ids=x", "last_event_ids"],
  ])("%s is refused", async (query, parameter) => {
    const api = await serve();
    const answer = await api.request(`/api/v1/events${query}`);
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({ errors: [{ detail: expect.any(String), parameter }] });
  });

  test.each([
    ["text/event-stream", 200],
    ["text/*", 200],
    ["*/*", 200],
    ["text/html, text/event-stream;q=0.1", 200],
    ["application/json", 406],
    ["text/event-stream;q=0", 406],
  ])("Accept: %s is %i", async (accept, status) => {
    const client = await listen(url, { Accept: accept });
    expect(client.response.statusCode).toBe(status);
    if (status === 200) return;
    await client.ended;
    expect(JSON.parse(client.text)).toMatchObject({
      type: "urn:outbox-relayer:problem:not-acceptable",
      detail: "Accept text/event-stream.",
    });
  });
});

describe("with an id", () => {
  test("it goes on after that event, of either kind", async () => {
    const client = await begin();
    const ids = [await send(), await cancel(), await send(), await cancel(), await send()];
    const heard = [...(await client.events(5))];
    client.close();
    for (const [n, { id }] of heard.entries()) {
      const rest = await resume(id);
      const marker = await cancel();
      expect((await rest.events(ids.length - n)).map(({ data }) => data.id)).toEqual([
        ...ids.slice(n + 1),
        marker,
      ]);
      rest.close();
      ids.push(marker);
      heard.push(...rest.heard.slice(-1));
      if (n === 4) break;
    }
  });

  test("it goes on where another process was, and with another filter", async () => {
    const first = await begin("?types=dead");
    const died = await cancel();
    await first.events(1);
    first.close();
    const sent = await send();
    const other = await serve();
    const second = await (await listen(other.url, { "Last-Event-ID": first.lastId })).begun();
    expect(told(await second.events(1))).toMatchObject([{ event: "settled", id: sent }]);
    expect(second.heard[0]?.data.id).not.toBe(died);
  });

  test("that came without data, at the start", async () => {
    const client = await begin();
    client.close();
    const ids = [await send(), await cancel()];
    const again = await resume(client.lastId);
    expect((await again.events(2)).map(({ data }) => data.id)).toEqual(ids);
  });

  test("as a parameter; the header, which browsers send when they come again, is the newer one", async () => {
    const client = await begin();
    const [first, second] = [await send(), await send()];
    const [{ id }] = (await client.events(2)) as [Heard];
    client.close();
    const by = await begin(`?last_event_id=${id}`);
    expect((await by.events(1)).map(({ data }) => data.id)).toEqual([second]);
    const both = await begin(`?last_event_id=${client.lastId}`, { "Last-Event-ID": id });
    expect((await both.events(1)).map(({ data }) => data.id)).toEqual([second]);
    expect(first).not.toBe(second);
  });

  test("that was tampered with, or is none of ours, is refused", async () => {
    const api = await serve();
    const client = await begin();
    const list = await api.json<{ next_cursor: string | null }>("/api/v1/messages/sent?order=asc");
    await send();
    const { next_cursor } = await api.json<{ next_cursor: string }>("/api/v1/messages/sent?order=asc");
    expect(list.next_cursor).toBeNull();
    const id = client.lastId;
    const wrong = [
      "x",
      "",
      `${id}A`,
      id.slice(1),
      id.slice(0, -1),
      `${id.slice(0, 50)}${id[50] === "A" ? "B" : "A"}${id.slice(51)}`,
      next_cursor,
    ];
    for (const text of wrong) {
      const answer = await api.request("/api/v1/events", { headers: { "Last-Event-ID": text } });
      expect(answer.status, text).toBe(400);
      expect(await answer.json()).toMatchObject({
        type: "urn:outbox-relayer:problem:invalid-request",
        errors: [{ detail: expect.stringMatching(/^(is damaged|was made)/), parameter: "Last-Event-ID" }],
      });
    }
  });

  test("from before what is kept is gone", async () => {
    const client = await begin();
    await cancel();
    await client.events(1);
    await outbox.pool.query("select pg_sleep(0.02)");
    const short = await serve({ eventsKeptMs: 10 });
    const answer = await short.request("/api/v1/events", { headers: { "Last-Event-ID": client.lastId } });
    expect(answer.status).toBe(410);
    expect(await answer.json()).toMatchObject({ type: "urn:outbox-relayer:problem:events-gone" });
    const long = await serve({ eventsKeptMs: 3_600_000 });
    const again = await listen(long.url, { "Last-Event-ID": client.lastId });
    expect(again.response.statusCode).toBe(200);
  });

  test("in the midst of more than a batch of one time, and of more than is remembered", async () => {
    const relayer = await register();
    const client = await begin();
    const [sent, died] = [await insertMany(1_300), await insertMany(2_300)];
    await claim(relayer.id, 5_000);
    await settle(
      relayer.id,
      sent.map((id) => ({ id })),
    );
    await settle(
      relayer.id,
      died.map((id) => ({ id, outcome: "rejected" as const })),
    );
    const all = (await client.events(3_600)).map(({ data }) => data.id);
    expect(all).toEqual([...sent, ...died]);
    for (const n of [0, 499, 500, 777, 1_299, 1_300, 1_799, 3_599]) {
      const rest = await resume(client.heard[n]?.id ?? "");
      await rest.until(() => rest.heard.length >= 3_599 - n);
      expect(rest.heard.map(({ data }) => data.id)).toEqual(all.slice(n + 1));
      rest.close();
    }
  });
});

describe("while transactions end in any order", () => {
  test("one that is open holds up what it is about, and nothing that is sent", async () => {
    const client = await begin();
    const open = await outbox.session();
    const [first, before] = [await insert(), await cancel()];
    await client.events(1);
    await open.query("begin");
    await open.query("select outbox.cancel($1)", [first]);
    const second = await cancel();
    const sent = await send();
    expect((await client.events(2)).map(({ data }) => data.id)).toEqual([before, sent]);
    client.close();

    const again = await resume(client.lastId);
    const sentToo = await send();
    expect((await again.events(1)).map(({ data }) => data.id)).toEqual([sentToo]);
    await open.query("commit");
    expect((await again.events(3)).map(({ data }) => data.id)).toEqual([sentToo, first, second]);
  });

  test("a client that is cut off again and again hears everything once, in order", async () => {
    const relayers = await Promise.all(Array.from({ length: 4 }, () => register()));
    await insertMany(1_200);
    const first = await begin();
    first.close();
    let settling = relayers.length;
    const crowd = relayers.map(async ({ id: relayer, client }) => {
      for (;;) {
        const claims = await claim(relayer, 8, { on: client });
        const none = "select not exists (select from outbox.messages where claimed_by is null)";
        if (claims.length === 0 && (await outbox.value(none))) break;
        const shown = claims
          .map(({ id, attempt }) => ({
            id,
            attempt,
            outcome: id % 3 === 0 ? ("rejected" as const) : ("accepted" as const),
          }))
          .sort((a, b) => a.id - b.id);
        await client.query("begin");
        // Some transactions begin long before they settle, some end long after.
        if (Math.random() < 0.3) await client.query("select pg_sleep(random() * 0.05)");
        await settle(relayer, shown, { on: client });
        if (Math.random() < 0.3) await client.query("select pg_sleep(random() * 0.05)");
        await client.query("commit");
      }
      settling -= 1;
    });

    const heard: Heard[] = [];
    for (let id = first.lastId; heard.length < 1_200 || settling > 0; ) {
      const client = await resume(id);
      const enough = 1 + Math.floor(Math.random() * 150);
      await client.until(() => client.heard.length >= Math.min(enough, 1_200 - heard.length));
      client.close();
      heard.push(...client.heard);
      id = client.lastId;
    }
    await Promise.all(crowd);
    const happened = await rows(
      `select event, message
       from (
         select 'settled' as event, id as message, sent_at as at, id from outbox.sent
         union all
         select type, (data ->> 'id')::bigint, at, id from outbox.events
       ) as all_events
       order by at, id`,
    );
    expect(heard.map(({ event, data }) => ({ event, message: data.id }))).toEqual(happened);
  });
});

describe("who listens", () => {
  const KEYS = [
    key("reader", ["read"]),
    key("support", ["read", "read_pii"]),
    key("writer", ["write"]),
    key("soon", ["read"], new Date(Date.now() + 3_600_000)),
    key("much-later", ["read"], new Date("2999-01-01")),
  ];

  test("needs a key with the scope read", async () => {
    const api = await serve({ keys: KEYS });
    expect((await api.request("/api/v1/events")).status).toBe(401);
    expect((await api.request("/api/v1/events", { headers: as("writer") })).status).toBe(403);
  });

  test("sees a gateway's words, which may quote the message, with read_pii only", async () => {
    const api = await serve({ keys: KEYS });
    const [reader, support] = [await listen(api.url, as("reader")), await listen(api.url, as("support"))];
    await Promise.all([reader.begun(), support.begun()]);
    const relayer = await register();
    const id = await insert();
    await claim(relayer.id);
    await settle(relayer.id, [{ id, outcome: "throttled", error: "HTTP 429: too many for +905551234567" }]);
    expect((await support.events(1))[0]?.data.detail).toBe("HTTP 429: too many for +905551234567");
    expect((await reader.events(1))[0]?.data.detail).toBe("HTTP 429");
  });

  test("is sent away when the key expires, in good order; not before", async () => {
    const expiresAt = new Date(Date.now() + 1_500);
    const api = await serve({ keys: [...KEYS, key("now", ["read"], expiresAt)] });
    const others = [await listen(api.url, as("much-later")), await listen(api.url, as("soon"))];
    const client = await listen(api.url, as("now"));
    await client.begun();
    await client.ended;
    expect(Date.now()).toBeGreaterThanOrEqual(expiresAt.getTime() - 5);
    expect((await listen(api.url, as("now"))).response.statusCode).toBe(401);
    const id = await cancel();
    for (const other of others) expect((await other.events(1))[0]?.data.id).toBe(id);
  });

  test("is one of 64 at most; a place is free again when one leaves", async () => {
    const api = await serve();
    const clients = await Promise.all(Array.from({ length: 64 }, () => listen(api.url)));
    const refused = await fetch(api.url);
    expect(refused.status).toBe(429);
    expect(refused.headers.get("Retry-After")).toBe("10");
    await expectingDocumented(document)("GET", "/api/v1/events", refused.clone());
    expect(await refused.json()).toMatchObject({ type: "urn:outbox-relayer:problem:too-many-streams" });

    clients[7]?.close();
    await expect.poll(async () => (await listen(api.url)).response.statusCode).toBe(200);
    const id = await cancel();
    for (const client of clients.filter((_, n) => n !== 7))
      expect((await client.events(1))[0]?.data.id).toBe(id);
  });

  test("is told to come back when the server stops, at once", async () => {
    const api = await serve();
    const clients = await Promise.all([listen(api.url), listen(api.url)]);
    await Promise.all(clients.map((client) => client.begun()));
    const start = performance.now();
    await api.stop();
    expect(performance.now() - start).toBeLessThan(1_000);
    await Promise.all(clients.map(({ ended }) => ended));
    const reasons = api.log.filter(({ message }) => message === "event stream ended");
    expect(reasons.map(({ fields }) => fields.reason)).toEqual(["the server stops", "the server stops"]);
  });
});
