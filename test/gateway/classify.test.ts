import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Answer, classifyAnswer, classifyFailure } from "../../src/gateway/classify.ts";
import type { Outcome, OutcomeKind } from "../../src/gateway/outcome.ts";

const NOW = Date.UTC(2026, 10, 23);
const RECEIPT = '{"message": "Accepted", "messageId": "gw-1"}';

function classify(
  status: number,
  answer: Partial<Omit<Answer, "body">> & { body?: string | Buffer } = {},
): Outcome {
  const body = Buffer.from(answer.body ?? "");
  const rest = { retryAfter: undefined, location: undefined, oversized: false, cut: null };
  return classifyAnswer({ ...rest, ...answer, status, body }, NOW, 12);
}

test("202 with a receipt is accepted", () => {
  expect(classify(202, { body: RECEIPT })).toEqual({
    kind: "accepted",
    httpStatus: 202,
    gatewayMessageId: "gw-1",
    error: null,
    durationMs: 12,
    retryAfterMs: null,
  });
});

test.each([
  ["200 with a perfect body", 200, RECEIPT],
  ["201 with a perfect body", 201, RECEIPT],
  ["202 with HTML", 202, "<html>Accepted</html>"],
  ["202 without a body", 202, ""],
  ["202 without an id", 202, '{"message": "Accepted"}'],
  ["204", 204, ""],
  ["299", 299, RECEIPT],
])("%s is rejected", (_name, status, body) => {
  const outcome = classify(status, { body });
  expect(outcome).toMatchObject({ kind: "rejected", httpStatus: status, gatewayMessageId: null });
  expect(outcome.error).toMatch(
    new RegExp(`^HTTP ${status}.*\\(expected 202 with the message "Accepted" and a messageId\\)$`),
  );
});

test("an oversized 202 is rejected, though its beginning is a receipt", () => {
  const outcome = classify(202, { body: RECEIPT, oversized: true });
  expect(outcome).toMatchObject({ kind: "rejected", error: expect.stringContaining("too long") });
});

test("a 2xx that was cut is unknown, even when the part that came is a receipt", () => {
  expect(classify(202, { body: RECEIPT, cut: "connection reset (ECONNRESET)" })).toMatchObject({
    kind: "unknown",
    httpStatus: 202,
    gatewayMessageId: null,
    error: "HTTP 202, but connection reset (ECONNRESET); outcome unknown",
  });
});

const TABLE: [OutcomeKind, number[]][] = [
  ["retry", [408, 425, 500, 501, 502, 503, 504, 505, 507, 511, 520, 599]],
  ["throttled", [429]],
  ["hold", [101, 300, 301, 302, 303, 304, 307, 308, 399, 401, 402, 403, 404, 405, 407, 410]],
  [
    "rejected",
    [400, 406, 409, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 424, 426, 428, 431, 451, 499],
  ],
];
const ROWS = TABLE.flatMap(([kind, statuses]) => statuses.map((status) => [status, kind] as const));

describe.each(ROWS)("%i is %s", (status, kind) => {
  test("whole", () => {
    expect(classify(status, { body: "no" })).toEqual({
      kind,
      httpStatus: status,
      gatewayMessageId: null,
      error: `HTTP ${status}: no`,
      durationMs: 12,
      retryAfterMs: null,
    });
  });

  test("with a receipt, cut or oversized all the same", () => {
    expect(classify(status, { body: RECEIPT }).kind).toBe(kind);
    expect(classify(status, { cut: "connection reset" }).kind).toBe(kind);
    expect(classify(status, { oversized: true }).kind).toBe(kind);
  });
});

test("an invalid status is taken for a 5xx", () => {
  expect(classify(600).kind).toBe("retry");
  expect(classify(999).kind).toBe("retry");
});

describe("Retry-After", () => {
  test.each([
    [429, "throttled", "7", 7_000],
    [429, "throttled", "soon", null],
    [429, "throttled", undefined, null],
    [503, "throttled", "7", 7_000],
    [503, "throttled", "0", 0],
    [503, "throttled", "Mon, 23 Nov 2026 00:00:09 GMT", 9_000],
    [503, "throttled", "86400", 3_600_000],
    [503, "retry", "soon", null],
    [503, "retry", undefined, null],
    [408, "retry", "7", 7_000],
    [425, "retry", "7", 7_000],
    [500, "retry", "7", 7_000],
    [502, "retry", "7", 7_000],
    [504, "retry", "7", 7_000],
    [504, "retry", "soon", null],
    [400, "rejected", "7", null],
    [401, "hold", "7", null],
    [302, "hold", "7", null],
    [200, "rejected", "7", null],
  ])("%i is %s with %j", (status, kind, retryAfter, retryAfterMs) => {
    expect(classify(status, { retryAfter })).toMatchObject({ kind, retryAfterMs });
  });
});

describe("the error", () => {
  test.each([
    ["whitespace is collapsed", "  bad\r\n\t number \n", "HTTP 400: bad number"],
    ["no answer, no colon", "", "HTTP 400"],
    ["control characters and NUL are dropped", "a\u0000b\u001b[31mc\u009f", "HTTP 400: a b [31mc"],
    ["text cannot be made to run backwards", "a\u202eb", "HTTP 400: a b"],
    ["500 characters of the answer", "x".repeat(501), `HTTP 400: ${"x".repeat(500)}`],
    ["no half character at the end", `${"x".repeat(499)}😀`, `HTTP 400: ${"x".repeat(499)}`],
  ])("%s", (_name, body, error) => {
    expect(classify(400, { body }).error).toBe(error);
  });

  test("invalid UTF-8 does no harm", () => {
    expect(classify(400, { body: Buffer.from([0x61, 0xff, 0xfe, 0x62]) }).error).toBe(
      "HTTP 400: a\ufffd\ufffdb",
    );
  });

  test("says where a redirect points to", () => {
    expect(classify(301, { location: "https://new.example/\u0007sms" }).error).toBe(
      "HTTP 301 (redirects are not followed; it points to https://new.example/ sms)",
    );
  });

  test("says that the answer was cut", () => {
    expect(classify(500, { body: "oh", cut: "connection reset" }).error).toBe(
      "HTTP 500: oh (connection reset)",
    );
  });
});

test("a failure before the send is retried, after it the outcome is unknown", () => {
  const rest = { httpStatus: null, gatewayMessageId: null, durationMs: 3, retryAfterMs: null };
  expect(classifyFailure(false, "no connection", 3)).toEqual({
    kind: "retry",
    error: "no connection",
    ...rest,
  });
  expect(classifyFailure(true, "no answer", 3)).toEqual({
    kind: "unknown",
    error: "no answer; outcome unknown",
    ...rest,
  });
});

test("whatever comes back, the outcome can be kept", () => {
  const text = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.jsonValue().map((value) => JSON.stringify(value)),
  );
  const receipt = fc.record({
    message: fc.constant("Accepted"),
    messageId: fc.oneof(fc.string(), fc.integer()),
  });
  const body = fc.oneof(
    text.map((it) => Buffer.from(it)),
    fc.uint8Array({ maxLength: 2_000 }).map((bytes) => Buffer.from(bytes)),
    receipt.map((it) => Buffer.from(JSON.stringify(it))),
  );
  const answer = fc.record({
    status: fc.oneof(fc.constant(202), fc.integer({ min: 100, max: 999 })),
    retryAfter: fc.option(fc.string(), { nil: undefined }),
    location: fc.option(fc.string({ unit: "binary" }), { nil: undefined }),
    body,
    oversized: fc.boolean(),
    cut: fc.option(fc.string({ unit: "binary" }), { nil: null }),
  });
  fc.assert(
    fc.property(answer, (it) => {
      const outcome = classifyAnswer(it, NOW, 1);
      expect(outcome.kind === "accepted").toBe(outcome.gatewayMessageId !== null);
      expect(outcome.kind === "accepted").toBe(outcome.error === null);
      expect(outcome.error ?? "").not.toMatch(/\p{Cc}/u);
      expect((outcome.error ?? "").isWellFormed()).toBe(true);
      expect((outcome.error ?? "").length).toBeLessThanOrEqual(1_000);
    }),
    { numRuns: 500 },
  );
});
