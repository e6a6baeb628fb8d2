import { describe, expect, test } from "vitest";
import type { MessageWithHistory } from "../../src/api/whole-message.ts";
import { useOutbox } from "../sql/outbox-under-test.ts";
import { apiUnderTest } from "./api-under-test.ts";
import { useMessages } from "./messages-under-test.ts";

const outbox = useOutbox();
const { insert } = outbox;
const { ask, answered, problem, messageThat, register, settleAs, get, tagOf } = useMessages(outbox);

const retry = async (relayer: number, id: number) => settleAs(relayer, new Map([[id, "retry"]]));

describe("the history", () => {
  test("of a message that waits is empty", async () => {
    const id = await insert();
    expect(await get(id)).toMatchObject({ id, status: "pending", history: [] });
  });

  test("has each attempt, oldest first, and last the one that was accepted", async () => {
    const id = await insert();
    const relayer = await register();
    await retry(relayer, id);
    await settleAs(relayer, new Map([[id, "throttled"]]));
    await settleAs(relayer, new Map([[id, "accepted"]]));
    const { history, sent_at, attempts } = await get(id);
    expect(history).toEqual([
      {
        attempt: 1,
        gateway: "default",
        relayer,
        outcome: "retry",
        http_status: 400,
        gateway_message_id: null,
        error: "HTTP 400: +905551234567 is barred",
        duration_ms: 7,
        ended_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/),
      },
      expect.objectContaining({ attempt: 2, outcome: "throttled" }),
      {
        attempt: 2,
        gateway: "default",
        relayer,
        outcome: "accepted",
        http_status: null,
        gateway_message_id: `gw-${id}`,
        error: null,
        duration_ms: 7,
        ended_at: sent_at,
      },
    ]);
    expect(attempts).toBe(2);
    expect(history.map(({ ended_at }) => ended_at)).toEqual(
      history.map(({ ended_at }) => ended_at).toSorted(),
    );
  });

  test("has what was accepted once where the gateway keeps all attempts", async () => {
    await outbox.pool.query("update outbox.gateways set keep_attempts = 'all'");
    const { history } = await get(await messageThat("was sent"));
    expect(history.map(({ outcome }) => outcome)).toEqual(["accepted"]);
  });

  test("of one that was sent and replayed has both acceptances", async () => {
    const id = await messageThat("was sent");
    await outbox.pool.query("select outbox.replay($1, force => true)", [id]);
    expect((await get(id)).history).toHaveLength(1);
    await settleAs(await register(), new Map([[id, "accepted"]]));
    expect((await get(id)).history.map(({ outcome }) => outcome)).toEqual(["accepted", "accepted"]);
  });

  test("is the last hundred", async () => {
    const id = await insert();
    await outbox.pool.query(
      `insert into outbox.attempts (message_id, attempt, gateway, relayer, outcome, ended_at)
       select $1, n, 'default', 1, 'retry', timestamptz '2026-11-01T00:00:00Z' + n * interval '1 minute'
       from generate_series(1, 130) as n`,
      [id],
    );
    const { history } = await get(id);
    expect(history.map(({ attempt }) => attempt)).toEqual(Array.from({ length: 100 }, (_, n) => n + 31));
  });
});

describe("the ETag", () => {
  test("is strong, and stays while nothing changes", async () => {
    const id = await insert();
    expect(await tagOf(id)).toMatch(/^"[\w-]{22}"$/);
    expect(await tagOf(id)).toBe(await tagOf(id));
  });

  test("changes with everything that happens to the message, and never comes back", async () => {
    const id = await insert();
    const other = await insert();
    const relayer = await register();
    const seen = [await tagOf(other), await tagOf(id)];
    const changed = async () => {
      const tag = await tagOf(id);
      expect(seen).not.toContain(tag);
      seen.push(tag);
    };
    for (const [column, value] of [
      ["content", "hello"],
      ["recipient", "+905551234568"],
      ["priority", "2"],
      ["expires_at", "2031-01-01"],
      ["available_at", "2026-11-01"],
    ]) {
      await outbox.pool.query(`select outbox.edit($1, ${column} => '${value}')`, [id]);
      await changed();
    }
    await outbox.pool.query("update outbox.messages set metadata = '{\"a\": 1}' where id = $1", [id]);
    await changed();
    await outbox.claim(relayer);
    await changed();
    await outbox.settle(relayer, [{ id, outcome: "retry", error: "no" }]);
    await changed();
    await settleAs(relayer, new Map([[id, "rejected"]]));
    await changed();
    await outbox.pool.query("select outbox.replay($1)", [id]);
    await changed();
    await settleAs(relayer, new Map([[id, "accepted"]]));
    await changed();
  });

  test("changes with an attempt that leaves no other trace", async () => {
    const id = await messageThat("was rejected");
    const before = await tagOf(id);
    await outbox.pool.query(
      `insert into outbox.attempts (message_id, attempt, gateway, relayer, outcome, ended_at)
       values ($1, 1, 'default', 1, 'hold', clock_timestamp())`,
      [id],
    );
    expect(await tagOf(id)).not.toBe(before);
  });

  test("is another one for the masked message, and is keyed, so that nobody finds out the number by trying", async () => {
    const id = await insert();
    const whole = await tagOf(id);
    expect(await tagOf(id, "read")).toBe(whole.replace(/"$/, '.masked"'));
    await outbox.pool.query("update outbox.cursor_keys set key = sha256('another')");
    const elsewhere = apiUnderTest(outbox.pool);
    const { headers } = await elsewhere.request(`/api/v1/messages/${id}`);
    expect(headers.get("ETag")).toMatch(/^"[\w-]{22}"$/);
    expect(headers.get("ETag")).not.toBe(whole);
  });

  test.each([
    ["the same", (tag: string) => tag, 304],
    ["the same, weak", (tag: string) => `W/${tag}`, 304],
    ["one of several", (tag: string) => `"a,b", ${tag} , "c"`, 304],
    ["any", () => "*", 304],
    ["another", () => '"another"', 200],
    ["the masked one", (tag: string) => tag.replace(/"$/, '.masked"'), 200],
  ])("If-None-Match with %s", async (_name, header, status) => {
    const id = await insert();
    const tag = await tagOf(id);
    const answer = await ask(`/${id}`, { headers: { "If-None-Match": header(tag) } });
    expect(answer.status).toBe(status);
    expect(answer.headers.get("ETag")).toBe(tag);
    expect((await answer.text()) === "").toBe(status === 304);
  });

  test("If-None-Match that is no ETag is refused", async () => {
    const { errors } = await problem(
      "invalid-request",
      400,
      ask("/1", { headers: { "If-None-Match": "abc" } }),
    );
    expect(errors).toEqual([{ detail: expect.any(String), parameter: "If-None-Match" }]);
  });
});

test("without read_pii numbers are masked, the content left out, and of answers only the status is shown", async () => {
  const id = await messageThat("was rejected");
  const message = await answered<MessageWithHistory>(200, ask(`/${id}`, { who: "read" }));
  expect(message).toMatchObject({
    recipient: "+90********67",
    history: [{ outcome: "rejected", error: "HTTP 400" }],
  });
  expect(message).not.toHaveProperty("content");
  expect(JSON.stringify(message)).not.toContain("905551234567");
});

test.each(["0", "-1", "01", "1.5", "x", "9007199254740992", "99999999999999999999", "%20", "sent%2F"])(
  "%s is no id",
  async (id) => {
    const { errors } = await problem("invalid-request", 400, ask(`/${id}`));
    expect(errors).toEqual([{ detail: expect.stringContaining("2^53"), parameter: "id" }]);
  },
);

test("there is no message of an id that never was, nor of the largest", async () => {
  for (const id of ["999999", "9007199254740991"]) await problem("unknown-message", 404, ask(`/${id}`));
});

test("/messages/sent is the list of what was sent, not a message", async () => {
  expect(await answered(200, ask("/sent"))).toEqual({ messages: [], next_cursor: null });
});

test("HEAD is GET without the body", async () => {
  const id = await insert();
  const head = await ask(`/${id}`, { method: "HEAD" });
  expect(head.status).toBe(200);
  expect(head.headers.get("ETag")).toBe(await tagOf(id));
  expect(await head.text()).toBe("");
});

test.each(["write", "operate"] as const)("a key for %s alone does not read", async (who) => {
  await problem("insufficient-scope", 403, ask("/1", { who }));
});
