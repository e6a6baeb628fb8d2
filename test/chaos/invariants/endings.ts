import type { Facts } from "../facts.ts";
import { type Violation, violation } from "./violation.ts";

/** For the way to the gateway, and for its event loop to notice. */
const ON_THE_WAY_MS = 250;
/** A probe that nobody ended; everything else in the chaos asks for a second. */
const LONGEST_HOLD_MS = 8_000;

/** Nothing is posted after its end, and a dead letter is dead for a reason that the gateway or the clock gave. */
export function checkEndings({ places, postsOf, maxAttempts, heldForMs }: Facts): Violation[] {
  const late = places.flatMap(({ id, content, expires_at }) =>
    expires_at === null
      ? []
      : postsOf(content)
          .filter(({ at }) => at > expires_at + ON_THE_WAY_MS)
          .map(({ nth, at }) => ({
            seen: `message ${id}: post ${nth} came ${(at - expires_at).toFixed(0)} ms after expires_at`,
            content,
          })),
  );
  const dead = places.filter(({ place }) => place === "dead_letters");
  const early = dead.filter(
    ({ reason, expires_at, ended_at }) =>
      reason === "expired" && (expires_at === null || (ended_at ?? 0) < expires_at),
  );
  const unrejected = dead.filter(
    ({ reason, content }) =>
      reason === "rejected" && !postsOf(content).some(({ shows }) => shows.includes("rejected")),
  );
  const unexhausted = dead.filter(({ reason, attempts }) => reason === "exhausted" && attempts < maxAttempts);
  const unasked = dead.filter(({ reason }) => !["expired", "rejected", "exhausted"].includes(reason ?? ""));
  const describe = ({ id, content, attempts, reason }: (typeof dead)[number]) => ({
    seen: `message ${id}: ${reason} after ${attempts} attempts`,
    content,
  });

  return [
    ...violation("6: a message was posted after it had expired", late),
    ...violation("6: a message ended as expired before its time", early.map(describe)),
    ...violation(
      "7: a message ended as rejected, and the gateway never rejected it",
      unrejected.map(describe),
    ),
    ...violation("7: a message ended as exhausted with attempts left", unexhausted.map(describe)),
    ...violation("7: a message ended for a reason that nobody gave", unasked.map(describe)),
    ...violation(
      "a gateway is held for longer than anything that it answered",
      heldForMs > LONGEST_HOLD_MS ? [{ seen: `for another ${(heldForMs / 1_000).toFixed(0)} s` }] : [],
    ),
  ];
}
