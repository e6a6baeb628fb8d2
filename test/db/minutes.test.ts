import { expect, test } from "vitest";
import { closeMinutes, type UntoldEnding } from "../../src/db/minutes.ts";
import { insert } from "../relay/messages.ts";
import { useDatabase } from "../support/database.ts";

const database = useDatabase();
const query = (text: string, values?: unknown[]) => database.pool.query(text, values);

/** So many seconds after the beginning of a minute that is over. */
const BEGINNING = Math.floor(Date.now() / 60_000) * 60_000 - 600_000;
const past = (seconds: number) => new Date(BEGINNING + seconds * 1_000);

/** Closes all that is over, as so many relayers at once; what each was told. */
async function closeAll(relayers: number): Promise<UntoldEnding[]> {
  const told = await Promise.all(
    Array.from({ length: relayers }, async () => {
      const all: UntoldEnding[] = [];
      for (;;) {
        const { closed, untold } = await closeMinutes(database.pool);
        all.push(...untold);
        if (closed === 0) return all;
      }
    }),
  );
  return told.flat();
}

test("each ending that no settle told of is told once, whoever closes its minute", async () => {
  await query("insert into outbox.minutes (minute) values ($1)", [past(-60)]);
  await query("select outbox.configure_gateway('bulk', '{\"on_unknown\": \"park\"}')");

  const over = { created_at: "2020-01-01", expires_at: "2020-01-02" };
  await insert(database.pool, 3, over);
  await insert(database.pool, 2, { ...over, gateway: "bulk" });
  await query("select outbox.expire('default', as_of => $1)", [past(0)]);
  await query("select outbox.expire('bulk', as_of => $1)", [past(120)]);
  const [cancelled] = await insert(database.pool);
  await query("select outbox.cancel($1, as_of => $2)", [cancelled, past(59.999)]);

  // Of a relayer that died: it had ended one message itself, and may have sent the other.
  const { rows } = await query("select outbox.register_relayer('gone', '1') as relayer");
  const { relayer } = rows[0];
  const [rejected] = await insert(database.pool, 2, { gateway: "bulk" });
  await query("select outbox.claim($1, 'bulk', 10)", [relayer]);
  await query(
    `select outbox.settle($1, array[$2::bigint], '{1}', '{rejected}', '{400}', '{null}', '{HTTP 400}', '{1}', '{null}', '{null}',
       as_of => $3)`,
    [relayer, rejected, past(30)],
  );
  await query("update outbox.relayers set heartbeat_at = '2020-01-01'");
  await query("select outbox.rescue(as_of => $1)", [past(180)]);

  const told = await closeAll(4);
  expect(told.sort((a, b) => a.count - b.count || a.reason.localeCompare(b.reason))).toEqual([
    { gateway: "default", reason: "cancelled", count: 1 },
    { gateway: "bulk", reason: "unknown_outcome", count: 1 },
    { gateway: "bulk", reason: "expired", count: 2 },
    { gateway: "default", reason: "expired", count: 3 },
  ]);
  expect(await closeAll(2)).toEqual([]);
});
