import { describe, expect, test } from "vitest";
import type { OutcomeKind } from "../../src/gateway/outcome.ts";
import { fromNow, type Shown, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { claim, insertMany, register, rows, settle } = outbox;

const failures = () => rows("select * from outbox.failures");

/** An attempt for each of these errors, each at a message of its own. Returns the messages' ids. */
async function failed(
  errors: readonly string[],
  {
    outcome = "rejected",
    http_status = 400,
    gateway = "default",
    as_of,
  }: { outcome?: OutcomeKind; http_status?: number | null; gateway?: string; as_of?: string } = {},
): Promise<number[]> {
  const ids = await insertMany(errors.length, { gateway });
  const relayer = await register();
  await claim(relayer.id, errors.length, { gateway });
  const shown: Shown[] = ids.map((id, i) => ({ id, outcome, http_status, error: errors[i] as string }));
  await settle(relayer.id, shown, { as_of });
  return ids;
}

describe("failures", () => {
  test("is empty while all is well", async () => {
    await outbox.pool.query("update outbox.gateways set keep_attempts = 'all'");
    const [id] = (await insertMany(1)) as [number];
    const relayer = await register();
    await claim(relayer.id);
    await settle(relayer.id, [{ id }]);
    expect(await outbox.attempts(id)).toMatchObject([{ outcome: "accepted" }]);
    expect(await failures()).toEqual([]);
  });

  test("makes one line of one fault, with when it was seen and an example", async () => {
    const [first, last] = [fromNow(-30 * 60_000), fromNow(-60_000)];
    await failed(["HTTP 400: no"], { as_of: last });
    const ids = await failed(["HTTP 400: no", "HTTP 400: no"], { as_of: first });
    expect(await failures()).toEqual([
      {
        gateway: "default",
        outcome: "rejected",
        http_status: 400,
        error: "HTTP 400: no",
        attempts: 3,
        messages: 3,
        first_at: first.replace("Z", "000Z"),
        last_at: last.replace("Z", "000Z"),
        sample_message_id: Math.max(...ids),
      },
    ]);
  });

  test("tells attempts from messages", async () => {
    await outbox.pool.query(
      "update outbox.gateways set circuit_failures = 1000, base_delay = '1 ms', max_delay = '1 ms'",
    );
    const [id] = (await insertMany(1)) as [number];
    const relayer = await register();
    for (const attempt of [1, 2, 3]) {
      expect(await claim(relayer.id, 1, { as_of: fromNow(60_000) })).toHaveLength(1);
      await settle(relayer.id, [{ id, attempt, outcome: "retry", error: "connection refused" }]);
    }
    expect(await failures()).toMatchObject([{ attempts: 3, messages: 1, sample_message_id: id }]);
  });

  test("names the worst first, apart by gateway, outcome, status and error", async () => {
    await outbox.addGateway("other");
    await failed(["a"]);
    await failed(["a", "a", "a", "a"], { gateway: "other" });
    await failed(["a", "a"], { http_status: 422 });
    await failed(["b", "b", "b"], { http_status: null, outcome: "unknown" });
    expect(
      (await failures()).map(({ gateway, outcome, http_status, error, attempts }) => [
        gateway,
        outcome,
        http_status,
        error,
        attempts,
      ]),
    ).toEqual([
      ["other", "rejected", 400, "a", 4],
      ["default", "unknown", null, "b", 3],
      ["default", "rejected", 422, "a", 2],
      ["default", "rejected", 400, "a", 1],
    ]);
  });

  test("forgets what failed more than an hour ago", async () => {
    await failed(["old"], { as_of: fromNow(-61 * 60_000) });
    await failed(["new"], { as_of: fromNow(-59 * 60_000) });
    expect(await failures()).toMatchObject([{ error: "new", attempts: 1 }]);
  });

  test("shows an attempt of which nothing was said", async () => {
    const [id] = (await insertMany(1)) as [number];
    await outbox.pool.query(
      "insert into outbox.attempts (message_id, attempt, gateway, relayer, outcome, ended_at) values ($1, 1, 'default', 1, 'unknown', now())",
      [id],
    );
    expect(await failures()).toMatchObject([{ outcome: "unknown", error: null, attempts: 1 }]);
  });

  test("shows what a dead relayer left", async () => {
    await insertMany(2);
    const relayer = await register("host:1");
    await claim(relayer.id);
    await relayer.client.query("select pg_advisory_unlock_all()");
    await outbox.pool.query("select outbox.rescue()");
    const [seen] = await failures();
    expect(seen).toMatchObject({ outcome: "unknown", http_status: null, attempts: 2 });
    expect(seen?.error).toBe(`claimed by relayer ${relayer.id} (host:1), which died; outcome unknown`);
  });
});

describe("the same fault in other words is the same line:", () => {
  test.each([
    {
      what: "an id of the request",
      errors: [
        'HTTP 500: {"error":"internal","request":"4f3a2b1c-0d9e-4f3a-8b1c-0d9e4f3a2b1c"}',
        'HTTP 500: {"error":"internal","request":"ffffffff-0000-4f3a-8b1c-aaaaaaaaaaaa"}',
      ],
      shown: 'HTTP 500: {"error":"internal","request":"…"}',
    },
    {
      what: "a time",
      errors: ["HTTP 500: down since 2026-07-01T10:00:01.123Z", "HTTP 500: down since 2026-07-01 9:30:00"],
      shown: "HTTP 500: down since …",
    },
    {
      what: "a recipient, which nobody needs to see here",
      errors: ["HTTP 400: +905551234567 is not reachable", "HTTP 400: +4915112345678 is not reachable"],
      shown: "HTTP 400: +… is not reachable",
    },
    {
      what: "a long text's end",
      errors: [`HTTP 400: ${"why ".repeat(60)} one`, `HTTP 400: ${"why ".repeat(60)} two`],
      shown: `HTTP 400: ${"why ".repeat(60)}`.slice(0, 200),
    },
  ])("$what", async ({ errors, shown }) => {
    await failed(errors);
    const seen = (await failures()).map(({ error }) => error);
    expect(new Set(seen)).toEqual(new Set([shown]));
  });

  test.each([
    ["connection refused (ECONNREFUSED 127.0.0.1:8080)", "connection refused (ECONNREFUSED 127.0.0.2:8080)"],
    ["HTTP 400: code 12", "HTTP 400: code 13"],
    ["HTTP 400: code 12", "HTTP 401: code 12"],
    [
      "TLS failed: certificate has expired (CERT_HAS_EXPIRED)",
      "host name not found (ENOTFOUND sms.example.com)",
    ],
  ])("but not: %s and %s", async (one, other) => {
    await failed([one, other]);
    expect((await failures()).map(({ error }) => error).sort()).toEqual([one, other].sort());
  });
});
