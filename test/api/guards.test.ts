import type pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isLoopback } from "../../src/config/loopback.ts";
import { useDatabase } from "../support/database.ts";
import { apiUnderTest, noPool, poolFor } from "./api-under-test.ts";

const database = useDatabase();
let pool: pg.Pool;

beforeAll(() => {
  pool = poolFor(database.url);
});
afterAll(() => pool.end());

describe("a POST that a web page elsewhere could cause", () => {
  const stop = async (headers: Record<string, string>) =>
    (await apiUnderTest(pool).request("/api/v1/scheduler/stop", { method: "POST", headers })).status;

  test.each([
    ["another site", { Host: "127.0.0.1:8080", Origin: "https://evil.example" }],
    ["another port", { Host: "127.0.0.1:8080", Origin: "http://127.0.0.1:3000" }],
    ["another name for this machine", { Host: "127.0.0.1:8080", Origin: "http://localhost:8080" }],
    ["a sandboxed frame", { Host: "127.0.0.1:8080", Origin: "null" }],
    ["a browser that says so", { Host: "127.0.0.1:8080", "Sec-Fetch-Site": "cross-site" }],
    [
      "a browser that says so, whatever the Origin",
      { Host: "a.example", Origin: "http://a.example", "Sec-Fetch-Site": "cross-site" },
    ],
  ])("%s is refused", async (_name, headers) => {
    expect(await stop(headers)).toBe(403);
  });

  test.each([
    ["curl", { Host: "127.0.0.1:8080" }],
    [
      "Swagger UI",
      { Host: "localhost:8080", Origin: "http://localhost:8080", "Sec-Fetch-Site": "same-origin" },
    ],
    ["a page behind a TLS proxy", { Host: "relay.example", Origin: "https://relay.example" }],
    ["a port that goes without saying", { Host: "relay.example:443", Origin: "https://relay.example" }],
    ["the address bar", { Host: "[::1]:8080", Origin: "http://[::1]:8080", "Sec-Fetch-Site": "none" }],
  ])("%s is served", async (_name, headers) => {
    expect(await stop(headers)).toBe(200);
  });

  test("is refused before anything changes", async () => {
    await pool.query("select outbox.resume(actor => 'dba')");
    await stop({ Host: "localhost", Origin: "https://evil.example" });
    const { rows } = await pool.query("select running from outbox.scheduler");
    expect(rows).toEqual([{ running: true }]);
  });

  test("a link from elsewhere to something that only reads is fine", async () => {
    const headers = { "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate" };
    expect((await apiUnderTest(pool).request("/api/v1/scheduler", { headers })).status).toBe(200);
  });
});

describe("a server on loopback", () => {
  const statusFor = async (host: string, loopbackOnly = true) =>
    (await apiUnderTest(noPool, { loopbackOnly }).request("/livez", { headers: { Host: host } })).status;

  test.each([
    "localhost",
    "localhost:8080",
    "LOCALHOST:1",
    "127.0.0.1",
    "127.0.0.1:8080",
    "127.8.0.1",
    "[::1]:8080",
  ])("answers to %s", async (host) => {
    expect(await statusFor(host)).toBe(200);
  });

  test.each([
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example:8080",
    "192.168.1.5",
    "[::2]",
    "a@localhost",
  ])("does not answer to %s", async (host) => {
    expect(await statusFor(host)).toBe(421);
  });

  test("elsewhere every name is fine", async () => {
    expect(await statusFor("relay.example", false)).toBe(200);
  });
});

test("which addresses are loopback", () => {
  for (const host of ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
    expect(isLoopback(host), host).toBe(true);
  for (const host of ["0.0.0.0", "::", "10.0.0.1", "relay.example"])
    expect(isLoopback(host), host).toBe(false);
});
