import { describe, expect, test } from "vitest";
import { type Claimed, noon, type Row, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { addGateway, insert, places, register, rows, value } = outbox;

/** For each priority, where the search begins. */
type Position = readonly ({ readonly at: string; readonly id: number } | undefined)[];
type Got = Claimed & { readonly priority: number; readonly available_at: string | null };

const GATEWAY = "default";

async function claimAfter(
  relayer: number,
  batch: number,
  after: Position | null,
  as_of: string,
): Promise<Got[]> {
  return (await rows("select * from outbox.claim($1, $2, $3, $4, $5, $6)", [
    relayer,
    GATEWAY,
    batch,
    as_of,
    after?.map((one) => one?.at ?? null),
    after?.map((one) => one?.id ?? null),
  ])) as Got[];
}

const ids = (claims: readonly Row[]) => claims.map(({ id }) => id);
const micros = (iso: string) => iso.replace("Z", "000Z");

describe("a claim that begins after a message", () => {
  test("takes only what comes after it: by available_at, then by id", async () => {
    const { id: relayer } = await register();
    const [first, second, third] = [
      await insert({ available_at: noon(10) }),
      await insert({ available_at: noon(10) }),
      await insert({ available_at: noon(11) }),
    ];
    const early = await insert({ available_at: noon(5) });
    const after = [undefined, { at: noon(10), id: first }, undefined];
    expect(ids(await claimAfter(relayer, 10, after, noon(1_000)))).toEqual([second, third]);
    expect(ids(await claimAfter(relayer, 10, null, noon(1_000)))).toEqual([early, first]);
  });

  test("has a place of its own for each priority, and begins at the start where there is none", async () => {
    const { id: relayer } = await register();
    const waiting: Row[] = [];
    for (const priority of [0, 1, 2]) {
      for (const ms of [1, 2])
        waiting.push({ priority, id: await insert({ priority, available_at: noon(ms) }) });
    }
    const after = [{ at: noon(1), id: waiting[0]?.id }, undefined, { at: noon(2), id: waiting[5]?.id }];
    expect(ids(await claimAfter(relayer, 10, after, noon(1_000)))).toEqual(ids(waiting.slice(1, 4)));
  });

  test("looks back over the last 200 ms, for what was inserted earlier and committed later", async () => {
    const { id: relayer } = await register();
    const sent = await insert({ available_at: noon(1_000) });
    const older = await insert({ available_at: noon(799) });
    const late = await insert({ available_at: noon(801) });
    const after = [undefined, { at: noon(1_000), id: sent }, undefined];
    await value("select outbox.cancel($1)", [sent]);
    expect(ids(await claimAfter(relayer, 10, after, noon(1_000)))).toEqual([late]);
    expect(await places(older)).toEqual(["messages"]);
  });

  test("leaves what has expired to a claim from the start, and never takes it", async () => {
    const { id: relayer } = await register();
    const expired = await insert({ available_at: noon(10), created_at: noon(), expires_at: noon(20) });
    const after = [undefined, { at: noon(5), id: 1 }, undefined];
    expect(await claimAfter(relayer, 10, after, noon(1_000))).toEqual([]);
    expect(await places(expired)).toEqual(["messages"]);
    expect(await claimAfter(relayer, 10, null, noon(1_000))).toEqual([]);
    expect(await places(expired)).toEqual(["dead_letters"]);
  });
});

test("available_at is told of the last message of each priority alone", async () => {
  const { id: relayer } = await register();
  for (const priority of [0, 1]) {
    for (const ms of [1, 2]) await insert({ priority, available_at: noon(ms) });
  }
  const claims = await claimAfter(relayer, 10, null, noon(1_000));
  expect(claims.map(({ priority, available_at }) => [priority, available_at])).toEqual([
    [0, null],
    [0, micros(noon(2))],
    [1, null],
    [1, micros(noon(2))],
  ]);
});

test("claims that each begin where the last one ended take every message once, in order", async () => {
  const { id: relayer } = await register();
  await outbox.pool.query(
    `insert into outbox.messages (recipient, content, priority, available_at)
     select '+905551234567', 'hi', n % 3, $1::timestamptz + n / 10 * interval '1 ms' from generate_series(1, 500) as n`,
    [noon()],
  );
  const expected = await rows("select id, priority from outbox.messages order by available_at, id");
  const claimed: Got[] = [];
  let position: Position | null = null;
  for (;;) {
    const got: Got[] = await claimAfter(relayer, 37, position, noon(60_000));
    if (got.length === 0) break;
    claimed.push(...got);
    position = [0, 1, 2].map((priority) => {
      const last = got.findLast((one) => one.priority === priority);
      return last === undefined ? position?.[priority] : { at: last.available_at as string, id: last.id };
    });
  }
  for (const priority of [0, 1, 2]) {
    const of = (all: readonly Row[]) => ids(all.filter((one) => one.priority === priority));
    expect(of(claimed)).toEqual(of(expected));
  }
});

test("next_due looks at what comes after the position", async () => {
  const first = await insert({ available_at: noon(1_000) });
  await insert({ available_at: noon(2_000) });
  await insert({ available_at: noon(4_000), priority: 0 });
  const due = (after_at: (string | null)[] | null, after_id: (number | null)[] | null) =>
    value("select outbox.next_due('default', $1, $2, $3)", [noon(), after_at, after_id]);
  expect(await due(null, null)).toBe(1_000);
  expect(await due([null, noon(1_000), null], [null, first, null])).toBe(2_000);
  expect(await due([null, noon(2_000), null], [null, 2 ** 53 - 1, null])).toBe(4_000);
  expect(await due([noon(4_000), noon(2_000), null], [2 ** 53 - 1, 2 ** 53 - 1, null])).toBeNull();
});

test("with an old snapshot in the way, a claim from the position does not walk over what was sent before", async () => {
  const { id: relayer } = await register();
  await addGateway("elsewhere");
  const reader = await outbox.session();
  await reader.query("begin isolation level repeatable read; select 1 from outbox.messages");
  const put = (count: number, ms: number) =>
    outbox.pool.query(
      `insert into outbox.messages (recipient, content, available_at)
       select '+905551234567', 'hi', $2::timestamptz + n * interval '1 us' from generate_series(1, $1::int) as n`,
      [count, noon(ms)],
    );
  await put(20_000, 0);
  const claims = await claimAfter(relayer, 20_000, null, noon(10_000));
  expect(claims).toHaveLength(20_000);
  await outbox.settle(relayer, claims);
  await put(10, 5_000);

  const last = claims.at(-1) as Got;
  const after = [undefined, { at: last.available_at as string, id: last.id }, undefined];
  /** Pages that were looked at by a claim that is then undone. */
  const client = await outbox.session();
  const pages = async (position: Position | null): Promise<number> => {
    await client.query("begin");
    const plan = await value(
      "explain (analyze, buffers, timing off, format json) select * from outbox.claim($1, $2, $3, $4, $5, $6)",
      [
        relayer,
        GATEWAY,
        10,
        noon(10_000),
        position?.map((one) => one?.at ?? null),
        position?.map((one) => one?.id ?? null),
      ],
      client,
    );
    await client.query("rollback");
    return plan[0].Plan["Shared Hit Blocks"] + plan[0].Plan["Shared Read Blocks"];
  };
  await pages(null); // with what a session reads but once
  expect(await pages(after)).toBeLessThan((await pages(null)) / 3);
  await reader.query("rollback");
});
