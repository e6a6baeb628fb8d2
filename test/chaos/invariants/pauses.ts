import type { Facts } from "../facts.ts";
import { type Violation, violation } from "./violation.ts";

/** Once a pause has committed, nothing is claimed until its resume begins. */
export function checkPauses({ pauses, places }: Facts): Violation[] {
  return violation(
    "4: a message was claimed during a pause",
    pauses.flatMap(({ gateway, from, to, claimed }) => {
      const during = places.filter(
        ({ claimed_at }) => claimed_at !== null && claimed_at > from && claimed_at < to,
      );
      const what = gateway === null ? "everything was paused" : `the gateway ${gateway} was paused`;
      return [
        ...during.map(({ id, content, claimed_at }) => ({
          seen: `message ${id}: claimed ${((claimed_at ?? 0) - from).toFixed(1)} ms after ${what}`,
          content,
        })),
        ...claimed.map((id) => ({ seen: `message ${id}: was seen claimed while ${what}` })),
      ];
    }),
  );
}
