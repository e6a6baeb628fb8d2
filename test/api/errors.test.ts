import { createServer, type Socket } from "node:net";
import { createRoute, z } from "@hono/zod-openapi";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { apiUnderTest, NOBODY, noPool, poolFor } from "./api-under-test.ts";

interface Problem {
  type: string;
  title: string;
  status: number;
  detail?: string;
  instance: string;
  errors?: { detail: string; pointer?: string }[];
}

const database = useDatabase();
let pool: pg.Pool;

beforeAll(() => {
  pool = poolFor(database.url);
});
afterAll(() => pool.end());

describe("a problem", () => {
  test("has a type, and the request's id, that came with it", async () => {
    const api = apiUnderTest(noPool);
    const answer = await api.request("/nowhere", { headers: { "X-Request-Id": "order-1001_a" } });
    expect(answer.headers.get("Content-Type")).toBe("application/problem+json");
    expect(answer.headers.get("X-Request-Id")).toBe("order-1001_a");
    expect(await answer.json()).toEqual({
      type: "urn:outbox-relayer:problem:not-found",
      title: expect.any(String),
      status: 404,
      instance: "urn:outbox-relayer:request:order-1001_a",
    });
  });

  test.each(["a b", "x".repeat(200), "ä", '"><script>'])("not an id that is no id: %s", async (id) => {
    const api = apiUnderTest(noPool);
    const answer = await api.request("/livez", { headers: { "X-Request-Id": encodeURIComponent(id) } });
    expect(answer.headers.get("X-Request-Id")).toMatch(/^[0-9a-f-]{36}$/);
  });
});

describe("405", () => {
  test.each([
    ["PUT", "/api/v1/messages", "GET, HEAD, POST"],
    ["DELETE", "/api/v1/messages/7", "GET, HEAD, PATCH"],
    ["GET", "/api/v1/messages/7/cancel", "POST"],
    ["PUT", "/api/v1/scheduler", "GET, HEAD"],
    ["GET", "/api/v1/scheduler/toggle", "POST"],
    ["HEAD", "/api/v1/scheduler/stop", "POST"],
    ["OPTIONS", "/api/v1/scheduler/start", "POST"],
    ["POST", "/readyz", "GET, HEAD"],
    ["POST", "/", "GET, HEAD"],
  ])("%s %s", async (method, path, allow) => {
    const answer = await apiUnderTest(noPool).request(path, { method });
    expect(answer.status).toBe(405);
    expect(answer.headers.get("Allow")).toBe(allow);
    expect(answer.headers.get("X-Request-Id")).toBeTruthy();
    expect(answer.headers.get("Content-Type")).toBe("application/problem+json");
  });

  test("but 404 where there is nothing at all", async () => {
    const answer = await apiUnderTest(noPool).request("/api/v1/nothing", { method: "DELETE" });
    expect(answer.status).toBe(404);
    expect(answer.headers.get("Allow")).toBeNull();
  });

  test.each([
    ["PUT", "/api/v1/messages", 405],
    ["DELETE", "/api/v1/messages/7", 405],
    ["POST", "/api/v1/nothing", 404],
    ["PATCH", "/api/v1/messages/7", 413],
  ])("%s %s with a body larger than any may be: %i", async (method, path, status) => {
    const answer = await apiUnderTest(noPool).request(path, { method, body: "x".repeat(70_000) });
    expect(answer.status).toBe(status);
  });
});

test.each([
  "/livez",
  "/readyz",
  "/metrics",
  "/api/v1/openapi.json",
  "/api/v1/scheduler",
  "/api/v1/messages/sent",
])("HEAD %s is GET without the body", async (path) => {
  const api = apiUnderTest(pool);
  const head = await api.request(path, { method: "HEAD" });
  const get = await api.request(path);
  expect(head.status).toBe(200);
  expect(head.headers.get("Content-Type")).toBe(get.headers.get("Content-Type"));
  expect(await head.text()).toBe("");
});

test.each([
  ["text/html", 406],
  ["application/xml, text/*;q=0.5", 406],
  ["application/json;q=0", 406],
  ["application/json", 200],
  ["text/html, */*;q=0.1", 200],
  ["application/*", 200],
])("Accept: %s gives %i", async (accept, status) => {
  const answer = await apiUnderTest(pool).request("/api/v1/scheduler", { headers: { Accept: accept } });
  expect(answer.status).toBe(status);
});

describe("bodies", () => {
  const api = apiUnderTest(noPool);
  const route = createRoute({
    method: "post",
    path: "/probe",
    request: {
      body: {
        required: true,
        content: {
          "application/json": {
            schema: z.array(z.strictObject({ "a/b": z.string("must be a text"), n: z.int() })),
          },
        },
      },
    },
    responses: { 200: { description: "ok", content: { "application/json": { schema: z.unknown() } } } },
  });
  api.app.openapi(route, (c) => c.json(c.req.valid("json"), 200));

  const send = (body: string | Uint8Array<ArrayBuffer>, contentType?: string) =>
    api.request("/probe", {
      method: "POST",
      body,
      headers: contentType === undefined ? {} : { "Content-Type": contentType },
    });

  test("every fault has its JSON pointer", async () => {
    const answer = await send('[{"a/b": "x", "n": 1}, {"a/b": 7, "extra": 1}]', "application/json");
    const { status, errors } = (await answer.json()) as Problem;
    expect(status).toBe(400);
    expect(errors?.map(({ pointer }) => pointer)).toEqual(["#/1/a~1b", "#/1/n", "#/1/extra"]);
    expect(errors?.[0]?.detail).toBe("must be a text");
  });

  test.each([
    ["not JSON", "{", "application/json", 400],
    ["another type", "a=b", "application/x-www-form-urlencoded", 415],
    ["no type", new Uint8Array([1]), undefined, 415],
    ["too much", `"${"x".repeat(70_000)}"`, "application/json", 413],
  ])("%s", async (_name, body, contentType, status) => {
    const answer = await send(body, contentType);
    expect(answer.status).toBe(status);
    expect(answer.headers.get("Content-Type")).toBe("application/problem+json");
  });
});

describe("while not ready", () => {
  const parts = { database: { ok: false, detail: "connection refused" }, relay: { ok: true } };
  const api = apiUnderTest(noPool, { ready: () => ({ ready: false, parts }) });

  test.each([
    ["GET", "/api/v1/messages/sent"],
    ["GET", "/api/v1/scheduler"],
    ["POST", "/api/v1/scheduler/toggle"],
  ])("%s %s says why, and when to ask again", async (method, path) => {
    const answer = await api.request(path, { method });
    expect(answer.status).toBe(503);
    expect(answer.headers.get("Retry-After")).toBe("2");
    expect(await answer.json()).toMatchObject({ detail: "database: connection refused" });
  });

  test("readyz shows the parts, and livez does not care", async () => {
    const answer = await api.request("/readyz");
    expect(answer.status).toBe(503);
    expect(await answer.json()).toEqual({ ready: false, parts });
    expect((await api.request("/livez")).status).toBe(200);
    expect((await api.request("/api/v1/swagger/index.html")).status).toBe(200);
  });

  test("a process without a number to relay under still answers", async () => {
    const parts = { database: { ok: true }, relayer: { ok: false } };
    const answering = apiUnderTest(pool, { ready: () => ({ ready: false, parts }) });
    expect((await answering.request("/api/v1/scheduler")).status).toBe(200);
    expect((await answering.request("/readyz")).status).toBe(503);
  });

  test("livez is 503 with the reason when the process is stuck", async () => {
    const stuck = apiUnderTest(noPool, { alive: () => ({ alive: false, reason: "the loop stands still" }) });
    const answer = await stuck.request("/livez");
    expect(answer.status).toBe(503);
    expect(await answer.json()).toEqual({ alive: false, reason: "the loop stands still" });
  });
});

describe("in an outage", () => {
  test("nobody listens: 503 at once", async () => {
    const away = poolFor(NOBODY);
    const api = apiUnderTest(away);
    for (const [method, path] of [
      ["GET", "/api/v1/messages/sent"],
      ["POST", "/api/v1/scheduler/stop"],
    ] as const) {
      const answer = await api.request(path, { method });
      expect(answer.status).toBe(503);
      expect(answer.headers.get("Retry-After")).toBe("2");
      expect(await answer.json()).toMatchObject({ type: "urn:outbox-relayer:problem:database-unavailable" });
    }
    expect(api.log.filter(({ level }) => level === "warn")).toHaveLength(2);
    await away.end();
  });

  test("someone listens but never answers: 503 after 2 s", async () => {
    const sockets = new Set<Socket>();
    const frozen = createServer((socket) => sockets.add(socket));
    await new Promise<void>((resolve) => frozen.listen(0, "127.0.0.1", resolve));
    const { port } = frozen.address() as { port: number };
    const hanging = new pg.Pool({ connectionString: `postgres://outbox@127.0.0.1:${port}/outbox` });
    const start = performance.now();
    const answer = await apiUnderTest(hanging).request("/api/v1/messages/sent");
    expect(answer.status).toBe(503);
    expect(performance.now() - start).toBeLessThan(3_000);
    for (const socket of sockets) socket.destroy();
    frozen.close();
    await hanging.end();
  });

  test("the session is ended in the middle: 503, and the next request is served", async () => {
    const api = apiUnderTest(pool);
    const blocker = await pool.connect();
    try {
      await blocker.query("begin");
      await blocker.query("lock table outbox.sent in access exclusive mode");
      const waiting = api.request("/api/v1/messages/sent");
      for (let ended = 0; ended === 0; ) {
        const { rowCount } = await pool.query(
          `select pg_terminate_backend(pid) from pg_stat_activity
           where datname = current_database() and wait_event_type = 'Lock' and query like '%outbox.sent%'`,
        );
        ended = rowCount ?? 0;
      }
      expect((await waiting).status).toBe(503);
    } finally {
      await blocker.query("rollback");
      blocker.release();
    }
    expect((await api.request("/api/v1/messages/sent")).status).toBe(200);
  });
});

describe("the unexpected", () => {
  test("is a 500 that gives nothing away, and the log has all of it", async () => {
    const api = apiUnderTest(pool);
    await pool.query("alter table outbox.sent rename column content to body");
    try {
      const answer = await api.request("/api/v1/messages/sent", { headers: { "X-Request-Id": "find-me" } });
      expect(answer.status).toBe(500);
      const text = await answer.text();
      expect(text).not.toMatch(/content|column|select|outbox\.sent|\.ts|at /i);
      expect(text).toContain("find-me");
      const [line] = api.log.filter(({ level }) => level === "error");
      expect(line?.fields).toMatchObject({ request_id: "find-me", path: "/api/v1/messages/sent" });
      expect(line?.fields.err).toBeInstanceOf(pg.DatabaseError);
    } finally {
      await pool.query("alter table outbox.sent rename column body to content");
    }
  });

  test.each<[string, string, number, object]>([
    [
      "select outbox.pause('nope')",
      "refused-message",
      422,
      { errors: [{ detail: expect.stringContaining("nope"), pointer: "#/gateway" }] },
    ],
    [
      "insert into outbox.messages (recipient, content) values ('5', 'hi')",
      "refused-message",
      422,
      { errors: [{ detail: "not e164", pointer: "#/recipient" }] },
    ],
    [
      "insert into outbox.messages (recipient, content, attempts) values ('+905551234567', 'hi', -1)",
      "refused-message",
      422,
      { errors: [{ detail: "attempts negative" }] },
    ],
    ["select outbox.cancel(7)", "unknown-message", 404, { detail: expect.stringContaining("7") }],
    [raise("OB010"), "idempotency-key-reused", 422, { detail: "for users" }],
    [raise("OB011"), "database-unavailable", 503, { detail: expect.stringContaining("a query store") }],
    [raise("25006"), "database-unavailable", 503, { detail: expect.stringContaining("a standby") }],
    [raise("OB005"), "wrong-state", 409, { detail: "for users" }],
    [raise("OB007", "replay_needs_force"), "replay-needs-force", 409, { detail: "for users" }],
    [
      raise("OB007", "replay_needs_force", "message 7 may have been sent: HTTP 202: to +1 555 123 4567"),
      "replay-needs-force",
      409,
      { detail: "message 7 may have been sent: HTTP 202" },
    ],
    [raise("OB007", "replay_needs_expires_at"), "replay-needs-expires-at", 409, { detail: "for users" }],
    [raise("23505"), "dedupe-key-used", 409, { detail: expect.not.stringContaining("for users") }],
    [raise("55P03"), "busy", 503, { detail: expect.not.stringContaining("for users") }],
    [raise("40P01"), "busy", 503, { detail: expect.not.stringContaining("for users") }],
    [raise("57014"), "query-too-slow", 503, { detail: expect.not.stringContaining("for users") }],
    [raise("42P01"), "internal-error", 500, { detail: expect.not.stringContaining("for users") }],
  ])("%s is %s", async (sql, slug, status, rest) => {
    const api = apiUnderTest(pool);
    api.app.get("/probe", async (c) => c.json((await pool.query(sql)).rows));
    const answer = await api.request("/probe");
    expect(answer.status).toBe(status);
    expect(await answer.json()).toMatchObject({
      type: `urn:outbox-relayer:problem:${slug}`,
      status,
      ...rest,
    });
  });

  test("metrics that fail are a 500", async () => {
    const api = apiUnderTest(noPool, { metrics: () => Promise.reject(new Error("no registry")) });
    expect((await api.request("/metrics")).status).toBe(500);
  });
});

test("every request is logged with its id, but without its query", async () => {
  const api = apiUnderTest(pool);
  await api.request("/api/v1/messages/sent?recipient=%2B905551234567", { headers: { "X-Request-Id": "r1" } });
  const lines = api.log.filter(({ fields }) => fields.request_id === "r1");
  expect(lines).toHaveLength(1);
  expect(lines[0]?.fields).toMatchObject({ method: "GET", path: "/api/v1/messages/sent", status: 200 });
  expect(JSON.stringify(lines)).not.toContain("90555");
});

test("answers are not cached, not framed, not sniffed", async () => {
  const { headers } = await apiUnderTest(noPool).request("/livez");
  expect(headers.get("Cache-Control")).toBe("no-store");
  expect(headers.get("Content-Security-Policy")).toBe("default-src 'none'; frame-ancestors 'none'");
  expect(headers.get("X-Content-Type-Options")).toBe("nosniff");
  expect(headers.get("X-Powered-By")).toBeNull();
});

function raise(sqlstate: string, constraint = "", message = "for users"): string {
  return `do $$ begin raise exception using errcode = '${sqlstate}', message = '${message}', constraint = '${constraint}'; end $$`;
}
