import { Webhook } from "standardwebhooks";
import { expect, test } from "vitest";
import { createRequestMaker } from "../../src/gateway/request.ts";
import { startHttpGateway } from "../support/http-gateway.ts";
import { anyMessage, attemptsAt } from "./attempts.ts";

const TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OPTIONS = { url: "http://127.0.0.1/", installation: "x", userAgent: "x" };

test("the request is what the contract says", async () => {
  await using gateway = await startHttpGateway();
  const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
  const { post } = attemptsAt(`${gateway.url}/v1?account=7&x=%C3%A7`, {
    authKey: "k3y",
    secret,
    installation: "blue",
  });
  const content = 'Kodunuz: 123456 "ç" 😀\n';
  await post({ id: 42, recipient: "+905551234567", content, traceparent: TRACEPARENT });

  const request = await gateway.requestFor(42);
  expect(request).toMatchObject({
    method: "POST",
    path: "/sms/v1?account=7&x=%C3%A7",
    id: "msg_blue_42",
    body: { to: "+905551234567", content },
  });
  expect(Object.keys(request.body as object)).toEqual(["to", "content"]);
  expect(request.headers).toEqual({
    host: `127.0.0.1:${gateway.port}`,
    connection: "keep-alive",
    "content-length": String(Buffer.byteLength(request.text)),
    "content-type": "application/json",
    accept: "application/json",
    "user-agent": "outbox-relayer/test",
    "api-key": "k3y",
    "idempotency-key": "msg_blue_42",
    "webhook-id": "msg_blue_42",
    "webhook-timestamp": expect.stringMatching(/^\d{10}$/),
    "webhook-signature": expect.stringMatching(/^v1,/),
    traceparent: TRACEPARENT,
  });
  // Verifies the age of the timestamp, too.
  expect(new Webhook(secret).verify(request.text, request.headers as Record<string, string>)).toEqual(
    request.body,
  );
});

test("what is not configured is not sent", async () => {
  await using gateway = await startHttpGateway();
  await attemptsAt(gateway.url).post({ id: 1 });
  const { headers } = await gateway.requestFor(1);
  expect(Object.keys(headers)).not.toEqual(expect.arrayContaining(["api-key"]));
  for (const name of ["api-key", "webhook-signature", "traceparent", "authorization"])
    expect(headers[name]).toBeUndefined();
});

test("a rejected message that was changed has an id of its own, at every attempt the same", async () => {
  await using gateway = await startHttpGateway();
  const { post } = attemptsAt(gateway.url);
  await post({ id: 7 });
  await post({ id: 7, revision: 2 });
  await post({ id: 7, revision: 2 });
  expect(gateway.counts).toEqual(
    new Map([
      ["msg_test_7", 1],
      ["msg_test_7_2", 2],
    ]),
  );
  expect(gateway.requests.at(-1)?.headers["webhook-id"]).toBe("msg_test_7_2");
});

test("what has an end says how many whole seconds it has left", async () => {
  await using gateway = await startHttpGateway();
  const { post } = attemptsAt(gateway.url);
  await post({ id: 1, expiresAtMs: performance.now() + 90_900 });
  await post({ id: 2 });
  expect((await gateway.requestFor(1)).headers["webhook-expires-in"]).toBe("90");
  expect((await gateway.requestFor(2)).headers["webhook-expires-in"]).toBeUndefined();
});

test("the id is the same on every attempt", async () => {
  await using gateway = await startHttpGateway();
  const { post } = attemptsAt(gateway.url);
  await post({ id: 9_007_199_254_740_991 });
  await post({ id: 9_007_199_254_740_991 });
  expect(gateway.counts).toEqual(new Map([["msg_test_9007199254740991", 2]]));
});

test.each([
  "",
  "nonsense",
  "00-0-0-01",
  `${TRACEPARENT}\r\nx: y`,
  TRACEPARENT.replace("00-", "ff-"),
  TRACEPARENT.replace(/-[0-9a-f]{32}-/, `-${"0".repeat(32)}-`),
  TRACEPARENT.replace(/-[0-9a-f]{16}-/, `-${"0".repeat(16)}-`),
])("the malformed traceparent %j is left out", async (traceparent) => {
  await using gateway = await startHttpGateway();
  expect(await attemptsAt(gateway.url).post({ traceparent })).toMatchObject({ kind: "accepted" });
  expect(gateway.requests[0]?.headers).not.toHaveProperty("traceparent");
});

test("any text arrives as it was written", async () => {
  await using gateway = await startHttpGateway();
  const { post } = attemptsAt(gateway.url);
  for (const content of ["", "\u0000", "\u2028", "</script>", "\\", "a".repeat(1_600), "😀".repeat(800)]) {
    await post({ content });
    expect(gateway.requests.at(-1)?.body).toMatchObject({ content });
  }
});

test("a URL without a path, and one with credentials", () => {
  const message = anyMessage(1);
  expect(createRequestMaker({ ...OPTIONS, url: "http://127.0.0.1" })(message)).toMatchObject({ path: "/" });
  const { headers } = createRequestMaker({ ...OPTIONS, url: "http://me:p%40ss@127.0.0.1/" })(message);
  expect(headers).toContain(`Basic ${Buffer.from("me:p@ss").toString("base64")}`);
});

test.each([
  ["an auth key with a line break", { authKey: "a\r\nb: c" }],
  ["an auth key that is not ASCII", { authKey: "çok gizli" }],
  ["a secret that is not base64", { secret: "?" }],
  ["a URL that is none", { url: "sms" }],
  ["an installation with a control character", { installation: "a\u0000" }],
  ["a user agent with a line break", { userAgent: "a\n" }],
])("%s is refused at once", (_name, wrong) => {
  expect(() => createRequestMaker({ ...OPTIONS, ...wrong })).toThrow(TypeError);
});
