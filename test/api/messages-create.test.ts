import { describe, expect, test } from "vitest";
import type { Message, MessageWithHistory } from "../../src/api/whole-message.ts";
import { useOutbox } from "../sql/outbox-under-test.ts";
import { MESSAGES, type ProblemAnswer, useMessages } from "./messages-under-test.ts";

const outbox = useOutbox();
const { insert, value } = outbox;
const { ask, answered, problem, messageThat, get, tagOf } = useMessages(outbox);

interface Enqueued {
  readonly messages: readonly Message[];
  readonly created: number;
}

const HI = { recipient: "+905551234567", content: "hi" };

const post = (body: unknown, asked: Parameters<typeof ask>[1] = {}) =>
  ask("", { method: "POST", body, ...asked });

const total = () => value("select count(*)::int from outbox.all_messages");

describe("one message", () => {
  test("is put in, and answered as it waits", async () => {
    const answer = await post(HI);
    expect(answer.status).toBe(201);
    const message = (await answer.clone().json()) as MessageWithHistory;
    expect(message).toMatchObject({ ...HI, status: "pending", gateway: "default", priority: 1, history: [] });
    expect(answer.headers.get("Location")).toBe(`${MESSAGES}/${message.id}`);
    expect(answer.headers.get("ETag")).toBe(await tagOf(message.id));
    expect(answer.headers.get("Idempotency-Replayed")).toBeNull();
    expect(await get(message.id)).toEqual(message);
  });

  test("has all that was given", async () => {
    await outbox.addGateway("bulk");
    const given = {
      recipient: "+4915112345678",
      content: `İyi günler 👋 ${"👋".repeat(1_500)}`,
      gateway: "bulk",
      priority: 2,
      available_at: "2031-01-01T00:00:00.123456+03:00",
      expires_at: "2031-01-02T00:00:00Z",
      metadata: JSON.parse(
        '{"order": 7, "deep": {"a": [1, 2.5, null, true]}, "__proto__": {"x": 1}, "": "ş"}',
      ),
      dedupe_key: "order-7",
      traceparent: `00-${"a".repeat(32)}-${"b".repeat(16)}-01`,
    };
    const message = await answered<Message>(201, post(given));
    expect(message).toMatchObject({
      ...given,
      metadata: {},
      available_at: "2030-12-31T21:00:00.123456Z",
      expires_at: "2031-01-02T00:00:00.000000Z",
    });
    expect(JSON.stringify(message.metadata)).toContain('"__proto__":{"x":1}');
    expect(await value("select metadata = $1 from outbox.messages", [JSON.stringify(given.metadata)])).toBe(
      true,
    );
  });

  test("may be given null where the answer has null", async () => {
    const nothing = { expires_at: null, dedupe_key: null, traceparent: null };
    expect(await answered(201, post({ ...HI, ...nothing }))).toMatchObject(nothing);
  });
});

describe("the request's trace", () => {
  const TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  const OWN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

  test("is that of each message that names none", async () => {
    const bodies = [HI, { ...HI, traceparent: OWN }, { ...HI, traceparent: null }];
    const { messages } = await answered<Enqueued>(201, post(bodies, { headers: { traceparent: TRACE } }));
    expect(messages.map(({ traceparent }) => traceparent)).toEqual([TRACE, OWN, null]);
    expect(await answered(201, post(HI, { headers: { Traceparent: TRACE } }))).toMatchObject({
      traceparent: TRACE,
    });
    // The connection goes back to the pool without it.
    expect(await answered(201, post(HI))).toMatchObject({ traceparent: null });
  });

  test.each(["nonsense", TRACE.toUpperCase(), `${TRACE}, ${TRACE}`, "00-0-0-01"])(
    "is ignored when it is malformed: %s",
    async (traceparent) => {
      expect(await answered(201, post(HI, { headers: { traceparent } }))).toMatchObject({
        traceparent: null,
      });
    },
  );

  test("is no part of what an Idempotency-Key stands for: another try has another span", async () => {
    const once = (traceparent: string) => ({ headers: { "Idempotency-Key": "traced", traceparent } });
    const first = await answered<Message>(201, post(HI, once(TRACE)));
    expect(await answered<Message>(201, post(HI, once(OWN)))).toMatchObject({
      id: first.id,
      traceparent: TRACE,
    });
  });
});

describe("many", () => {
  test("are put in all together, and answered in their order", async () => {
    const texts = ["a", "b", "c"];
    const answer = await post(texts.map((content) => ({ ...HI, content })));
    expect(answer.status).toBe(201);
    for (const header of ["Location", "ETag"]) expect(answer.headers.get(header)).toBeNull();
    const { messages, created } = (await answer.json()) as Enqueued;
    expect(created).toBe(3);
    expect(messages.map(({ content }) => content)).toEqual(texts);
    expect(await total()).toBe(3);
  });

  test("may be one, and may be a thousand of the longest", async () => {
    expect(await answered<Enqueued>(201, post([HI]))).toMatchObject({ created: 1 });
    const thousand = Array.from({ length: 1_000 }, (_, n) => ({
      ...HI,
      content: `${"ş".repeat(1_590)}${n}`,
      metadata: { n },
    }));
    const { messages } = await answered<Enqueued>(201, post(thousand));
    expect(messages.map(({ metadata }) => metadata.n)).toEqual(thousand.map((_, n) => n));
  });

  test("are not none, nor 1,001, nor more than 8 MiB", async () => {
    const range = [{ detail: "must be 1 to 1,000 messages", pointer: "#" }];
    expect((await problem("invalid-request", 400, post([]))).errors).toEqual(range);
    expect((await problem("invalid-request", 400, post(Array(1_001).fill(HI)))).errors).toEqual(range);
    await problem("body-too-large", 413, post(`[${" ".repeat(8 * 1_024 * 1_024)}]`));
    expect(await total()).toBe(0);
  });
});

describe("faults", () => {
  test("of a batch of a thousand are all told, each with its place, and nothing is put in", async () => {
    const batch: object[] = Array.from({ length: 1_000 }, () => HI);
    batch[3] = { ...HI, expires_at: "2020-01-01T00:00:00Z" };
    batch[500] = { ...HI, gateway: "bulk" };
    batch[999] = { recipient: "05551234567", content: "" };
    const { errors, detail } = await problem("refused-message", 422, post(batch));
    expect(errors).toEqual([
      { pointer: "#/3/expires_at", detail: "in the past" },
      { pointer: "#/500/gateway", detail: "there is no such gateway" },
      { pointer: "#/999/content", detail: "empty or over 1600" },
      { pointer: "#/999/recipient", detail: "not e164" },
    ]);
    expect(detail).toBe("3 of 1000 messages were refused, so none was put in.");
    expect(await total()).toBe(0);
  });

  test.each<[object, string]>([
    [{ recipient: "05551234567" }, "recipient"],
    [{ content: "" }, "content"],
    [{ content: "👋".repeat(1_601) }, "content"],
    [{ priority: 3 }, "priority"],
    [{ priority: -1 }, "priority"],
    [{ gateway: "Bulk" }, "gateway"],
    [{ expires_at: "2020-01-01T00:00:00Z" }, "expires_at"],
    [{ dedupe_key: "" }, "dedupe_key"],
    [{ dedupe_key: "k".repeat(201) }, "dedupe_key"],
  ])("%j is refused by the outbox", async (columns, column) => {
    const { errors } = await problem("refused-message", 422, post({ ...HI, ...columns }));
    expect(errors).toEqual([{ detail: expect.any(String), pointer: `#/${column}` }]);
  });

  test.each<[unknown, string[]]>([
    [{}, ["#/recipient", "#/content"]],
    [
      [HI, {}],
      ["#/1/recipient", "#/1/content"],
    ],
    [{ ...HI, content: 7, priority: "1" }, ["#/content", "#/priority"]],
    [{ ...HI, priority: 1.5 }, ["#/priority"]],
    [{ ...HI, priority: 99_999 }, ["#/priority"]],
    [{ ...HI, gateway: null }, ["#/gateway"]],
    [{ ...HI, available_at: "tomorrow" }, ["#/available_at"]],
    [{ ...HI, available_at: "infinity" }, ["#/available_at"]],
    [{ ...HI, available_at: null }, ["#/available_at"]],
    [{ ...HI, expires_at: "2031-02-29T00:00:00Z" }, ["#/expires_at"]],
    [{ ...HI, metadata: [] }, ["#/metadata"]],
    [{ ...HI, metadata: null }, ["#/metadata"]],
    [{ ...HI, traceparent: "00-1-2-3" }, ["#/traceparent"]],
    [{ ...HI, id: 7, status: "sent" }, ["#/id", "#/status"]],
    [
      [HI, 7, null, [HI]],
      ["#/1", "#/2", "#/3"],
    ],
    [7, ["#"]],
    [null, ["#"]],
    ["{", []],
  ])("%j is not of the shape", async (body, pointers) => {
    const asked = post(body === null || typeof body === "number" ? JSON.stringify(body) : body);
    const { status, errors = [] } = await answered<ProblemAnswer>(400, asked);
    expect(status).toBe(400);
    expect(errors.map(({ pointer }) => pointer)).toEqual(pointers);
  });

  test.each([
    ['{"recipient":"+905551234567","content":"\\u0000"}', "#/content"],
    ['{"recipient":"+905551234567","content":"half \\ud83d"}', "#/content"],
    ['{"recipient":"+905551234567\\u0000","content":"hi"}', "#/recipient"],
    ['{"recipient":"+905551234567","content":"hi","gateway":"\\u0000"}', "#/gateway"],
    ['{"recipient":"+905551234567","content":"hi","dedupe_key":"\\ud83d"}', "#/dedupe_key"],
    ['{"recipient":"+905551234567","content":"hi","metadata":{"a":["\\u0000"]}}', "#/metadata"],
    ['{"recipient":"+905551234567","content":"hi","metadata":{"\\udc00":1}}', "#/metadata"],
    ['{"recipient":"+905551234567","content":"hi","metadata":{"a":12345678901234567890}}', "#/metadata"],
    ['{"recipient":"+905551234567","content":"hi","metadata":{"a":-1e999}}', "#/metadata"],
    [
      `{"recipient":"+905551234567","content":"hi","metadata":{"a":${"[".repeat(60)}${"]".repeat(60)}}}`,
      "#/metadata",
    ],
  ])("what Postgres could not keep is told where it is: %s", async (body, pointer) => {
    const { errors } = await problem("invalid-request", 400, post(body));
    expect(errors).toEqual([{ detail: expect.any(String), pointer }]);
  });

  test("nesting without end is no matter", async () => {
    const deep = `${"[".repeat(1_000_000)}${"]".repeat(1_000_000)}`;
    await problem("invalid-request", 400, post(deep));
    await problem(
      "invalid-request",
      400,
      post(`{"recipient":"+905551234567","content":"hi","metadata":{"a":${deep}}}`),
    );
  });

  test("a body that is no JSON", async () => {
    const headers = { "Content-Type": "text/plain" };
    await problem("unsupported-media-type", 415, post("hi", { headers }));
    await problem("malformed-request", 400, post("[,]"));
    await problem("unsupported-media-type", 415, ask("", { method: "POST" }));
  });
});

describe("a dedupe_key that was used", () => {
  test("gives the message that has it, with 200", async () => {
    const id = await messageThat("was sent", { dedupe_key: "k" });
    const answer = await post({ ...HI, content: "another", dedupe_key: "k" });
    expect(answer.status).toBe(200);
    expect(answer.headers.get("Location")).toBeNull();
    expect(answer.headers.get("ETag")).toBe(await tagOf(id));
    expect(await answer.json()).toEqual(await get(id));
    expect(await total()).toBe(1);
  });

  test("is not counted as created", async () => {
    const id = await insert({ dedupe_key: "k" });
    const batch = [
      { ...HI, dedupe_key: "k" },
      HI,
      { ...HI, dedupe_key: "new" },
      { ...HI, dedupe_key: "new" },
    ];
    const { messages, created } = await answered<Enqueued>(201, post(batch));
    expect(created).toBe(2);
    expect(messages[0]?.id).toBe(id);
    expect(messages[3]).toEqual(messages[2]);
    expect(await answered<Enqueued>(200, post([batch[0]]))).toMatchObject({ created: 0, messages: [{ id }] });
  });

  test("makes no message good that would be refused without it", async () => {
    await insert({ dedupe_key: "k" });
    const bad = { recipient: " +905551234567", content: "🙂".repeat(1_601), priority: 3, dedupe_key: "k" };
    const columns = ["recipient", "content", "priority"];
    const one = await problem("refused-message", 422, post(bad));
    expect(one.errors?.map(({ pointer }) => pointer)).toEqual(columns.map((column) => `#/${column}`));
    const many = await problem("refused-message", 422, post([HI, bad]));
    expect(many.errors?.map(({ pointer }) => pointer)).toEqual(columns.map((column) => `#/1/${column}`));
    expect(await total()).toBe(1);
    // As long as one is that the table takes, and one that was in time when it was sent first.
    const good = { ...HI, content: "🙂".repeat(1_600), dedupe_key: "k", expires_at: "2026-01-01T00:00:00Z" };
    expect((await post(good)).status).toBe(200);
  });

  test("of a message that is no longer kept is told", async () => {
    const id = await messageThat("was sent", { dedupe_key: "k" });
    await outbox.pool.query("delete from outbox.sent");
    const { detail } = await problem("unknown-message", 404, post([HI, { ...HI, dedupe_key: "k" }]));
    expect(detail).toContain(`Message ${id} `);
    expect(await total()).toBe(0);
  });
});

describe("an Idempotency-Key", () => {
  const once = (key: string, body: unknown = HI, who: "all" | "write" = "all") =>
    post(body, { who, headers: { "Idempotency-Key": key } });

  test("with the same request gives the same message again, as it is by now", async () => {
    const first = await once("key");
    const message = (await first.json()) as Message;
    await outbox.pool.query("select outbox.cancel($1)", [message.id]);
    const again = await once("key");
    expect(again.status).toBe(201);
    expect(again.headers.get("Idempotency-Replayed")).toBe("true");
    expect(again.headers.get("Location")).toBe(`${MESSAGES}/${message.id}`);
    expect(again.headers.get("ETag")).toBe(await tagOf(message.id));
    expect(await again.json()).toMatchObject({ id: message.id, status: "cancelled" });
    expect(await total()).toBe(1);
  });

  test("with the same batch gives the same ids again", async () => {
    const used = await insert({ dedupe_key: "k" });
    const batch = [HI, { ...HI, dedupe_key: "k" }, { ...HI, content: "third" }];
    const first = await answered<Enqueued>(201, once("key", batch));
    const again = await once("key", batch);
    expect(again.status).toBe(201);
    expect(again.headers.get("Idempotency-Replayed")).toBe("true");
    expect(await again.json()).toEqual(first);
    expect(first.messages[1]?.id).toBe(used);
    expect(await total()).toBe(3);
  });

  test("keeps the answer that nothing was created", async () => {
    await insert({ dedupe_key: "k" });
    const body = { ...HI, dedupe_key: "k" };
    for (const replayed of [null, "true"]) {
      const answer = await once("key", body);
      expect(answer.status).toBe(200);
      expect(answer.headers.get("Idempotency-Replayed")).toBe(replayed);
    }
  });

  test("with another request is refused", async () => {
    await answered(201, once("key"));
    for (const body of [{ ...HI, content: "Hi" }, [HI]]) {
      const { detail } = await problem("idempotency-key-reused", 422, once("key", body));
      expect(detail).toContain('"key"');
    }
    expect(await total()).toBe(1);
  });

  test("stands for the JSON, not for its bytes", async () => {
    await answered(201, once("key", '{"recipient":"+905551234567","content":"hi"}'));
    const again = await once("key", ' { "content" : "hi",\n "recipient" : "+905551234567" } ');
    expect(again.headers.get("Idempotency-Replayed")).toBe("true");
  });

  test("may stand in quotation marks, as the draft has it", async () => {
    await answered(201, once('"8e03978e-40d5"'));
    expect((await once("8e03978e-40d5")).headers.get("Idempotency-Replayed")).toBe("true");
    await answered(201, once('"a\\"b\\\\c"'));
    expect((await once('a"b\\c')).headers.get("Idempotency-Replayed")).toBe("true");
    expect(await total()).toBe(2);
  });

  test("is one of its caller alone", async () => {
    const { id } = await answered<Message>(201, once("key"));
    const theirs = await once("key", HI, "write");
    expect(theirs.headers.get("Idempotency-Replayed")).toBeNull();
    expect(((await theirs.json()) as Message).id).not.toBe(id);
    expect(await outbox.rows("select actor from outbox.idempotency_keys order by actor")).toEqual([
      { actor: "ali" },
      { actor: "writer" },
    ]);
  });

  test("is free after a request that was refused", async () => {
    await problem("refused-message", 422, once("key", { ...HI, content: "" }));
    await answered(201, once("key"));
  });

  test("whose message is no longer kept is told", async () => {
    const { id } = await answered<Message>(201, once("key"));
    await outbox.pool.query("delete from outbox.messages");
    expect((await problem("unknown-message", 404, once("key"))).detail).toContain(`Message ${id} `);
    expect(await total()).toBe(0);
  });

  test.each(["", "a b", '"', '"a', '"a"b"', "x".repeat(201), `"${"x".repeat(201)}"`, "ä", '""'])(
    "%j is none",
    async (key) => {
      const { errors } = await problem("invalid-request", 400, once(key));
      expect(errors).toEqual([{ detail: expect.any(String), parameter: "Idempotency-Key" }]);
      expect(await total()).toBe(0);
    },
  );

  test("of several requests at once puts the messages in once", async () => {
    const batch = Array.from({ length: 50 }, (_, n) => ({ ...HI, metadata: { n } }));
    const answers = await Promise.all(Array.from({ length: 8 }, () => once("race", batch)));
    const replayed = answers.filter((answer) => answer.headers.get("Idempotency-Replayed") === "true");
    expect(answers.map(({ status }) => status)).toEqual(Array(8).fill(201));
    expect(replayed).toHaveLength(7);
    const ids = await Promise.all(
      answers.map(async (answer) => ((await answer.json()) as Enqueued).messages.map(({ id }) => id)),
    );
    for (const each of ids) expect(each).toEqual(ids[0]);
    expect(await total()).toBe(50);
  });

  test("of a request under way is waited for, and in the end given up", async () => {
    const other = await outbox.session();
    await other.query("begin");
    await other.query("select from outbox.enqueue_once('key', $1, 'ali')", [JSON.stringify(HI)]);
    await problem("busy", 503, once("key"));
    await other.query("rollback");
    await answered(201, once("key"));
  });
});

describe("a key that may write and not read", () => {
  test("puts messages in, and is answered without what it may not see", async () => {
    const message = await answered<Message>(201, post(HI, { who: "write" }));
    expect(message.recipient).toBe("+90********67");
    expect(message).not.toHaveProperty("content");
    const { messages } = await answered<Enqueued>(201, post([HI], { who: "write" }));
    expect(messages[0]?.recipient).toBe("+90********67");
    expect(messages[0]).not.toHaveProperty("content");
  });
});

test.each(["read", "operate"] as const)("a key for %s alone puts nothing in", async (who) => {
  await problem("insufficient-scope", 403, post(HI, { who }));
  expect(await total()).toBe(0);
});
