import type { Facts } from "../facts.ts";
import { type Violation, violation } from "./violation.ts";

/** A message has one idempotency key, and a key one message. */
export function checkKeys({ places, posts, postsOf, installation }: Facts): Violation[] {
  const wrong = places.flatMap(({ id, content }) =>
    postsOf(content)
      .filter(({ key }) => key !== `msg_${installation}_${id}`)
      .map(({ nth, key }) => ({ seen: `message ${id}: post ${nth} had the key ${key}`, content })),
  );
  const shared = [...Map.groupBy(posts, ({ key }) => key)].flatMap(([key, group]) => {
    const contents = [...new Set(group.map(({ content }) => content))];
    return contents.length === 1
      ? []
      : [{ seen: `${key}: "${contents.join('", "')}"`, content: contents[0] }];
  });
  const deduped = [...Map.groupBy(places, ({ dedupe_key }) => dedupe_key)].flatMap(([key, group]) =>
    key === null || group.length === 1
      ? []
      : [{ seen: `"${key}": messages ${group.map(({ id }) => id).join(", ")}`, content: group[0]?.content }],
  );

  return [
    ...violation("3: a message was posted with a key that is not its own", wrong),
    ...violation("3: two messages were posted with one key", shared),
    ...violation("3: a dedupe_key went into two messages", deduped),
  ];
}
