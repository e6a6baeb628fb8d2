import { once } from "node:events";
import { Agent, get, type IncomingMessage } from "node:http";
import { connect, createServer } from "node:net";
import { Hono } from "hono";
import { expect, test } from "vitest";
import { type RunningServer, ServerError, startServer } from "../../src/api/server.ts";

const HOST = "127.0.0.1";

async function withServer<T>(
  app: Hono,
  graceMs: number,
  use: (server: RunningServer) => Promise<T>,
): Promise<T> {
  const server = await startServer({ app, host: HOST, port: 0, graceMs });
  try {
    return await use(server);
  } finally {
    await server.stop();
  }
}

async function answer(
  url: string,
  agent?: Agent,
  headers?: Record<string, string>,
): Promise<IncomingMessage> {
  const [response] = (await once(get(url, { agent, headers }), "response")) as [IncomingMessage];
  return response;
}

async function text(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

async function timeOf(work: Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work;
  return performance.now() - start;
}

const hello = () => new Hono().get("/", (c) => c.text("hello"));

test("serves the app at its url", async () => {
  await withServer(hello(), 1_000, async ({ url }) => {
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    expect(await text(await answer(url))).toBe("hello");
  });
});

test("on all addresses, its url is still one to open", async () => {
  const server = await startServer({ app: hello(), host: "0.0.0.0", port: 0, graceMs: 1_000 });
  expect(server.url).toMatch(/^http:\/\/localhost:\d+$/);
  await server.stop();
});

test("a port that is taken: says which, and what to do", async () => {
  const other = createServer().listen(0, HOST);
  await once(other, "listening");
  const { port } = other.address() as { port: number };
  const start = startServer({ app: hello(), host: HOST, port, graceMs: 1_000 });
  await expect(start).rejects.toThrow(ServerError);
  await expect(start).rejects.toThrow(
    `Port ${port} on 127.0.0.1 is taken by another program: stop it, or set PORT to another.`,
  );
  other.close();
});

test.each([
  ["192.0.2.1", "This machine has no address 192.0.2.1: set HOST to one it has"],
  ["no-such-host.invalid", "The name no-such-host.invalid cannot be resolved: set HOST"],
])("an address that is not ours, %s: says what to do", async (host, message) => {
  await expect(startServer({ app: hello(), host, port: 0, graceMs: 1_000 })).rejects.toThrow(message);
});

test("a request that makes no URL is a problem too", async () => {
  await withServer(hello(), 1_000, async ({ url }) => {
    const response = await answer(url, undefined, { Host: "a b" });
    expect(response.statusCode).toBe(400);
    expect(response.headers).toMatchObject({
      "content-type": "application/problem+json",
      "cache-control": "no-store",
      "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
      "x-content-type-options": "nosniff",
    });
    const requestId = response.headers["x-request-id"];
    expect(JSON.parse(await text(response))).toMatchObject({
      status: 400,
      instance: `urn:outbox-relayer:request:${requestId}`,
    });
  });
});

test("stop closes idle keep-alive connections, and those that never asked, at once", async () => {
  const agent = new Agent({ keepAlive: true });
  await withServer(hello(), 10_000, async ({ url, stop }) => {
    await text(await answer(url, agent));
    const silent = connect(Number(new URL(url).port), HOST);
    await once(silent, "connect");
    const closed = once(silent.resume(), "close");
    await text(await answer(url, agent)); // by now the server knows the silent one
    expect(await timeOf(stop())).toBeLessThan(1_000);
    await closed;
  });
  agent.destroy();
});

test("stop lets a request finish, then closes its connection, and takes no new one", async () => {
  const begun = Promise.withResolvers<void>();
  const finish = Promise.withResolvers<void>();
  const app = new Hono().get("/", async (c) => {
    begun.resolve();
    await finish.promise;
    return c.text("finished");
  });
  const agent = new Agent({ keepAlive: true });
  await withServer(app, 10_000, async ({ url, stop }) => {
    const response = answer(url, agent);
    await begun.promise;
    const stopped = stop();
    await expect(answer(url)).rejects.toThrow("ECONNREFUSED");
    finish.resolve();
    expect(await text(await response)).toBe("finished");
    expect(await timeOf(stopped)).toBeLessThan(1_000);
  });
  agent.destroy();
});

test("stop cuts off what does not finish in time", async () => {
  const begun = Promise.withResolvers<void>();
  const app = new Hono().get("/", () => {
    begun.resolve();
    return new Promise<never>(() => {});
  });
  await withServer(app, 200, async ({ url, stop }) => {
    const response = answer(url);
    const cutOff = expect(response).rejects.toThrow("socket hang up");
    await begun.promise;
    const took = await timeOf(stop());
    expect(took).toBeGreaterThan(150);
    expect(took).toBeLessThan(2_000);
    await cutOff;
  });
});

test("stopping twice is fine", async () => {
  const server = await startServer({ app: hello(), host: HOST, port: 0, graceMs: 1_000 });
  await Promise.all([server.stop(), server.stop()]);
  await server.stop();
});
