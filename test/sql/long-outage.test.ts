import { expect, test } from "vitest";
import { noon, useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { claim, insertMany, register, rows, settle, value } = outbox;

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

/** A relayer as it works, a step each second of the tests' calendar, at a gateway that is down until it is up. */
async function relayFor(relayer: number, fromMs: number, toMs: number, up: boolean): Promise<number> {
  let tried = 0;
  for (let at = fromMs; at < toMs; at += SECOND) {
    const claims = await claim(relayer, 50, { as_of: noon(at) });
    tried += claims.length;
    if (claims.length === 0) continue;
    const shown = claims.map(({ id, attempt, claimed_at }) => ({
      id,
      attempt,
      claimed_at,
      outcome: up ? ("accepted" as const) : attempt % 2 ? ("retry" as const) : ("unknown" as const),
      error: up ? null : "down",
    }));
    await settle(
      relayer,
      shown.sort((a, b) => a.id - b.id),
      { as_of: noon(at + 500) },
    );
  }
  return tried;
}

test.each([1, 4, 300])(
  "an outage of 30 minutes with %i messages waiting kills none, tries few, and the backlog drains by itself",
  async (waiting) => {
    const { id: relayer } = await register();
    await insertMany(waiting, { available_at: noon() });
    const tried = await relayFor(relayer, 0, 30 * MINUTE, false);
    expect(await value("select count(*)::int from outbox.dead_letters")).toBe(0);
    // The circuit's probes, three at a time, ever longer apart.
    expect(tried).toBeLessThan(50 + 40 * 3);

    await relayFor(relayer, 30 * MINUTE, 32 * MINUTE, true);
    expect(await rows("select count(*)::int, max(attempts)::int <= 5 as within from outbox.sent")).toEqual([
      { count: waiting, within: true },
    ]);
    expect(await value("select circuit from outbox.gateways")).toBe("closed");
  },
);
