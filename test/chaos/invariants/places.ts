import type { Facts } from "../facts.ts";
import { type Violation, violation } from "./violation.ts";

/** A committed INSERT is in exactly one place, and nothing else ever was anywhere. */
export function checkPlaces({ book, places, placesOf, postsOf, posts }: Facts): Violation[] {
  const entries = [...book.entries.values()];
  const byId = Map.groupBy(places, ({ id }) => id);
  const acknowledged = entries.filter(({ fate }) => fate === "acknowledged");
  const where = (content: string) =>
    placesOf(content)
      .map(({ place, id }) => `${place} ${id}`)
      .join(" and ") || "nowhere";

  const lost = acknowledged.filter(({ id }) => !byId.has(id ?? -1));
  const misplaced = acknowledged.filter(({ id, content, enqueued, dedupeKey }) => {
    const place = byId.get(id ?? -1)?.[0];
    if (place === undefined || place.content === content) return false;
    // enqueue() with a key that was used answers with the message that has it.
    return !(enqueued && place.dedupe_key === dedupeKey && placesOf(content).length === 0);
  });
  const twice = [...byId.values()].filter((rows) => rows.length > 1);
  const twins = entries.filter(({ content }) => new Set(placesOf(content).map(({ id }) => id)).size > 1);
  const refused = entries.filter(
    ({ fate, content }) => fate === "refused" && placesOf(content).length + postsOf(content).length > 0,
  );
  const strangers = places.filter(({ content }) => !book.entries.has(content));
  const vanished = [...new Set(posts.map(({ content }) => content))].filter(
    (content) => placesOf(content).length === 0,
  );
  const unfinished = places.filter(({ place }) => place === "messages");

  return [
    ...violation(
      "1: an acknowledged message is nowhere",
      lost.map(({ id, content }) => ({ seen: `message ${id}`, content })),
    ),
    ...violation(
      "1: the id of an acknowledged message is another message",
      misplaced.map(({ id, content }) => ({ seen: `message ${id} should be "${content}"`, content })),
    ),
    ...violation(
      "1: a message is in two places",
      twice.map((rows) => ({
        seen: `message ${rows[0]?.id}: ${where(rows[0]?.content ?? "")}`,
        content: rows[0]?.content,
      })),
    ),
    ...violation(
      "1: what was inserted once has two ids",
      twins.map(({ content }) => ({ seen: where(content), content })),
    ),
    ...violation(
      "1: what was refused or rolled back is stored or was posted",
      refused.map(({ content, note }) => ({
        seen: `${where(content)}, ${postsOf(content).length} posts; the producer was told: ${note}`,
        content,
      })),
    ),
    ...violation(
      "1: a message that nobody inserted",
      strangers.map(({ id, content }) => ({ seen: `message ${id}`, content })),
    ),
    ...violation(
      "1: a message that was posted is nowhere",
      vanished.map((content) => ({ seen: `"${content}"`, content })),
    ),
    ...violation(
      "1: a message is not finished, though everything has been well for long",
      unfinished.map(({ id, content }) => ({ seen: `message ${id}`, content })),
    ),
  ];
}
