import { afterAll, beforeAll, expect, test } from "vitest";
import { createSlack } from "../../../src/ops/alerts/slack.ts";
import { type HttpGateway, startHttpGateway } from "../../support/http-gateway.ts";
import { notice } from "./notices.ts";

let hook: HttpGateway;

beforeAll(async () => {
  hook = await startHttpGateway();
});
afterAll(() => hook.close());

const slack = (timeoutMs?: number) =>
  createSlack({
    url: `http://127.0.0.1:${hook.port}/services/T0/B0/hunter2`,
    name: "outbox",
    linkUrl: undefined,
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  });

test("posts the notice as blocks", async () => {
  hook.answerWith(() => ({ body: "ok" }));
  expect(await slack().send(notice())).toEqual({ sent: true });
  const { method, path, headers, body } = hook.requests.at(-1) ?? {};
  expect([method, path, headers?.["content-type"]]).toEqual([
    "POST",
    "/services/T0/B0/hunter2",
    "application/json",
  ]);
  expect(body).toMatchObject({
    text: "[outbox] critical: gateway default fails, and its circuit is open",
    blocks: [{ type: "header" }, { type: "section" }, { type: "context" }],
  });
});

test.each([
  [{ status: 500 }, { reason: /^HTTP 500/ }],
  [{ status: 404, body: "no_service" }, { reason: /^HTTP 404: no_service \(check alerts\.slack_url\)$/ }],
  [
    { status: 302, body: "", headers: { location: "http://127.0.0.1:1/" } },
    { reason: /^HTTP 302 \(redirects/ },
  ],
  [
    { status: 429, body: "", headers: { "retry-after": "30" } },
    { reason: /^HTTP 429$/, retryAfterMs: 30_000 },
  ],
  [
    { status: 503, body: "", headers: { "retry-after": "7" } },
    { reason: /^HTTP 503$/, retryAfterMs: 7_000 },
  ],
  [{ status: 429, body: "" }, { reason: /^HTTP 429$/ }],
  [{ fault: "reset" } as const, { reason: /connection (reset|closed)/ }],
])("%j is not sent, and says why", async (answer, { reason, ...rest }) => {
  hook.answerWith(() => answer);
  const delivery = await slack().send(notice());
  expect(delivery).toEqual({ sent: false, reason: expect.stringMatching(reason), ...rest });
  expect(JSON.stringify(delivery)).not.toContain("hunter2");
});

test("one that never answers is given up in time", async () => {
  hook.answerWith(() => ({ fault: "hang" }));
  expect(await slack(50).send(notice())).toEqual({ sent: false, reason: "no answer within 0.05 s" });
});

test("one that drips is given up in time", async () => {
  hook.answerWith(() => ({ fault: "drip", everyMs: 5 }));
  expect(await slack(100).send(notice())).toMatchObject({ sent: false });
});

test("is given up when the program ends", async () => {
  const ending = new AbortController();
  hook.answerWith(() => {
    ending.abort();
    return { fault: "hang" };
  });
  expect(await slack().send(notice(), ending.signal)).toEqual({
    sent: false,
    reason: "given up, for the program ends",
  });
});

test("nobody there", async () => {
  const away = createSlack({ url: "http://127.0.0.1:1/hook", name: "outbox", linkUrl: undefined });
  expect(await away.send(notice())).toMatchObject({
    sent: false,
    reason: expect.stringContaining("connection refused"),
  });
});
