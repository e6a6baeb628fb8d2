import { isDeepStrictEqual } from "node:util";
import { expect } from "vitest";
import { instant } from "./calendar.ts";
import type { Ask } from "./database.ts";
import { STATE } from "./database.ts";
import { type Gateway, tokens } from "./rules/gateway.ts";
import { status, type World } from "./rules/world.ts";

type AttemptRow = readonly [id: number, attempt: number, outcome: string, relayer: number, endedAt: number];

/** Everything the database holds has to be what the model holds: each message in one place, once. */
export async function compare(ask: Ask, world: World): Promise<void> {
  const found = await ask(STATE, [instant(world.now)]);
  found.attempts.sort(inOrder);
  // Only for its report: it takes ten times as long.
  if (!isDeepStrictEqual(found, expected(world))) expect(found).toEqual(expected(world));
}

function expected(world: World) {
  return {
    running: world.running,
    messages: [...world.messages.values()]
      .sort((a, b) => a.id - b.id)
      .map((one) => ({
        id: one.id,
        status: status(one),
        reason: one.reason,
        gateway: one.gateway,
        key: one.key,
        priority: one.priority,
        recipient: one.recipient,
        content: one.content,
        attempts: one.attempts,
        owner: one.owner,
        claimed_at: one.claimedAt,
        ended_at: one.endedAt,
        available_at: one.availableAt,
        expires_at: one.expiresAt,
        revision: one.revision,
      })),
    attempts: world.attempts
      .map(({ id, attempt, outcome, relayer, endedAt }) => [id, attempt, outcome, relayer, endedAt] as const)
      .sort(inOrder),
    gateways: [...world.gateways].map(([name, it]) => ({
      name,
      paused: it.paused,
      circuit: it.circuit,
      circuit_pauses: it.pauses,
      run_of_failures: it.run,
      window_started_at: it.window?.startedAt ?? null,
      tally: tally(it),
      held_until: it.hold && Math.max(it.hold.until, world.now),
      hold_reason: it.circuit === "half_open" ? null : (it.hold?.reason ?? null),
      tokens: tokens(it, world.now),
    })),
    relayers: [...world.relayers.keys()].sort((a, b) => a - b),
    keys: Object.fromEntries(world.keys),
    audit: Object.fromEntries(world.audit),
  };
}

function tally({ circuit, probe, window }: Gateway): readonly [passed: number, failed: number] | null {
  const counted = circuit === "half_open" ? probe : window;
  return counted && [counted.passed, counted.failed];
}

function inOrder(a: AttemptRow, b: AttemptRow): number {
  return a[0] - b[0] || a[4] - b[4] || a[1] - b[1] || a[3] - b[3] || a[2].localeCompare(b[2]);
}
