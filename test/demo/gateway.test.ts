import net from "node:net";
import { afterEach, beforeEach, expect, it } from "vitest";
import { type AcceptedMessage, type DemoGateway, startDemoGateway } from "../../src/demo/gateway.ts";

let gateway: DemoGateway;
let log: AcceptedMessage[];

beforeEach(async () => {
  log = [];
  gateway = await startDemoGateway({ port: 0, log: (entry) => log.push(entry) });
});
afterEach(() => gateway.stop());

const MESSAGE = { to: "+905551234567", content: "hi" };

async function post(body: string, headers: Record<string, string> = {}, path = "") {
  const response = await fetch(gateway.url + path, { method: "POST", body, headers });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

it("accepts a message on any path, logs it and counts it", async () => {
  const answers = [
    await post(JSON.stringify(MESSAGE)),
    await post(JSON.stringify({ ...MESSAGE, more: 1 }), {}, "v1/sms?x=1"),
  ];
  for (const { status, body } of answers) {
    expect(status).toBe(202);
    expect(body).toEqual({ message: "Accepted", messageId: expect.stringMatching(/^[0-9a-f-]{36}$/) });
  }
  expect(log).toEqual(answers.map(({ body }) => ({ ...MESSAGE, messageId: body.messageId })));
  const home = await fetch(gateway.url);
  expect(await home.json()).toEqual({ message: expect.stringContaining("demo SMS gateway"), accepted: 2 });
});

it("answers a repeated Idempotency-Key with the same id, and takes the message once", async () => {
  const keyed = (key: string) => post(JSON.stringify(MESSAGE), { "Idempotency-Key": key });
  const [first, again, other] = [await keyed("msg_a_1"), await keyed("msg_a_1"), await keyed("msg_a_2")];
  expect(again).toEqual(first);
  expect(other.body.messageId).not.toBe(first.body.messageId);
  expect(log).toHaveLength(2);
  expect((await keyed("x".repeat(256))).status).toBe(400);
});

it("forgets keys beyond the last 10,000", async () => {
  const first = await post(JSON.stringify(MESSAGE), { "Idempotency-Key": "0" });
  // One connection with everything in one go, because 10,000 calls of fetch take seconds.
  const body = JSON.stringify(MESSAGE);
  const request = (key: number) =>
    `POST / HTTP/1.1\r\nHost: x\r\nIdempotency-Key: ${key}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  const socket = net.connect(Number(new URL(gateway.url).port), "127.0.0.1");
  socket.write(Array.from({ length: 10_000 }, (_, index) => request(index + 1)).join(""));
  let answered = 0;
  for await (const chunk of socket) {
    answered += String(chunk).split("HTTP/1.1 202").length - 1;
    if (log.length === 10_001) break;
  }
  expect(answered).toBeGreaterThan(0);
  const kept = await post(body, { "Idempotency-Key": "1" });
  expect(kept.body.messageId).toBe(log[1]?.messageId);
  const forgotten = await post(body, { "Idempotency-Key": "0" });
  expect(forgotten.body.messageId).not.toBe(first.body.messageId);
});

it.each([
  ["no JSON", "{", /not JSON/],
  ["nothing", "", /not JSON/],
  ["no object", "null", /not a JSON object/],
  ["no recipient", '{"content":"hi"}', /"to"/],
  ["an empty recipient", '{"to":"","content":"hi"}', /"to"/],
  ["no content", '{"to":"+905551234567"}', /"content"/],
  ["content that is no text", '{"to":"+905551234567","content":1}', /"content"/],
])("refuses %s with 400", async (_, body, reason) => {
  expect(await post(body)).toEqual({ status: 400, body: { message: expect.stringMatching(reason) } });
  expect(log).toEqual([]);
});

it("refuses a body over 64 KiB, announced or not", async () => {
  const large = JSON.stringify({ ...MESSAGE, content: "x".repeat(70_000) });
  const refused = { status: 413, body: { message: "The body is larger than 65536 bytes." } };
  expect(await post(large)).toEqual(refused);
  const chunked = await fetch(gateway.url, {
    method: "POST",
    body: new Blob([large, large]).stream(),
    duplex: "half",
  });
  expect({ status: chunked.status, body: await chunked.json() }).toEqual(refused);
  const justFits = 65_536 - JSON.stringify({ ...MESSAGE, content: "" }).length;
  expect((await post(JSON.stringify({ ...MESSAGE, content: "x".repeat(justFits) }))).status).toBe(202);
  expect(log).toHaveLength(1);
});

it("refuses other methods with 405 and names the ones it has, and other pages with 404", async () => {
  for (const method of ["PUT", "PATCH", "DELETE", "OPTIONS"]) {
    const response = await fetch(gateway.url, { method, body: method === "PUT" ? "{}" : null });
    expect(response.status).toBe(405);
    expect(response.headers.get("allow")).toBe("GET, HEAD, POST");
    expect(await response.json()).toEqual({ message: expect.any(String) });
  }
  expect((await fetch(`${gateway.url}elsewhere`)).status).toBe(404);
  expect((await fetch(gateway.url, { method: "HEAD" })).status).toBe(200);
});

it("stops at once although a client is in the middle of a request, and may be stopped twice", async () => {
  const socket = net.connect(Number(new URL(gateway.url).port), "127.0.0.1");
  socket.on("error", () => {});
  socket.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n");
  // "100 Continue" says that the request has begun.
  await new Promise((resolve) => socket.once("data", resolve));
  const closed = new Promise((resolve) => socket.once("close", resolve));
  await Promise.all([gateway.stop(), closed]);
  await gateway.stop();
});

it("rejects a port that is taken", async () => {
  const port = Number(new URL(gateway.url).port);
  await expect(startDemoGateway({ port, log: () => {} })).rejects.toMatchObject({ code: "EADDRINUSE" });
});
