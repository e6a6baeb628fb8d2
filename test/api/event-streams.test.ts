import { connect } from "node:net";
import { Hono } from "hono";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { type Event, type Of, type Place, readLog } from "../../src/api/events/log.ts";
import { createStreams, type Listener, type StreamsOptions } from "../../src/api/events/stream.ts";
import { startServer } from "../../src/api/server.ts";
import { useOutbox } from "../sql/outbox-under-test.ts";
import { poolFor } from "./api-under-test.ts";

const outbox = useOutbox();
let real: pg.Pool;

beforeAll(() => {
  real = poolFor(outbox.url);
});
afterAll(() => real.end());

/** Streams on a pool that counts what is asked of it, and that can be made to fail. */
function streams(options: Partial<StreamsOptions> = {}) {
  const seen = { queries: 0, rows: 0, failing: false };
  const log: { level: string; fields: Record<string, unknown>; message: string }[] = [];
  const pool = {
    query: real.query.bind(real),
    async connect() {
      const client = await real.connect();
      return new Proxy(client, {
        get(target, name) {
          if (name !== "query") {
            const it = Reflect.get(target, name);
            return typeof it === "function" ? it.bind(target) : it;
          }
          return async (text: string, values: unknown[]) => {
            seen.queries += 1;
            if (seen.failing) throw new Error("Connection terminated unexpectedly");
            const result = await target.query(text, values);
            if (!/horizon/.test(text)) seen.rows += result.rows.length;
            return result;
          };
        },
      });
    },
  } as unknown as pg.Pool;
  const all = createStreams({
    pool,
    log: (level, fields, message) => log.push({ level, fields, message }),
    lookEveryMs: 10,
    ...options,
  });
  return { open: all.open, seen, log };
}

const now = async (): Promise<Of<Place>> => {
  const { sent, events } = await readLog(real, { sent: "now", events: "now" }, 0);
  return { sent: sent.until, events: events.until };
};

const idOf = async ({ sent, events }: Of<Place>) => `${sent.at}/${sent.id}/${events.at}/${events.id}`;
const placesIn = (text: string): Of<Place> => {
  const [sentAt = "", sent, eventsAt = "", event] = (text.match(/^id: (.*)$/gm)?.at(-1) ?? "")
    .slice(4)
    .split("/");
  return { sent: { at: sentAt, id: Number(sent) }, events: { at: eventsAt, id: Number(event) } };
};

const listener = async (more: Partial<Listener> = {}): Promise<Listener> => ({
  from: await now(),
  sources: ["sent", "events"],
  wants: () => true,
  show: ({ data }: Event) => data,
  idOf,
  expiresAt: undefined,
  drop: () => {},
  fields: { key: "test" },
  ...more,
});

function reading(stream: ReadableStream<Uint8Array>) {
  const reader = stream.getReader();
  onTestFinished(() => reader.cancel());
  const decoder = new TextDecoder();
  const next = async () => decoder.decode((await reader.read()).value);
  return {
    next,
    cancel: () => reader.cancel(),
    async until(text: RegExp) {
      let all = "";
      while (!text.test(all)) all += await next();
      return all;
    },
  };
}

async function cancelOne(): Promise<number> {
  const id = await outbox.insert();
  await outbox.pool.query("select outbox.cancel($1)", [id]);
  return id;
}

const insertSent = (count: number) =>
  outbox.pool.query(
    `insert into outbox.sent (id, gateway, priority, recipient, content, metadata, available_at, attempts,
       claimed_by, claimed_at, created_at, sent_at, gateway_message_id, duration_ms)
     select n, 'default', 1, '+905551234567', 'hi', '{}', now(), 1, 1, now(), now(),
       clock_timestamp() - interval '1 s', repeat('x', 300), 1
     from generate_series(1, $1::int) as n`,
    [count],
  );

/** Resolves when it stays the same for as long as thirty looks would take. */
async function settled(value: () => number): Promise<number> {
  for (let before = value(); ; before = value()) {
    await new Promise((resolve) => setTimeout(resolve, 300));
    if (value() === before) return before;
  }
}

describe("while nothing happens", () => {
  test("comments keep the connection alive, each with an id to go on from", async () => {
    const { open } = streams({ keepAliveMs: 100 });
    const stream = reading(await open(await listener()));
    const first = await stream.next();
    const [second, third] = [await stream.next(), await stream.next()];
    expect([second, third]).toEqual([
      expect.stringMatching(/^: keep-alive\nid: .*\n\n$/),
      expect.stringMatching(/^: keep-alive\nid: .*\n\n$/),
    ]);
    const [one, two, three] = [placesIn(first), placesIn(second), placesIn(third)];
    expect(one.sent.at < two.sent.at && two.sent.at < three.sent.at).toBe(true);
    expect(one.events.at < two.events.at && two.events.at < three.events.at).toBe(true);

    const id = await cancelOne();
    const again = reading(await open(await listener({ from: three })));
    expect(await again.until(/event/)).toMatch(new RegExp(`"id":\\s*${id}\\b`));
  });

  test("so they do while all that happens is not wanted", async () => {
    const { open } = streams({ keepAliveMs: 100 });
    const stream = reading(await open(await listener({ wants: () => false })));
    await stream.next();
    for (let n = 0; n < 3; n++) {
      await cancelOne();
      expect(await stream.next()).toMatch(/^: keep-alive\n/);
    }
  });

  test("a source that is not wanted is passed all the same, and not read", async () => {
    const { open, seen } = streams({ keepAliveMs: 50 });
    const stream = reading(await open(await listener({ sources: ["events"] })));
    const first = placesIn(await stream.next());
    await insertSent(5);
    await stream.next();
    expect(placesIn(await stream.next()).sent.at > first.sent.at).toBe(true);
    expect(seen.rows).toBe(0);
  });
});

describe("many", () => {
  test("are served by one look: each event is read once", async () => {
    const { open, seen } = streams({ lookEveryMs: 50 });
    const all = await Promise.all(
      Array.from({ length: 30 }, async () => reading(await open(await listener()))),
    );
    await Promise.all(all.map((stream) => stream.next()));
    const heard = all.map((stream) => stream.until(/event/));
    // By then all have come as far as the look has.
    const begun = seen.queries;
    await expect.poll(() => seen.queries - begun).toBeGreaterThan(100);
    const id = await cancelOne();
    for (const text of await Promise.all(heard)) expect(text).toContain(`"id":${id}`);
    expect(seen.rows).toBe(1);
    const before = seen.queries;
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    // Three for a look: the horizons, and a table each.
    expect(seen.queries - before).toBeLessThanOrEqual(3 * 21);
  });

  test("that have left ask for nothing any more", async () => {
    const { open, seen, log } = streams();
    const [one, two] = [reading(await open(await listener())), reading(await open(await listener()))];
    await Promise.all([one.next(), two.next()]);
    await one.cancel();
    const before = seen.queries;
    await expect.poll(() => seen.queries).toBeGreaterThan(before);
    await two.cancel();
    expect(log.map(({ fields, message }) => [message, fields.key, fields.reason])).toEqual([
      ["event stream ended", "test", "the client has gone"],
      ["event stream ended", "test", "the client has gone"],
    ]);
    const last = await settled(() => seen.queries);
    const three = reading(await open(await listener()));
    await three.next();
    await expect.poll(() => seen.queries).toBeGreaterThan(last);
  });

  test("are too many at some point, until one leaves", async () => {
    const { open } = streams({ limit: 2 });
    const one = reading(await open(await listener()));
    reading(await open(await listener()));
    const refused = expect.objectContaining({ slug: "too-many-streams" });
    await expect(open(await listener())).rejects.toEqual(refused);
    await one.cancel();
    await one.cancel();
    reading(await open(await listener()));
    await expect(open(await listener())).rejects.toEqual(refused);
  });
});

test("one that is cut off in the middle of catching up asks for nothing any more", async () => {
  const from = await now();
  await insertSent(5_000);
  const { open, seen } = streams();
  const old = { at: "2020-01-01T00:00:00.000000Z", id: 0 };
  const stream = reading(await open(await listener({ from: { ...from, sent: old } })));
  await stream.next();
  await stream.next();
  await stream.cancel();
  expect(await settled(() => seen.rows)).toBeLessThan(2_500);
});

describe("a client that reads slowly", () => {
  const TOTAL = 60_000;
  const old = { at: "2020-01-01T00:00:00.000000Z", id: 0 };

  /** A server whose one answer is the stream, and a client that does not read yet. */
  async function slow(options: Partial<StreamsOptions>) {
    await insertSent(TOTAL);
    const from = { ...(await now()), sent: old };
    const { open, seen, log } = streams(options);
    const app = new Hono<{ Bindings: { outgoing: { destroy(): void } } }>().get("/", async (c) =>
      c.body(await open(await listener({ from, drop: () => c.env.outgoing.destroy() }))),
    );
    const server = await startServer({ app, host: "127.0.0.1", port: 0, graceMs: 100 });
    onTestFinished(() => server.stop());
    const socket = connect({ port: Number(new URL(server.url).port), host: "127.0.0.1" });
    onTestFinished(() => void socket.destroy());
    socket.pause();
    socket.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    await expect.poll(() => seen.rows).toBeGreaterThan(500);
    return { seen, log, socket };
  }

  test("is waited for: no more is read than the network takes, and nothing is lost", async () => {
    const { seen, socket } = await slow({});
    expect(await settled(() => seen.rows)).toBeLessThan(TOTAL / 2);
    let text = "";
    socket.setEncoding("latin1").on("data", (chunk: string) => {
      text += chunk.replaceAll("x", "");
    });
    socket.resume();
    await expect.poll(() => text.split("\nevent: settled\n").length - 1, { timeout: 25_000 }).toBe(TOTAL);
  });

  test("and takes nothing for long is cut off", async () => {
    const { seen, log, socket } = await slow({ stalledMs: 300 });
    await expect
      .poll(() => log.map(({ fields }) => fields.reason), { timeout: 10_000 })
      .toEqual(["the client takes nothing"]);
    const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
    socket.on("error", () => {}).resume();
    await closed;
    expect(seen.rows).toBeLessThan(TOTAL);
  });
});

test("while the database fails, the stream stays, and then goes on: one line in the log", async () => {
  const { open, seen, log } = streams({ keepAliveMs: 100 });
  const stream = reading(await open(await listener()));
  await stream.next();
  await expect.poll(() => seen.queries).toBeGreaterThan(3);
  seen.failing = true;
  const id = await cancelOne();
  await stream.next();
  for (let n = 0; n < 3; n++) expect(await stream.next()).toMatch(/^: keep-alive\nid: .*\n\n$/);
  seen.failing = false;
  expect(await stream.until(/event/)).toContain(`"id":${id}`);
  expect(log.filter(({ level }) => level === "warn").map(({ message }) => message)).toEqual([
    "events cannot be read; trying again",
  ]);
});
