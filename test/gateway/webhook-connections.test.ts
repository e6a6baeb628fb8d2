import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { createServer as createTcpServer, type Server } from "node:net";
import { getCACertificates, setDefaultCACertificates, type TLSSocket } from "node:tls";
import { expect, onTestFinished, test } from "vitest";
import { startHttpGateway } from "../support/http-gateway.ts";
import { attemptsAt } from "./attempts.ts";
import { selfSignedCertificate } from "./self-signed-certificate.ts";

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

async function freePort(): Promise<number> {
  const gateway = await startHttpGateway();
  await gateway.close();
  return gateway.port;
}

/** Takes connections and never says a word, so that a TLS handshake never ends. */
async function silentServer(): Promise<{ url: string; firstClosed: Promise<void> }> {
  const first = Promise.withResolvers<void>();
  const server = createTcpServer((socket) => {
    socket.resume();
    socket.on("error", () => {});
    socket.on("close", () => first.resolve());
    onTestFinished(() => void socket.destroy());
  });
  return { url: `https://127.0.0.1:${await listen(server)}/`, firstClosed: first.promise };
}

test("a refused connection is retried", async () => {
  const port = await freePort();
  expect(await attemptsAt(`http://127.0.0.1:${port}/`).post()).toMatchObject({
    kind: "retry",
    httpStatus: null,
    error: `connection refused (ECONNREFUSED 127.0.0.1:${port})`,
  });
});

test("a host that does not exist is retried", async () => {
  const outcome = await attemptsAt("http://gateway.invalid/").post();
  expect(outcome).toMatchObject({ kind: "retry", httpStatus: null });
  expect(outcome.error).toMatch(/^host name .*gateway\.invalid\)$/);
});

test("a failed TLS handshake is retried", async () => {
  await using gateway = await startHttpGateway();
  const outcome = await attemptsAt(`https://127.0.0.1:${gateway.port}/`).post();
  expect(outcome).toMatchObject({ kind: "retry", httpStatus: null });
  expect(outcome.error).toMatch(/^TLS failed: /);
  expect(gateway.requests).toHaveLength(0);
});

test("a certificate that is not trusted is retried, and nothing is sent; a trusted one is used", async () => {
  const certificate = selfSignedCertificate();
  const resumed: boolean[] = [];
  const server = createTlsServer(certificate, (request, response) => {
    resumed.push((request.socket as TLSSocket).isSessionReused());
    response.writeHead(202, { connection: "close" }).end('{"message": "Accepted", "messageId": "tls"}');
  });
  const { post } = attemptsAt(`https://127.0.0.1:${await listen(server)}/`, { concurrency: 1 });
  expect(await post()).toMatchObject({
    kind: "retry",
    error: expect.stringMatching(/^TLS failed: self-signed certificate.*\(DEPTH_ZERO_SELF_SIGNED_CERT\)$/),
  });
  expect(resumed).toEqual([]);

  const trusted = getCACertificates("default");
  onTestFinished(() => setDefaultCACertificates(trusted));
  setDefaultCACertificates([...trusted, certificate.cert]);
  expect(await post()).toMatchObject({ kind: "accepted", gatewayMessageId: "tls" });
  expect(await post()).toMatchObject({ kind: "accepted", gatewayMessageId: "tls" });
  expect(resumed).toEqual([false, true]);
});

test("a connection that does not open in time is retried, and its slot is free for the next", async () => {
  const { url, firstClosed } = await silentServer();
  const { post } = attemptsAt(url, { timeoutMs: 200, concurrency: 1 });
  for (let nth = 1; nth <= 3; nth += 1) {
    const outcome = await post();
    expect(outcome).toMatchObject({ kind: "retry", httpStatus: null, error: "no connection within 200 ms" });
    expect(outcome.durationMs).toBeGreaterThanOrEqual(200);
  }
  await firstClosed;
});

test("what expires while it waits for a connection is not sent, and the connection serves the next", async () => {
  const answer = Promise.withResolvers<object>();
  await using gateway = await startHttpGateway({ answer: ({ nth }) => (nth === 1 ? answer.promise : {}) });
  const { post } = attemptsAt(gateway.url, { concurrency: 1 });
  const first = post();
  await gateway.received(1);
  const expiresAtMs = performance.now() + 20;
  const late = post({ id: 2, expiresAtMs });
  const next = post({ id: 3, expiresAtMs: performance.now() + 60_000 });
  while (performance.now() < expiresAtMs) await new Promise(setImmediate);
  answer.resolve({});
  expect(await first).toMatchObject({ kind: "accepted" });
  expect(await late).toMatchObject({
    kind: "retry",
    error: "its time was over before there was a connection",
  });
  expect(await next).toMatchObject({ kind: "accepted" });
  expect(gateway.counts.has("msg_test_2")).toBe(false);
  expect(gateway.mostConnections).toBe(1);
});

test("close gives up connections that are still opening", async () => {
  const { url } = await silentServer();
  const { post, webhook } = attemptsAt(url, { timeoutMs: 60_000 });
  const waiting = post();
  webhook.abort("stopping");
  expect(await waiting).toMatchObject({ kind: "retry", error: "stopping" });
  await webhook.close();
});

test("a gateway that comes back is used again", async () => {
  const first = await startHttpGateway();
  const { post } = attemptsAt(first.url);
  expect(await post()).toMatchObject({ kind: "accepted" });
  await first.close();
  expect(await post()).toMatchObject({ kind: "retry" });
  await using second = await startHttpGateway({ port: first.port });
  expect(await post()).toMatchObject({ kind: "accepted" });
  expect(second.requests).toHaveLength(1);
});

test("connections are kept and used again", async () => {
  await using gateway = await startHttpGateway();
  const { post } = attemptsAt(gateway.url);
  for (let nth = 1; nth <= 20; nth += 1) expect(await post()).toMatchObject({ kind: "accepted" });
  // The next message comes while undici is still putting the connection back.
  expect(gateway.mostConnections).toBeLessThanOrEqual(2);
});

test("a gateway that closes connections it promised to keep costs no message", async () => {
  await using gateway = await startHttpGateway({ answer: () => ({ thenClose: true }) });
  const { post } = attemptsAt(gateway.url, { concurrency: 2 });
  const outcomes = await Promise.all(Array.from({ length: 100 }, () => post()));
  // A request may meet the close on its way: then nobody knows, and the id protects the message.
  for (const outcome of outcomes) expect(["accepted", "unknown"]).toContain(outcome.kind);
  expect([...gateway.counts.values()].every((count) => count === 1)).toBe(true);
  expect(outcomes.filter((outcome) => outcome.kind === "accepted").length).toBeGreaterThan(0);
});
