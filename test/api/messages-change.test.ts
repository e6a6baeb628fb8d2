import { describe, expect, test } from "vitest";
import type { MessageWithHistory } from "../../src/api/whole-message.ts";
import { useOutbox } from "../sql/outbox-under-test.ts";
import { useMessages, type Who } from "./messages-under-test.ts";

const outbox = useOutbox();
const { insert } = outbox;
const { ask, answered, problem, messageThat, register, settleAs, get, tagOf } = useMessages(outbox);

type Asked = Omit<NonNullable<Parameters<typeof ask>[1]>, "method" | "body">;

const patch = (id: number | string, body: unknown, asked: Asked = {}) =>
  ask(`/${id}`, { method: "PATCH", body, ...asked });
const cancel = (id: number | string, asked: Asked = {}) => ask(`/${id}/cancel`, { method: "POST", ...asked });
const replay = (id: number | string, body?: unknown, asked: Asked = {}) =>
  ask(`/${id}/replay`, { method: "POST", body, ...asked });

/** Each with a message it may be done to. */
const CHANGES = [
  ["PATCH", (id: number | string, asked?: Asked) => patch(id, { content: "new" }, asked), "waits", "write"],
  ["cancel", (id: number | string, asked?: Asked) => cancel(id, asked), "waits", "write"],
  ["replay", (id: number | string, asked?: Asked) => replay(id, undefined, asked), "was rejected", "operate"],
] as const;

const audit = () =>
  outbox.rows("select actor, action, target from outbox.audit where action <> 'resume' order by id");

describe("PATCH", () => {
  test("changes what is given, and nothing else", async () => {
    const id = await insert({ metadata: { a: 1 } });
    const before = await get(id);
    const change = {
      recipient: "+4915112345678",
      content: "hello",
      available_at: "2031-01-01T00:00:00.000001Z",
      expires_at: "2031-01-02T00:00:00.000000Z",
      priority: 0,
    };
    const answer = await patch(id, change);
    expect(answer.status).toBe(200);
    expect(await answer.clone().json()).toEqual({ ...before, ...change });
    expect(answer.headers.get("ETag")).toBe(await tagOf(id));
    expect(await answered(200, patch(id, { content: "again" }))).toEqual({
      ...before,
      ...change,
      content: "again",
    });
    expect(await audit()).toEqual([
      { actor: "ali", action: "edit", target: `${id}` },
      { actor: "ali", action: "edit", target: `${id}` },
    ]);
  });

  test("with expires_at null makes it never expire", async () => {
    const id = await insert({ expires_at: "2031-01-01" });
    expect(await answered(200, patch(id, { expires_at: null }))).toMatchObject({ expires_at: null });
  });

  test("may come as a merge patch", async () => {
    const id = await insert();
    const headers = { "Content-Type": "application/merge-patch+json" };
    expect(await answered(200, patch(id, { priority: 2 }, { headers }))).toMatchObject({ priority: 2 });
  });

  test("that changes nothing is fine, and leaves no trace", async () => {
    const id = await insert();
    const tag = await tagOf(id);
    const answer = await patch(id, { content: "hi" });
    expect(answer.headers.get("ETag")).toBe(tag);
    expect(await audit()).toEqual([]);
  });

  test("changes a dead letter, which stays one, and raises the revision of a rejected one", async () => {
    const id = await messageThat("was rejected");
    expect(await answered(200, patch(id, { content: "new" }))).toMatchObject({
      status: "failed",
      content: "new",
      revision: 1,
      history: [{ outcome: "rejected" }],
    });
  });

  test.each(["is being sent", "was sent"] as const)("a message that %s cannot be changed", async (state) => {
    const id = await messageThat(state);
    const { detail } = await problem("wrong-state", 409, patch(id, { content: "new" }));
    expect(detail).toContain(`message ${id} ${state}`);
    expect(await get(id)).toMatchObject({ content: "hi" });
  });

  test.each<[object, string]>([
    [{ recipient: "5" }, "recipient"],
    [{ content: "" }, "content"],
    [{ priority: 3 }, "priority"],
    [{ expires_at: "2020-01-01T00:00:00Z" }, "expires_at"],
  ])("%j is refused by the outbox, for what waits and for what has ended", async (change, column) => {
    for (const id of [await messageThat("was rejected"), await insert()]) {
      const { errors } = await problem("refused-message", 422, patch(id, change));
      expect(errors).toEqual([{ detail: expect.any(String), pointer: `#/${column}` }]);
    }
  });

  test.each<[unknown, string]>([
    [{}, "#"],
    [[], "#"],
    [{ content: null }, "#/content"],
    [{ recipient: 905551234567 }, "#/recipient"],
    [{ content: "\0" }, "#/content"],
    [{ priority: "0" }, "#/priority"],
    [{ available_at: null }, "#/available_at"],
    [{ available_at: "infinity" }, "#/available_at"],
    [{ expires_at: "2031-01-01" }, "#/expires_at"],
    [{ content: "new", metadata: {} }, "#/metadata"],
    [{ content: "new", gateway: "bulk" }, "#/gateway"],
  ])("%j is not of the shape", async (change, pointer) => {
    const id = await insert();
    const { errors } = await problem("invalid-request", 400, patch(id, change));
    expect(errors).toEqual([{ detail: expect.any(String), pointer }]);
  });

  test.each([[[]], ["null"]])("%j is no object, and is told so", async (change) => {
    const { errors } = await problem("invalid-request", 400, patch(1, change));
    expect(errors).toEqual([{ detail: "must be a JSON object", pointer: "#" }]);
  });

  test("needs a body of JSON", async () => {
    await problem(
      "unsupported-media-type",
      415,
      patch(1, "a", { headers: { "Content-Type": "text/plain" } }),
    );
    await problem("malformed-request", 400, patch(1, "{"));
    await problem("body-too-large", 413, patch(1, { content: "x".repeat(70_000) }));
  });
});

describe("cancel", () => {
  test("withdraws a message that waits", async () => {
    const id = await insert();
    const answer = await cancel(id);
    expect(answer.status).toBe(200);
    expect(await answer.clone().json()).toMatchObject({ id, status: "cancelled", reason: "cancelled" });
    expect(answer.headers.get("ETag")).toBe(await tagOf(id));
    expect(await audit()).toEqual([{ actor: "ali", action: "cancel", target: `${id}` }]);
  });

  test.each(["is being sent", "was sent", "was rejected", "expired"] as const)(
    "a message that %s cannot be cancelled",
    async (state) => {
      await problem("wrong-state", 409, cancel(await messageThat(state)));
    },
  );

  test("a second time is told that it has ended", async () => {
    const id = await insert();
    await answered(200, cancel(id));
    const { detail } = await problem("wrong-state", 409, cancel(id));
    expect(detail).toMatch(/ended at .*: cancelled/);
  });
});

describe("replay", () => {
  test("puts a dead letter back, with its history", async () => {
    const id = await messageThat("was rejected");
    const answer = await replay(id);
    expect(answer.status).toBe(200);
    expect(await answer.clone().json()).toMatchObject({
      id,
      status: "pending",
      attempts: 0,
      history: [{ outcome: "rejected" }],
    });
    expect(answer.headers.get("ETag")).toBe(await tagOf(id));
    expect(await audit()).toEqual([{ actor: "ali", action: "replay", target: `${id}` }]);
  });

  test("changes what is given", async () => {
    const id = await messageThat("expired");
    const change = {
      recipient: "+4915112345678",
      content: "hello",
      expires_at: "2031-01-02T00:00:00.000000Z",
    };
    expect(await answered(200, replay(id, change))).toMatchObject({ ...change, status: "pending" });
  });

  test("of one that expired needs another end, or none", async () => {
    const id = await messageThat("expired");
    await problem("replay-needs-expires-at", 409, replay(id));
    await problem("replay-needs-expires-at", 409, replay(id, { force: true }));
    expect(await answered(200, replay(id, { expires_at: null }))).toMatchObject({ expires_at: null });
  });

  test.each(["was sent", "may have been sent"] as const)("of one that %s needs force", async (state) => {
    const id = await messageThat(state);
    await problem("replay-needs-force", 409, replay(id));
    await problem("replay-needs-force", 409, replay(id, { force: false }));
    expect(await answered(200, replay(id, { force: true }))).toMatchObject({ id, status: "pending" });
  });

  test("of one that was sent does not change it", async () => {
    const id = await messageThat("was sent");
    await problem("wrong-state", 409, replay(id, { force: true, content: "new" }));
  });

  test.each(["waits", "is being sent"] as const)("is not for a message that %s", async (state) => {
    await problem("wrong-state", 409, replay(await messageThat(state)));
  });

  test("is refused where another message has its dedupe_key by now, and says which", async () => {
    const id = await messageThat("was rejected", { dedupe_key: "k" });
    await outbox.pool.query("update outbox.dedupe_keys set expires_at = clock_timestamp()");
    const other = await insert({ dedupe_key: "k" });
    const { detail } = await problem("dedupe-key-used", 409, replay(id));
    expect(detail).toBe(`Message ${other} has it.`);
    expect(await get(id)).toMatchObject({ status: "failed" });
  });

  test.each<[object, string]>([
    [{ recipient: "5" }, "recipient"],
    [{ content: "x".repeat(1_601) }, "content"],
    [{ expires_at: "2020-01-01T00:00:00Z" }, "expires_at"],
  ])("%j is refused by the outbox", async (change, column) => {
    const { errors } = await problem(
      "refused-message",
      422,
      replay(await messageThat("was rejected"), change),
    );
    expect(errors).toEqual([{ detail: expect.any(String), pointer: `#/${column}` }]);
  });

  test.each<[unknown, string]>([
    [[], "#"],
    [{ force: "yes" }, "#/force"],
    [{ content: null }, "#/content"],
    [{ priority: 0 }, "#/priority"],
  ])("%j is not of the shape", async (body, pointer) => {
    const { errors } = await problem("invalid-request", 400, replay(1, body));
    expect(errors).toEqual([{ detail: expect.any(String), pointer }]);
  });

  test("takes a body of JSON or none", async () => {
    await problem(
      "unsupported-media-type",
      415,
      replay(1, "a", { headers: { "Content-Type": "text/plain" } }),
    );
    await problem("malformed-request", 400, replay(1, "{"));
    await problem("body-too-large", 413, replay(1, { content: "x".repeat(70_000) }));
  });
});

describe.each(CHANGES)("%s", (_name, act, state, scope) => {
  test("of no message", async () => {
    await problem("unknown-message", 404, act(999_999));
    await problem("unknown-message", 404, act(999_999, { headers: { "If-Match": "*" } }));
    for (const id of ["x", "0", "9007199254740992"]) {
      const { errors } = await problem("invalid-request", 400, act(id));
      expect(errors).toContainEqual({ detail: expect.stringContaining("2^53"), parameter: "id" });
    }
  });

  test(`takes a key for ${scope}, and masks the answer to one that may not read`, async () => {
    const id = await messageThat(state);
    for (const who of (["read", "write", "operate"] as Who[]).filter((other) => other !== scope))
      await problem("insufficient-scope", 403, act(id, { who }));
    const message = await answered<MessageWithHistory>(200, act(id, { who: scope }));
    expect(message.recipient).toBe("+90********67");
    expect(message).not.toHaveProperty("content");
    expect(JSON.stringify(message)).not.toContain("905551234567");
  });

  test.each([
    ["the ETag", (tag: string) => tag, 200],
    ["the ETag of the masked message", (tag: string) => tag.replace(/"$/, '.masked"'), 200],
    ["one of several", (tag: string) => `"a,b" , ${tag},"c"`, 200],
    ["any", () => "*", 200],
    ["another", () => '"another"', 412],
    ["the weak one", (tag: string) => `W/${tag}`, 412],
    ["several others", () => '"a", "b"', 412],
  ])("If-Match with %s", async (_what, header, status) => {
    const id = await messageThat(state);
    const before = await get(id);
    const answer = await act(id, { headers: { "If-Match": header(await tagOf(id)) } });
    expect(answer.status).toBe(status);
    const after = await get(id);
    if (status === 412) expect(after).toEqual(before);
    else expect(after).not.toEqual(before);
  });

  test("with an old ETag is refused, whatever changed the message", async () => {
    const id = await messageThat(state);
    const tag = await tagOf(id);
    if (state === "waits") await outbox.claim(await register());
    else await outbox.pool.query("select outbox.edit($1, priority => 0)", [id]);
    const { detail } = await problem("precondition-failed", 412, act(id, { headers: { "If-Match": tag } }));
    expect(detail).toContain(`${id}`);
  });

  test.each(["abc", '"a', '"a" "b"', "*,*", ""])("If-Match %j is none", async (tag) => {
    const { errors } = await problem("invalid-request", 400, act(1, { headers: { "If-Match": tag } }));
    expect(errors).toEqual([{ detail: expect.any(String), parameter: "If-Match" }]);
  });

  test("of several at once with one ETag, one is done", async () => {
    const id = await messageThat(state);
    const headers = { "If-Match": await tagOf(id) };
    const answers = await Promise.all(Array.from({ length: 6 }, () => act(id, { headers })));
    const statuses = answers.map(({ status }) => status).toSorted((a, b) => a - b);
    expect(statuses).toEqual([200, 412, 412, 412, 412, 412]);
  });

  test("waits for whoever has the message locked, and compares what it has become", async () => {
    const id = await messageThat(state);
    const headers = { "If-Match": await tagOf(id) };
    const other = await outbox.session();
    await other.query("begin");
    await other.query("select outbox.edit($1, priority => 0)", [id]);
    const waiting = act(id, { headers });
    await expect
      .poll(
        () =>
          outbox.value(
            "select count(*)::int from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
          ),
        { timeout: 10_000 },
      )
      .toBe(1);
    await other.query("commit");
    await problem("precondition-failed", 412, waiting);
  });

  test("gives up where the message stays locked", async () => {
    const id = await messageThat(state);
    const other = await outbox.session();
    await other.query("begin");
    await other.query("select from outbox.lock_message($1)", [id]);
    const answer = await act(id);
    expect(answer.headers.get("Retry-After")).toBe("1");
    await problem("busy", 503, Promise.resolve(answer));
    await other.query("rollback");
    expect((await act(id)).status).toBe(200);
  });
});

test("a precondition that failed costs no connection", async () => {
  const id = await insert();
  const connections = () =>
    outbox.value(
      "select array_agg(pid order by pid) from pg_stat_activity where datname = current_database()",
    );
  const before = await connections();
  for (let n = 0; n < 3; n++)
    await problem("precondition-failed", 412, cancel(id, { headers: { "If-Match": '"x"' } }));
  expect(await connections()).toEqual(before);
  await settleAs(await register(), new Map([[id, "accepted"]]));
  expect(await get(id)).toMatchObject({ status: "sent" });
});
