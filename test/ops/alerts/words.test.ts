import { expect, test } from "vitest";
import { plainText } from "../../../src/ops/alerts/plain-text.ts";
import { slackMessage } from "../../../src/ops/alerts/slack-message.ts";
import { wordsOf } from "../../../src/ops/alerts/words.ts";
import { ALERT, notice } from "./notices.ts";

const PLAIN = { name: "outbox", linkUrl: undefined };
const LINKED = { name: "staging", linkUrl: "https://sms.example.com" };

test("says how bad, what, since when, how many, which, and what helps", () => {
  const words = wordsOf(notice({}), LINKED);
  expect(words.title).toBe("[staging] critical: gateway default fails, and its circuit is open");
  expect(plainText(words)).toBe(`CRITICAL: gateway default fails, and its circuit is open
Since 2030-06-01 11:53:00 UTC, for 7 min.
12 messages, such as 41, 42.
  select outbox.resume('default');
  curl -X POST https://sms.example.com/api/v1/gateways/default/resume -H 'Authorization: Bearer …'

As of 2030-06-01 12:00:00 UTC. What is open now: select * from outbox.open_alerts;
The API: https://sms.example.com/api/v1/swagger/index.html
`);
});

test("without an address of the API it names the path; what is not about messages counts none", () => {
  const text = plainText(wordsOf(notice({ count: null, sample_ids: [] }), PLAIN));
  expect(text).toContain("curl -X POST …/api/v1/gateways/default/resume");
  expect(text).not.toContain("message");
  expect(text).not.toContain("swagger");
  expect(plainText(wordsOf(notice({ count: 0, sample_ids: [] }), PLAIN))).not.toContain("message");
});

test("what can be looked at is a link", () => {
  const alert = { request: "GET /dead-letters?gateway=default&reason=rejected", count: 1, sample_ids: [41] };
  const text = plainText(wordsOf(notice(alert), LINKED));
  expect(text).toContain("1 message, such as 41.\n");
  expect(text).toContain("\n  https://sms.example.com/api/v1/dead-letters?gateway=default&reason=rejected\n");
  expect(plainText(wordsOf(notice(alert), PLAIN))).not.toContain("/dead-letters");
});

test.each([
  [{ event: "opened", severity: "warning" }, "warning"],
  [{ event: "opened", returns: 2 }, "critical, again"],
  [{ event: "escalated" }, "now critical"],
  [{ event: "repeated" }, "still critical"],
  [{ event: "repeated", severity: "warning" }, "still a warning"],
  [{ event: "recovered" }, "over"],
] as const)("%j is told as %s", (alert, state) => {
  expect(wordsOf(notice(alert), PLAIN).title).toBe(`[outbox] ${state}: ${ALERT.summary}`);
});

test("an end says how long it was so, and asks for nothing", () => {
  expect(plainText(wordsOf(notice({ event: "recovered", lasted: "42 min" }), LINKED))).toMatch(
    /^OVER: .*\nIt lasted 42 min, from 2030-06-01 11:53:00 UTC\.\n\nAs of /,
  );
});

test("many are one notice: the first in the title, twenty in full, the rest counted", () => {
  const many = wordsOf(notice(...Array.from({ length: 23 }, (_, n) => ({ summary: `the ${n}th` }))), PLAIN);
  expect(many.title).toBe("[outbox] critical: the 0th (and 22 more)");
  expect(many.alerts).toHaveLength(20);
  expect(many.more[0]).toBe("And 3 more.");
});

test("a number that should not be there is masked", () => {
  expect(plainText(wordsOf(notice({ summary: "HTTP 400 for +905551234567" }), PLAIN))).toContain(
    "HTTP 400 for +90******4567",
  );
});

test("in Slack nothing of it is markup but what is meant to be, and each part is as long as Slack takes", () => {
  const summary = `<!channel> & <https://evil.example|here> ${"x".repeat(4_000)}`;
  const message = slackMessage(wordsOf(notice({ summary, help: "a < b" }), LINKED)) as {
    text: string;
    blocks: { type: string; text?: { type: string; text: string } }[];
  };
  const [header, section, ...others] = message.blocks;
  expect(header?.text).toMatchObject({ type: "plain_text" });
  expect(header?.text?.text.length).toBe(150);
  expect(section?.text?.text.length).toBeLessThanOrEqual(3_000);
  expect(section?.text?.text).toMatch(
    /^:red_circle: \*critical\*: &lt;!channel&gt; &amp; &lt;https:\/\/evil\.example\|here&gt; x+…$/,
  );
  expect(message.text).not.toMatch(/[<>]/);
  expect(others).toMatchObject([{ type: "context" }]);
  const short = slackMessage(wordsOf(notice({ help: "a < b" }), LINKED)) as typeof message;
  expect(short.blocks[1]?.text?.text).toContain("```a &lt; b```");
});
