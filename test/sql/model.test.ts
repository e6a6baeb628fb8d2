import fc from "fast-check";
import { expect, test } from "vitest";
import type { OutcomeKind } from "../../src/gateway/outcome.ts";
import { useOutbox } from "./outbox-under-test.ts";

const outbox = useOutbox();
const { rows, value } = outbox;

const MAX_ATTEMPTS = 2;
const KEYS = ["a", "b", undefined] as const;

/** Where a message is, as the model has it. `owner`: which relayer has claimed it. */
interface Modelled {
  place: "messages" | "sent" | "dead_letters";
  attempts: number;
  owner?: number;
}

/** What the relayer thinks it has claimed; it may be wrong, as a zombie is. */
interface Held {
  readonly id: number;
  readonly attempt: number;
  readonly relayer: number;
}

type Step =
  | { readonly do: "enqueue"; readonly key: string | undefined; readonly priority: number }
  | { readonly do: "enqueue, rolled back" }
  | { readonly do: "claim"; readonly relayer: number; readonly batch: number }
  | { readonly do: "settle"; readonly outcomes: readonly OutcomeKind[]; readonly again: boolean }
  | { readonly do: "release"; readonly many: number }
  | { readonly do: "rescue"; readonly relayer: number }
  | { readonly do: "pause" | "resume" | "toggle" };

const outcome = fc.constantFrom<OutcomeKind[]>(
  "accepted",
  "accepted",
  "accepted",
  "rejected",
  "retry",
  "throttled",
  "unknown",
  "hold",
);
const relayer = fc.nat({ max: 1 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("enqueue" as const),
      key: fc.constantFrom(...KEYS),
      priority: fc.nat({ max: 2 }),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ do: "enqueue, rolled back" as const }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("claim" as const),
      relayer,
      batch: fc.integer({ min: 1, max: 4 }),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("settle" as const),
      outcomes: fc.array(outcome, { minLength: 1, maxLength: 4 }),
      again: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("release" as const), many: fc.integer({ min: 1, max: 3 }) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("rescue" as const), relayer }) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      { do: "pause" as const },
      { do: "resume" as const },
      { do: "toggle" as const },
    ),
  },
);

test("whatever happens, each committed message is in exactly one place, and its attempts add up", async () => {
  const session = await outbox.session();
  // One session is enough here: who waits for whom is the other files' concern.
  await session.query("set synchronous_commit = off");
  let claimed = 0;
  let sent = 0;

  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 20, size: "max" }), async (steps) => {
      await session.query(`
        delete from outbox.messages; delete from outbox.sent; delete from outbox.dead_letters;
        delete from outbox.attempts; delete from outbox.dedupe_keys; delete from outbox.relayers;
        select outbox.resume(), outbox.resume('default');
        update outbox.gateways set max_attempts = ${MAX_ATTEMPTS}, base_delay = '1 microsecond', max_delay = '1 microsecond', hold_for = '1 microsecond'`);
      const model = new Map<number, Modelled>();
      const keys = new Map<string, number>();
      const register = (): Promise<number> =>
        value("select outbox.register_relayer('model', '1')", [], session);
      const relayers = [await register(), await register()];
      let held: Held[] = [];
      let running = true;

      for (const now of steps) {
        switch (now.do) {
          case "enqueue": {
            const { key: dedupe_key, priority } = now;
            const id = await outbox.enqueue({ priority, ...(dedupe_key && { dedupe_key }) }, session);
            const owner = dedupe_key === undefined ? undefined : keys.get(dedupe_key);
            if (owner === undefined) {
              expect(model.has(id)).toBe(false);
              model.set(id, { place: "messages", attempts: 0 });
              if (dedupe_key !== undefined) keys.set(dedupe_key, id);
            } else expect(id).toBe(owner);
            break;
          }
          case "enqueue, rolled back":
            await session.query("begin");
            await outbox.enqueue({ dedupe_key: "never" }, session);
            await session.query("rollback");
            break;
          case "claim": {
            const number = relayers[now.relayer] as number;
            const claims = await outbox.claim(number, now.batch, { on: session });
            const waiting = [...model.values()].filter(({ place, owner }) => place === "messages" && !owner);
            expect(claims).toHaveLength(running ? Math.min(now.batch, waiting.length) : 0);
            for (const { id, attempt } of claims) {
              const message = model.get(id) as Modelled;
              expect(message).toEqual({ place: "messages", attempts: attempt - 1 });
              Object.assign(message, { attempts: attempt, owner: number });
              held.push({ id, attempt, relayer: number });
            }
            claimed += claims.length;
            break;
          }
          case "settle": {
            const number = held[0]?.relayer;
            if (number === undefined) break;
            // One that was given back and claimed again has the same number: it is settled once.
            const mine = held
              .filter((one) => one.relayer === number)
              .filter((one, i, all) => all.findIndex(({ id }) => id === one.id) === i)
              .slice(0, now.outcomes.length);
            const shown = mine
              .map(({ id, attempt }, i) => ({ id, attempt, outcome: now.outcomes[i] as OutcomeKind }))
              .sort((a, b) => a.id - b.id);
            const live = shown.filter(({ id, attempt }) => {
              const message = model.get(id) as Modelled;
              return message.place === "messages" && message.owner === number && message.attempts === attempt;
            });
            const settled = await outbox.settle(number, shown, { on: session });
            expect(settled.stale).toEqual(shown.filter((one) => !live.includes(one)).map(({ id }) => id));
            for (const { id, attempt, outcome: word } of live) {
              const message = model.get(id) as Modelled;
              const spent = (word === "retry" || word === "unknown") && attempt >= MAX_ATTEMPTS;
              if (word !== "accepted" && word !== "rejected" && !spent) delete message.owner;
              if (word === "accepted") message.place = "sent";
              if (word === "rejected" || spent) message.place = "dead_letters";
              if (word === "throttled" || word === "hold") message.attempts--;
              if (word === "accepted") sent++;
            }
            // A hold lasts a microsecond here, but a throttle has five seconds of its own.
            await session.query("update outbox.gateways set held_until = null, hold_reason = null");
            if (!now.again) held = held.filter((one) => !mine.includes(one));
            break;
          }
          case "release": {
            const number = held[0]?.relayer;
            if (number === undefined) break;
            const ids = held
              .filter((one) => one.relayer === number)
              .slice(0, now.many)
              .map(({ id }) => id);
            const live = [...new Set(ids)].filter(
              (id) => model.get(id)?.owner === number && model.get(id)?.place === "messages",
            );
            expect(
              await value("select outbox.release($1, $2)", [number, ids.sort((a, b) => a - b)], session),
            ).toBe(live.length);
            for (const id of live) {
              const message = model.get(id) as Modelled;
              message.attempts--;
              delete message.owner;
            }
            break;
          }
          case "rescue": {
            const number = relayers[now.relayer] as number;
            await session.query("update outbox.relayers set heartbeat_at = '2000-01-01' where id = $1", [
              number,
            ]);
            const lost = [...model.values()].filter(
              ({ place, owner }) => place === "messages" && owner === number,
            );
            expect(await rows("select rescued from outbox.rescue()", [], session)).toEqual([
              { rescued: lost.length },
            ]);
            for (const message of lost) {
              if (message.attempts >= MAX_ATTEMPTS) message.place = "dead_letters";
              else delete message.owner;
            }
            // Its own results stay with it: as a zombie it will still try to settle them.
            relayers[now.relayer] = await register();
            break;
          }
          default: {
            const changed = await value(`select outbox.${now.do}()`, [], session);
            const then: boolean = now.do === "toggle" ? !running : now.do === "resume";
            expect(changed).toBe(now.do === "toggle" ? then : then !== running);
            running = then;
          }
        }
      }

      const found = await rows(
        `select id, 'messages' as place, attempts, claimed_by as owner from outbox.messages
         union all select id, 'sent', attempts, claimed_by from outbox.sent
         union all select id, 'dead_letters', attempts, claimed_by from outbox.dead_letters
         order by id`,
        [],
        session,
      );
      expect(found).toEqual(
        [...model]
          .sort(([a], [b]) => a - b)
          .map(([id, { place, attempts, owner }]) => ({ id, place, attempts, owner: owner ?? null })),
      );
    }),
    { numRuns: 200 },
  );
  // The steps were not all in vain.
  expect(claimed).toBeGreaterThan(200);
  expect(sent).toBeGreaterThan(20);
}, 60_000);
