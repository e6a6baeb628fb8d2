import type { Facts, Place } from "../facts.ts";
import type { Post } from "../gateway-ledger.ts";
import { type Violation, violation } from "./violation.ts";

/** A clear answer is on record by then, also when a few queries are cut. */
const RECORDED_MS = 4_000;

/** A message that the gateway took more than once. */
export function duplicates({ places, postsOf }: Facts): Place[] {
  return places.filter(({ content }) => postsOf(content).filter(({ taken }) => taken).length > 1);
}

/**
 * A message is posted again only when the answer before did not settle the matter, or when a fault kept a relayer that had to do
 * with it from recording what it knew.
 */
export function checkDuplicates(facts: Facts): Violation[] {
  const again = facts.places.flatMap((place) => {
    const posts = facts.postsOf(place.content);
    return posts.slice(1).flatMap((next, i) => {
      const before = posts[i] as Post;
      return mayBeRepeated(before) || atFault(facts, before, next)
        ? []
        : [
            {
              seen: `message ${place.id}: post ${next.nth}, ${next.at - before.at} ms after post ${before.nth}, whose answer "${before.answer}" was clear`,
              content: place.content,
            },
          ];
    });
  });
  return violation("8: a message was posted again without a reason", again);
}

function mayBeRepeated({ clean, shows }: Post): boolean {
  return !clean || shows.some((outcome) => outcome !== "accepted" && outcome !== "rejected");
}

/**
 * Of everyone, or of a relayer that made one of the two: it could not record the first in time, or it woke up and made the second
 * too late.
 */
function atFault({ faults }: Facts, before: Post, next: Post): boolean {
  const hit = (post: Post, from: number, to: number) =>
    faults
      .during(from, to)
      .some(
        ({ blame, relayer }) =>
          blame === "everyone" || (blame === "its relayer" && relayer?.name === post.by),
      );
  return (
    hit(before, before.at, Math.min(next.at, before.answeredAt + RECORDED_MS)) || hit(next, next.at, next.at)
  );
}
