import { connect as connectTo, createServer, type Socket } from "node:net";
import { afterEach, beforeEach, expect, onTestFinished, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { type HttpGateway, startHttpGateway } from "../support/http-gateway.ts";
import { type RelayerOptions, startRelayer, type TestRelayer } from "../support/relayer.ts";
import { allSent, insert } from "./messages.ts";

const TOKEN = "0123456789abcdef";

const database = useDatabase();
let gateway: HttpGateway;

async function start(options: Partial<RelayerOptions> = {}): Promise<TestRelayer> {
  const relayer = await startRelayer({ databaseUrl: database.url, webhookUrl: gateway.url, ...options });
  onTestFinished(() => relayer.stop());
  return relayer;
}

beforeEach(async () => {
  gateway = await startHttpGateway();
});
afterEach(async () => {
  await gateway.close();
  await database.pool.query("truncate outbox.messages, outbox.sent");
});

const valueIn = (text: string, series: string): number =>
  Number(
    text
      .split("\n")
      .find((line) => line.startsWith(`${series} `))
      ?.slice(series.length),
  );

test("a message's way is in the metrics, and the metrics have a port and a token of their own", async () => {
  const relayer = await start({ env: { METRICS_PORT: "0", METRICS_TOKEN: TOKEN } });
  const { metrics } = await relayer.logged(
    ({ part, metrics: url }) => part === "metrics" && url !== undefined,
  );
  const url = String(metrics);
  expect((await fetch(url)).status).toBe(401);
  expect((await fetch(new URL("/metrics", relayer.api))).status).toBe(404);
  for (const probe of ["/livez", "/readyz"]) {
    expect((await fetch(new URL(probe, url))).status).toBe(200);
    expect((await fetch(new URL(probe, relayer.api))).status).toBe(200);
  }

  const before = new Date(Date.now() - 90_000);
  await insert(database.pool, 2, { priority: 0, created_at: before, available_at: before });
  await insert(database.pool, 1, { priority: 2 });
  await allSent(database.pool, 3);
  const answer = await fetch(url, { headers: { Authorization: `Bearer ${TOKEN}` } });
  expect(answer.headers.get("Content-Type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  const text = await answer.text();
  const latency = (suffix: string, labels: string) =>
    valueIn(text, `outbox_delivery_latency_seconds_${suffix}{${labels}}`);
  expect(latency("count", 'gateway="default",priority="0"')).toBe(2);
  expect(latency("bucket", 'le="60",gateway="default",priority="0"')).toBe(0);
  expect(latency("bucket", 'le="120",gateway="default",priority="0"')).toBe(2);
  expect(latency("bucket", 'le="60",gateway="default",priority="2"')).toBe(1);
  expect(valueIn(text, 'outbox_attempts_total{gateway="default",outcome="accepted"}')).toBe(3);
  expect(valueIn(text, 'outbox_wakeups_total{source="notify"}')).toBeGreaterThan(0);
  expect(valueIn(text, "outbox_relayers_alive")).toBe(1);
  expect(valueIn(text, "outbox_postgres_up")).toBe(1);
  expect(valueIn(text, 'outbox_messages{state="due",gateway="default",priority="0"}')).toBe(0);
});

/** A way to Postgres on which, while it is frozen, nothing moves. */
async function freezableWay() {
  const { hostname, port } = new URL(database.url);
  const sockets = new Set<Socket>();
  let frozen = false;
  const way = createServer((near) => {
    const far = connectTo(Number(port), hostname);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      if (frozen) from.pause();
      from.on("data", (chunk) => to.write(chunk));
      from.on("close", () => {
        sockets.delete(from);
        to.destroy();
      });
      from.on("error", () => {});
    }
    if (frozen) near.pause();
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => way.once("listening", resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    way.close();
  });
  const url = new URL(database.url);
  url.host = `127.0.0.1:${(way.address() as { port: number }).port}`;
  return {
    url: url.href,
    freeze() {
      frozen = true;
      for (const socket of sockets) socket.pause();
    },
    thaw() {
      frozen = false;
      for (const socket of sockets) socket.resume();
    },
  };
}

test("while Postgres is frozen it is alive, not ready, and its metrics are served without the database's", async () => {
  const way = await freezableWay();
  const relayer = await start({ databaseUrl: way.url });
  const get = async (path: string) => await fetch(new URL(path, relayer.api));
  await eventually(
    async () => (await get("/readyz")).status,
    (status) => status === 200,
  );
  expect(await (await get("/metrics")).text()).toMatch(/^outbox_postgres_up 1$/m);
  way.freeze();
  await eventually(
    async () => {
      expect((await get("/livez")).status).toBe(200);
      return (await (await get("/readyz")).json()) as { parts: { database: { ok: boolean } } };
    },
    ({ parts }) => !parts.database.ok,
  );
  const asked = performance.now();
  const shown = await (await get("/metrics")).text();
  expect(shown).toMatch(/^outbox_postgres_up 0$/m);
  expect(performance.now() - asked).toBeLessThan(2_000);
  expect(shown).not.toMatch(/^outbox_messages\{/m);
  expect(shown).toMatch(/^outbox_attempts_total\{/m);
  way.thaw();
  await eventually(
    async () => (await get("/readyz")).status,
    (status) => status === 200,
  );
  expect((await get("/livez")).status).toBe(200);
});
