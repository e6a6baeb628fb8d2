import { describe, expect, test } from "vitest";
import { failure, refusal, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { addGateway, gateway, insert, value } = outbox;

const configure = (name: string, settings: Record<string, unknown>, on = outbox.pool) =>
  on.query("select outbox.configure_gateway($1, $2)", [name, settings]);

const ACCEPTED: Record<string, readonly unknown[]> = {
  url: [
    null,
    "http://localhost",
    "https://sms.example/send?x=1",
    "http://[::1]:8080/",
    "http://10.0.0.1:80/a/b",
  ],
  concurrency: [1, 4096],
  timeout: ["100 milliseconds", "10 minutes"],
  max_attempts: [1, 1000],
  base_delay: ["1 millisecond", "10 minutes"],
  max_delay: ["1 second", "7 days"],
  jitter: [0, 1],
  on_unknown: ["retry", "park"],
  hold_for: ["1 second", "7 days"],
  weights: ["{1,1,1}", "{1000,0.5,0.001}"],
  keep_attempts: ["failed", "all"],
  dedupe_window: ["1 second", "36500 days"],
  rate_per_second: [null, 0.01, 100_000],
  burst: [null, 1, 100_000],
  circuit_failures: [1, 1000],
  circuit_ratio: [0.01, 1],
  circuit_window: ["1 second", "1 hour"],
  circuit_pause: ["1 millisecond", "1 minute"],
  circuit_max_pause: ["2 seconds", "7 days"],
  circuit_probes: [1, 100],
};

const REFUSED: readonly (readonly [string, string, readonly unknown[]])[] = [
  ["name_not_lowercase_word", "name", ["", "A", "1a", "-a", "ä", "a b", "a.b", "a\n", "a".repeat(64)]],
  [
    "url_not_http_or_with_secrets",
    "url",
    [
      "",
      "sms.example",
      "ftp://x",
      "https://",
      "https://user:key@sms.example/",
      "https://x/#part",
      "javascript:1",
    ],
  ],
  ["concurrency_not_1_to_4096", "concurrency", [0, 4097]],
  ["timeout_not_100ms_to_10min", "timeout", ["99 milliseconds", "10 minutes 1 second"]],
  ["max_attempts_not_1_to_1000", "max_attempts", [0, 1001]],
  ["base_delay_not_positive", "base_delay", ["0", "-1 second"]],
  ["max_delay_below_base_delay", "max_delay", ["999 milliseconds"]],
  ["jitter_not_0_to_1", "jitter", [-0.1, 1.1, "NaN"]],
  ["on_unknown_not_retry_or_park", "on_unknown", ["", "Retry", "drop"]],
  ["hold_for_not_positive", "hold_for", ["0", "-1 second"]],
  ["hold_for_over_7_days", "hold_for", ["7 days 1 second"]],
  ["max_delay_over_7_days", "max_delay", ["7 days 1 second"]],
  [
    "weights_not_three_positive",
    "weights",
    ["{}", "{1,1}", "{1,1,1,1}", "{1,0,1}", "{1,-1,1}", "{1,null,1}"],
  ],
  ["keep_attempts_not_failed_or_all", "keep_attempts", ["", "none"]],
  ["dedupe_window_not_positive", "dedupe_window", ["0", "-1 second"]],
  ["rate_per_second_not_positive", "rate_per_second", [0, -1, 100_001, "NaN"]],
  ["burst_not_1_to_100000", "burst", [0, 100_001]],
  ["circuit_failures_not_1_to_1000", "circuit_failures", [0, 1001]],
  ["circuit_ratio_not_above_0_to_1", "circuit_ratio", [0, 1.01, -0.1, "NaN"]],
  ["circuit_window_not_1s_to_1h", "circuit_window", ["999 milliseconds", "1 hour 1 second"]],
  ["circuit_pause_not_positive", "circuit_pause", ["0", "-1 second"]],
  ["circuit_max_pause_below_circuit_pause", "circuit_max_pause", ["1 second"]],
  ["circuit_max_pause_over_7_days", "circuit_max_pause", ["7 days 1 second"]],
  ["circuit_probes_not_1_to_100", "circuit_probes", [0, 101]],
  ["circuit_not_a_state", "circuit", ["", "half-open"]],
  ["hold_reason_not_a_reason", "hold_reason", ["", "other"]],
  ["hold_without_reason", "held_until", ["2100-01-01"]],
];

describe("a gateway's columns", () => {
  test.each(Object.entries(ACCEPTED))("%s takes what it should", async (column, values) => {
    for (const accepted of values) {
      await outbox.pool.query(`update outbox.gateways set ${column} = $1`, [accepted]);
    }
  });

  test.each(REFUSED)("%s refuses", async (constraint, column, values) => {
    for (const refused of values)
      expect
        .soft(
          await refusal(addGateway("fine", { [column]: refused }).catch(sameColumnTwice(column, refused))),
          String(refused),
        )
        .toBe(`23514 ${constraint}`);
  });

  test("a name is a lowercase word of at most 63 characters, and one gateway", async () => {
    for (const name of ["a", "sms-2_tr", "a".repeat(63)]) await addGateway(name);
    expect(await refusal(addGateway("a"))).toBe("23505 gateways_pkey");
  });

  test("a hold has a reason", async () => {
    await outbox.pool.query("update outbox.gateways set held_until = '2100-01-01', hold_reason = 'hold'");
  });
});

describe("an unknown gateway", () => {
  test("is refused by name, with the names that there are", async () => {
    await addGateway("bulk-sms");
    expect(await failure(insert({ gateway: "nope" }))).toMatchObject({
      code: "OB001",
      schema: "outbox",
      table: "messages",
      column: "gateway",
      constraint: "unknown_gateway",
      message: 'unknown gateway "nope"',
      hint: expect.stringContaining("bulk-sms, default"),
    });
  });

  test("is refused in the middle of many", async () => {
    const many = outbox.pool.query(
      `insert into outbox.messages (recipient, content, gateway)
       values ('+905551234567', 'a', 'default'), ('+905551234567', 'b', 'nope')`,
    );
    expect(await refusal(many)).toBe("OB001 unknown_gateway");
  });

  test("is known as soon as it is added, in the same transaction", async () => {
    const producer = await outbox.session();
    await producer.query("begin");
    await producer.query("insert into outbox.gateways (name) values ('new')");
    await insert({ gateway: "new" }, producer);
    await producer.query("commit");
  });
});

describe("guard_gateway", () => {
  const remove = (name: string) => outbox.pool.query("delete from outbox.gateways where name = $1", [name]);
  const rename = (from: string, to: string) =>
    outbox.pool.query("update outbox.gateways set name = $2 where name = $1", [from, to]);

  test("keeps 'default'", async () => {
    expect(await failure(remove("default"))).toMatchObject({
      code: "OB003",
      message: 'gateway "default" cannot be removed or renamed',
    });
    expect((await failure(rename("default", "other"))).code).toBe("OB003");
  });

  test("keeps a gateway that messages wait for", async () => {
    await addGateway("busy");
    await insert({ gateway: "busy" });
    expect(await failure(remove("busy"))).toMatchObject({
      code: "OB003",
      message: 'gateway "busy" still has messages in the outbox',
    });
    expect((await failure(rename("busy", "other"))).code).toBe("OB003");
  });

  test("lets an unused one be renamed and removed, though the history knows it", async () => {
    await addGateway("old");
    const relayer = await outbox.register();
    const id = await insert({ gateway: "old" });
    await outbox.claim(relayer.id, 1, { gateway: "old" });
    await outbox.settle(relayer.id, [{ id }]);
    await rename("old", "new");
    await remove("new");
    expect(await value("select gateway from outbox.sent where id = $1", [id])).toBe("old");
  });

  test("lets an update name the name that it has", async () => {
    await rename("default", "default");
    await addGateway("busy");
    await insert({ gateway: "busy" });
    await rename("busy", "busy");
  });
});

describe("outbox.configure_gateway", () => {
  test("changes what is named and nothing else", async () => {
    const before = await gateway();
    await configure("default", { url: "https://sms.example/", timeout: "3 seconds", max_attempts: 9 });
    expect(await gateway()).toEqual({
      ...before,
      url: "https://sms.example/",
      timeout: expect.objectContaining({ seconds: 3 }),
      max_attempts: 9,
    });
  });

  test("takes every setting of a gateway", async () => {
    const settings = {
      url: "https://sms.example/",
      concurrency: 7,
      timeout: "00:00:08",
      max_attempts: 9,
      base_delay: "00:00:02",
      max_delay: "00:05:00",
      jitter: 0.5,
      on_unknown: "park",
      hold_for: "00:01:00",
      rate_per_second: 0.5,
      burst: 3,
      circuit_failures: 4,
      circuit_ratio: 0.25,
      circuit_window: "00:01:00",
      circuit_pause: "00:00:05",
      circuit_max_pause: "00:02:00",
      circuit_probes: 2,
    };
    await configure("default", settings);
    expect(
      await value(
        "select jsonb_path_query_array(jsonb_agg(to_jsonb(gateways)), '$[*]') -> 0 from outbox.gateways",
      ),
    ).toMatchObject(settings);
  });

  test("unsets what is named with null", async () => {
    await configure("default", { url: "https://sms.example/" });
    await configure("default", { url: null });
    expect((await gateway()).url).toBeNull();
  });

  test("makes a gateway that is not there, with the defaults of the rest", async () => {
    await configure("new", { url: "https://new.example/" });
    expect(await gateway("new")).toEqual({
      ...(await gateway()),
      name: "new",
      url: "https://new.example/",
    });
  });

  test("cannot rename, pause or hold", async () => {
    const before = await gateway();
    await configure("default", {
      name: "other",
      paused: true,
      held_until: "2100-01-01",
      hold_reason: "hold",
      circuit: "open",
      weights: [1, 1, 1],
      nonsense: 1,
    });
    expect(await gateway()).toEqual(before);
  });

  test("refuses what the table refuses, and then has made no gateway", async () => {
    expect(await refusal(configure("new", { concurrency: 0 }))).toBe("23514 concurrency_not_1_to_4096");
    expect(await refusal(configure("New", {}))).toBe("23514 name_not_lowercase_word");
    expect(await value("select count(*)::int from outbox.gateways")).toBe(1);
  });

  test("writes nothing when there is nothing to change", async () => {
    await configure("default", { concurrency: 7 });
    const version = () => value("select xmin::text from outbox.gateways");
    const before = await version();
    await configure("default", { concurrency: 7 });
    expect(await version()).toBe(before);
  });

  test("keeps what somebody else changes at the same time", async () => {
    const person = await outbox.session();
    const relayer = await outbox.session();
    await person.query("begin");
    await person.query("update outbox.gateways set max_attempts = 9");
    const configuring = configure("default", { concurrency: 7 }, relayer as never);
    await outbox.blocked(relayer);
    await person.query("commit");
    await configuring;
    expect(await gateway()).toMatchObject({ max_attempts: 9, concurrency: 7 });
  });

  test("makes a new gateway once, when two relayers start together", async () => {
    const [one, two] = [await outbox.session(), await outbox.session()];
    await one.query("begin");
    await configure("new", { concurrency: 7 }, one as never);
    const second = configure("new", { concurrency: 7 }, two as never);
    await outbox.blocked(two);
    await one.query("commit");
    await second;
    expect((await gateway("new")).concurrency).toBe(7);
  });
});

/** addGateway("fine", { name }) names the column twice; then the name alone is meant. */
function sameColumnTwice(column: string, refused: unknown) {
  return async (error: Error) => {
    if (column !== "name") throw error;
    await addGateway(String(refused));
  };
}
