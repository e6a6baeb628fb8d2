import { describe, expect, test } from "vitest";
import type { ApiDependencies } from "../../src/api/dependencies.ts";
import { createOperationsApp } from "../../src/api/operations-app.ts";
import { apiUnderTest, noPool, READY } from "./api-under-test.ts";
import type { OpenApiDocument } from "./documented-answers.ts";

const TOKEN = "0123456789abcdef";
const bearer = (token: string) => ({ headers: { Authorization: `Bearer ${token}` } });

describe("/metrics with a token", () => {
  const api = apiUnderTest(noPool, { metricsToken: TOKEN });

  test.each([[TOKEN], [`  ${TOKEN} `]])("is for who sends %j", async (token) => {
    const answer = await api.request("/metrics", bearer(token));
    expect(answer.status).toBe(200);
    expect(await answer.text()).toBe("up 1\n");
  });

  test.each([
    ["none", {}],
    ["another", bearer("0123456789abcdeg")],
    ["one that begins like it", bearer("0123456789abcde")],
    ["one that goes on", bearer(`${TOKEN}0`)],
    ["one with a blank in it", bearer(`${TOKEN} x`)],
    ["it as a password", { headers: { Authorization: `Basic ${TOKEN}` } }],
  ])("with %s it is a 401 that says what to send", async (_, init) => {
    const answer = await api.request("/metrics", init);
    expect(answer.status).toBe(401);
    expect(answer.headers.get("WWW-Authenticate")).toBe('Bearer realm="outbox-relayer metrics"');
    expect(answer.headers.get("Content-Type")).toBe("application/problem+json");
    expect(await answer.json()).toMatchObject({
      detail: "Send metrics.token: Authorization: Bearer <token>.",
    });
  });

  test("the document says so; the probes ask for none", async () => {
    const { paths } = await api.json<OpenApiDocument>("/api/v1/openapi.json");
    expect(paths["/metrics"]?.get).toMatchObject({ security: [{ metricsToken: [] }] });
    expect((await api.request("/livez")).status).toBe(200);
    expect((await api.request("/readyz")).status).toBe(200);
  });
});

describe("on a port of its own", () => {
  const appWith = (overrides: Partial<ApiDependencies> = {}) =>
    createOperationsApp({
      log: () => {},
      alive: () => ({ alive: true }),
      ready: () => READY,
      metrics: async () => ({ contentType: "text/plain; version=0.0.4; charset=utf-8", body: "up 1\n" }),
      ...overrides,
    });

  test("there are the probes and metrics, and nothing else", async () => {
    const app = appWith();
    for (const path of ["/livez", "/readyz", "/metrics"]) expect((await app.request(path)).status).toBe(200);
    for (const path of ["/", "/api/v1/messages", "/api/v1/openapi.json", "/api/v1/swagger/index.html"])
      expect((await app.request(path)).status).toBe(404);
    expect((await app.request("/metrics", { method: "POST" })).status).toBe(405);
  });

  test("as everywhere, what fails is a problem, and nothing is cached", async () => {
    const app = appWith({ metrics: () => Promise.reject(new Error("no registry")) });
    const answer = await app.request("/metrics");
    expect(answer.status).toBe(500);
    expect(answer.headers.get("Content-Type")).toBe("application/problem+json");
    expect(answer.headers.get("Cache-Control")).toBe("no-store");
  });

  test("the token is asked for there, too", async () => {
    const app = appWith({ metricsToken: TOKEN });
    expect((await app.request("/metrics")).status).toBe(401);
    expect((await app.request("/metrics", bearer(TOKEN))).status).toBe(200);
  });

  test("on loopback only loopback names are served", async () => {
    const app = appWith({ loopbackOnly: true });
    const ask = async (Host: string) => (await app.request("/livez", { headers: { Host } })).status;
    expect([await ask("127.0.0.1:9464"), await ask("evil.example")]).toEqual([200, 421]);
  });
});
