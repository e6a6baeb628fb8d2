import type { Facts } from "../facts.ts";
import { type Violation, violation } from "./violation.ts";

/** Once a pause has committed, nothing is claimed until its resume begins; only what was claimed before is settled. */
export function checkPauses({ pauses, places, tries }: Facts): Violation[] {
  const contentOf = new Map(places.map(({ id, content }) => [id, content]));
  return violation(
    "4: a message was claimed during a pause",
    pauses.flatMap(({ gateway, from, to, claimed, stillClaimed }) => {
      const within = (at: number | null) => at !== null && at > from && at < to;
      const claimedWithin = places.filter(({ claimed_at }) => within(claimed_at)).map(({ id }) => id);
      const sentWithin = places.filter(({ place, ended_at }) => place === "sent" && within(ended_at));
      const triedWithin = tries.filter(({ ended_at }) => within(ended_at));
      const settled = [...sentWithin.map(({ id }) => id), ...triedWithin.map(({ message_id }) => message_id)];
      const ids = new Set([
        ...claimedWithin,
        ...[...settled, ...stillClaimed].filter((id) => !claimed.has(id)),
      ]);
      const what = gateway === null ? "everything" : `the gateway ${gateway}`;
      const when = `${new Date(from).toISOString()} to ${new Date(to).toISOString()}`;
      return [...ids].map((id) => ({
        seen: `message ${id}, while ${what} was paused (${when})`,
        content: contentOf.get(id),
      }));
    }),
  );
}
