import { expect, test } from "vitest";
import type { OutcomeKind } from "../../src/gateway/outcome.ts";
import { type Answer, startHttpGateway } from "../support/http-gateway.ts";
import { attemptsAt } from "./attempts.ts";

const RECEIPT = '{"message": "Accepted", "messageId": "gw-7"}';
const SHORT_MS = 300;

interface Case {
  readonly name: string;
  readonly answer: Answer;
  readonly kind: OutcomeKind;
  readonly status?: number | null;
  readonly error?: RegExp;
  readonly retryAfterMs?: number;
  readonly timeoutMs?: number;
}

function raw(head: string, body = "", end = false): Answer {
  return { fault: "raw", bytes: `HTTP/1.1 ${head}\r\n\r\n${body}`, end };
}

const STATUSES: [OutcomeKind, number[]][] = [
  [
    "rejected",
    [
      200, 201, 203, 204, 205, 206, 226, 400, 406, 409, 411, 412, 413, 414, 415, 417, 418, 421, 422, 426, 431,
      451,
    ],
  ],
  ["hold", [300, 301, 302, 303, 304, 305, 307, 308, 401, 402, 403, 404, 405, 407, 410]],
  ["retry", [408, 425, 500, 501, 502, 503, 504, 505, 507, 511, 599]],
  ["throttled", [429]],
];

test.each(STATUSES.flatMap(([kind, statuses]) => statuses.map((status) => ({ kind, status }))))(
  "$status is $kind",
  async ({ kind, status }) => {
    await using gateway = await startHttpGateway({ answer: () => ({ status }) });
    expect(await attemptsAt(gateway.url).post()).toMatchObject({
      kind,
      httpStatus: status,
      gatewayMessageId: null,
    });
    expect(gateway.requests).toHaveLength(1);
  },
);

const ANSWERS: Case[] = [
  { name: "the receipt", answer: {}, kind: "accepted", status: 202 },
  { name: "a slow receipt", answer: { delayMs: 50 }, kind: "accepted", status: 202 },
  { name: "early hints, then the receipt", answer: { earlyHints: true }, kind: "accepted", status: 202 },
  {
    name: "early hints, then a fault",
    answer: { earlyHints: true, status: 500 },
    kind: "retry",
    status: 500,
  },
  {
    name: "a receipt that ends with the connection",
    answer: raw("202 Accepted\r\nconnection: close", RECEIPT, true),
    kind: "accepted",
    status: 202,
  },
  {
    name: "a receipt in chunks",
    answer: raw(
      "202 Accepted\r\ntransfer-encoding: chunked",
      `10\r\n${RECEIPT.slice(0, 16)}\r\n1c\r\n${RECEIPT.slice(16)}\r\n0\r\n\r\n`,
      true,
    ),
    kind: "accepted",
    status: 202,
  },
  {
    name: "HTML with 202",
    answer: { body: "<html>Accepted</html>" },
    kind: "rejected",
    status: 202,
    error: /^HTTP 202: <html>Accepted<\/html> \(expected/,
  },
  {
    name: "HTML with 502",
    answer: { status: 502, body: "<html>\n <h1>Bad Gateway" },
    kind: "retry",
    status: 502,
    error: /^HTTP 502: <html> <h1>Bad Gateway$/,
  },
  {
    name: "10 MB with 202",
    answer: { body: Buffer.alloc(10_000_000, " ") },
    kind: "rejected",
    status: 202,
    error: /too long/,
  },
  {
    name: "10 MB with 500",
    answer: { status: 500, body: Buffer.alloc(10_000_000, "x") },
    kind: "retry",
    status: 500,
    error: /^HTTP 500: x{500} \(the answer was too long\)$/,
  },
  {
    name: "64 KiB to the byte with 202",
    answer: { body: RECEIPT.padEnd(64 * 1024) },
    kind: "accepted",
    status: 202,
  },
  {
    name: "64 KiB and a byte with 202",
    answer: { body: RECEIPT.padEnd(64 * 1024 + 1) },
    kind: "rejected",
    status: 202,
    error: /too long/,
  },
  {
    name: "bytes that are no text",
    answer: { status: 400, body: Buffer.from([0, 1, 0xff, 0x61]) },
    kind: "rejected",
    status: 400,
    error: /^HTTP 400: \ufffda$/,
  },
  {
    name: "429 with Retry-After",
    answer: { status: 429, headers: { "retry-after": "3" } },
    kind: "throttled",
    status: 429,
    retryAfterMs: 3_000,
  },
  {
    name: "503 with Retry-After",
    answer: { status: 503, headers: { "Retry-After": "3" } },
    kind: "throttled",
    status: 503,
    retryAfterMs: 3_000,
  },
  {
    name: "504 with Retry-After",
    answer: { status: 504, headers: { "retry-after": "3" } },
    kind: "retry",
    status: 504,
    retryAfterMs: 3_000,
  },
  {
    name: "two Retry-Afters",
    answer: raw("429 Slow\r\nretry-after: 3\r\nretry-after: 5\r\ncontent-length: 0", "", true),
    kind: "throttled",
    status: 429,
    retryAfterMs: 3_000,
  },
  {
    name: "a redirect",
    answer: { status: 302, body: "", headers: { location: "/sms" } },
    kind: "hold",
    status: 302,
    error: /^HTTP 302 \(redirects are not followed; it points to \/sms\)$/,
  },
  {
    name: "another protocol",
    answer: raw("101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket"),
    kind: "hold",
    status: 101,
  },
  { name: "another protocol, unnamed", answer: raw("101 Switching Protocols"), kind: "hold", status: 101 },
];

const AFTER_THE_SEND: Case[] = [
  {
    name: "a reset",
    answer: { fault: "reset" },
    kind: "unknown",
    status: null,
    error: /ECONNRESET.*; outcome unknown$/,
  },
  {
    name: "a reset in the middle of 202",
    answer: { fault: "reset-mid-answer" },
    kind: "unknown",
    status: 202,
    error: /^HTTP 202, but connection reset .*; outcome unknown$/,
  },
  {
    name: "a reset in the middle of 500",
    answer: { fault: "reset-mid-answer", status: 500 },
    kind: "retry",
    status: 500,
    error: /^HTTP 500: .* \(connection reset/,
  },
  {
    name: "a reset in the middle of 400",
    answer: { fault: "reset-mid-answer", status: 400 },
    kind: "rejected",
    status: 400,
  },
  {
    name: "a close instead of an answer",
    answer: { fault: "raw", bytes: "", end: true },
    kind: "unknown",
    status: null,
    error: /^connection closed by the gateway .*; outcome unknown$/,
  },
  {
    name: "a close in the middle of the headers",
    answer: { fault: "raw", bytes: "HTTP/1.1 202 Acc", end: true },
    kind: "unknown",
    status: null,
  },
  {
    name: "silence",
    answer: { fault: "hang" },
    kind: "unknown",
    status: null,
    timeoutMs: SHORT_MS,
    error: /^no answer within 300 ms; outcome unknown$/,
  },
  {
    name: "silence after half a 202",
    answer: { fault: "stall" },
    kind: "unknown",
    status: 202,
    timeoutMs: SHORT_MS,
    error: /^HTTP 202, but the answer did not end within 300 ms; outcome unknown$/,
  },
  {
    name: "silence after half a 503",
    answer: { fault: "stall", status: 503 },
    kind: "retry",
    status: 503,
    timeoutMs: SHORT_MS,
  },
  { name: "a dripping 202", answer: { fault: "drip" }, kind: "unknown", status: 202, timeoutMs: SHORT_MS },
  {
    name: "a dripping 401",
    answer: { fault: "drip", status: 401 },
    kind: "hold",
    status: 401,
    timeoutMs: SHORT_MS,
  },
  {
    name: "hints, and then silence",
    answer: raw("103 Early Hints"),
    kind: "unknown",
    status: null,
    timeoutMs: SHORT_MS,
  },
  {
    name: "less than content-length",
    answer: raw("202 Accepted\r\ncontent-length: 100", RECEIPT, true),
    kind: "unknown",
    status: 202,
  },
  {
    name: "less than content-length, kept open",
    answer: raw("202 Accepted\r\ncontent-length: 100", RECEIPT),
    kind: "unknown",
    status: 202,
    timeoutMs: SHORT_MS,
  },
  {
    name: "a content-length that is no number",
    answer: raw("202 Accepted\r\ncontent-length: ten", RECEIPT),
    kind: "unknown",
    status: null,
    error: /^malformed answer: .*; outcome unknown$/,
  },
  {
    name: "two content-lengths",
    answer: raw("202 Accepted\r\ncontent-length: 2\r\ncontent-length: 3", "{}"),
    kind: "unknown",
    status: null,
  },
  {
    name: "what is not HTTP",
    answer: { fault: "raw", bytes: "220 smtp.example ESMTP\r\n" },
    kind: "unknown",
    status: null,
    error: /^malformed answer/,
  },
  {
    name: "a broken chunk",
    answer: raw("202 Accepted\r\ntransfer-encoding: chunked", "zz\r\n"),
    kind: "unknown",
    status: 202,
    error: /malformed answer/,
  },
  {
    name: "100 KB of headers",
    answer: raw(`202 Accepted\r\nx: ${"y".repeat(100_000)}`, RECEIPT),
    kind: "unknown",
    status: null,
    error: /headers are too large/,
  },
  { name: "an unasked 100 Continue", answer: raw("100 Continue"), kind: "unknown", status: null },
  { name: "a status below 100", answer: raw("099 Odd\r\ncontent-length: 0"), kind: "unknown", status: null },
];

test.each([...ANSWERS, ...AFTER_THE_SEND])("$name is $kind", async (it) => {
  await using gateway = await startHttpGateway({ answer: () => it.answer });
  const { post, deadlines } = attemptsAt(gateway.url, { timeoutMs: it.timeoutMs ?? 10_000, concurrency: 1 });
  const outcome = await post();
  expect(outcome).toMatchObject({
    kind: it.kind,
    httpStatus: it.status,
    retryAfterMs: it.retryAfterMs ?? null,
  });
  expect(outcome.gatewayMessageId !== null).toBe(it.kind === "accepted");
  if (it.error) expect(outcome.error).toMatch(it.error);
  if (it.timeoutMs) expect(outcome.durationMs).toBeGreaterThanOrEqual(it.timeoutMs);
  expect(Number.isSafeInteger(outcome.durationMs)).toBe(true);
  expect(deadlines.size).toBe(0);

  // The one slot is free again, and nothing was sent twice.
  gateway.answerWith(() => ({}));
  expect(await post()).toMatchObject({ kind: "accepted" });
  expect([...gateway.counts.values()]).toEqual([1, 1]);
});

test("an answer with more than its content-length does not spill into the next", async () => {
  await using gateway = await startHttpGateway();
  const spill = raw(
    `202 Accepted\r\ncontent-length: ${RECEIPT.length}`,
    `${RECEIPT}HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n`,
  );
  gateway.answerWith((request) => (request.nth === 1 ? spill : {}));
  const { post } = attemptsAt(gateway.url, { concurrency: 1 });
  expect(await post()).toMatchObject({ kind: "accepted", gatewayMessageId: "gw-7" });
  expect(await post()).toMatchObject({ kind: "accepted", gatewayMessageId: "gw-2" });
});

test("an answer that never ends does not stay open", async () => {
  await using gateway = await startHttpGateway({ answer: () => ({ fault: "drip" }) });
  await attemptsAt(gateway.url, { timeoutMs: SHORT_MS }).post();
  await gateway.disconnected();
});
