import type { Readiness } from "../api/dependencies.ts";
import { withoutAnswer } from "../api/pii.ts";
import type { QueryStore } from "../api/query-store/query-store.ts";
import type { Gateway } from "../db/outbox.ts";
import type { Relay } from "../relay/relay.ts";
import type { Session } from "../relay/session.ts";
import { storePart } from "./query-store.ts";

/** What the probes have to know that no part knows by itself. */
export interface Stage {
  migrated: boolean;
  /** The relay has begun. */
  relaying: boolean;
  draining: boolean;
}

/** The relay loop is taken for stuck when it has not turned for so long. It turns each second, also without Postgres. */
const STUCK_MS = 60_000;

/** Only a restart helps against what makes this false; a database that is away does not. */
export function liveness(
  stage: Readonly<Stage>,
  relay: Pick<Relay, "lastTurnMsAgo">,
): { alive: boolean; reason?: string } {
  const stillMs = relay.lastTurnMsAgo();
  // Before it begins, which may be long after this process did, and while it ends, the loop does not turn.
  if (!stage.relaying || stage.draining || stillMs < STUCK_MS) return { alive: true };
  return { alive: false, reason: `the relay loop has not turned for ${Math.round(stillMs / 1_000)} s` };
}

export function readiness(
  stage: Readonly<Stage>,
  relay: Pick<Relay, "reachable" | "gateways">,
  session: Pick<Session, "number">,
  store?: QueryStore,
): Readiness {
  const parts = {
    migrated: { ok: stage.migrated },
    database: { ok: relay.reachable() },
    relayer: { ok: session.number() !== undefined },
    not_draining: { ok: !stage.draining },
    // Its messages wait, and the others' go on: no reason to take this relayer away.
    gateways: { ok: true, ...stoppedGateways(relay.gateways()) },
    ...(store === undefined ? {} : { query_store: storePart(store) }),
  };
  return { ready: Object.values(parts).every(({ ok }) => ok), parts };
}

/** For people: which gateways are left alone now, and why. Whoever reaches the port may ask, so without the gateway's words. */
function stoppedGateways(gateways: readonly Gateway[]): { detail?: string } {
  const stopped = gateways.flatMap(({ name, paused, held_until, hold_reason, hold_detail, circuit }) => {
    if (paused) return `${name}: paused`;
    if (held_until === null)
      return circuit === "closed" ? [] : `${name}: to be probed (${withoutAnswer(hold_detail)})`;
    return `${name}: ${hold_reason} until ${held_until} (${withoutAnswer(hold_detail)})`;
  });
  return stopped.length === 0 ? {} : { detail: stopped.join("; ") };
}
