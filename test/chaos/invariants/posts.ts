import type { Facts } from "../facts.ts";
import { type Violation, violation } from "./violation.ts";

/** Every `sent` row has its acceptance, and every POST is an attempt on record. */
export function checkPosts({ places, postsOf, triesOf, processOf }: Facts): Violation[] {
  const sent = places.filter(({ place }) => place === "sent");
  const acceptance = ({ content, gateway_message_id, ended_at }: (typeof sent)[number]) =>
    postsOf(content).find(
      ({ messageId, shows, at }) =>
        messageId === gateway_message_id && shows.includes("accepted") && at <= (ended_at ?? 0),
    );
  const unaccepted = sent.filter((place) => acceptance(place) === undefined);
  const stolen = sent.flatMap((place) => {
    const post = acceptance(place);
    const owner = processOf(place.claimed_by ?? -1);
    return post === undefined || post.by === owner
      ? []
      : [
          {
            seen: `message ${place.id}: was ${owner}'s, and ${post.by} had post ${post.nth} recorded`,
            content: place.content,
          },
        ];
  });
  const unrecorded = places.filter(
    ({ id, place, content }) => postsOf(content).length > triesOf(id).length + (place === "sent" ? 1 : 0),
  );
  const late = places.flatMap(({ id, content, place, claimed_by }) => {
    const tries = triesOf(id);
    return tries.flatMap(({ relayer, error }, i) => {
      if (!error?.includes("which died")) return [];
      const after = tries.slice(i + 1).some((later) => later.relayer === relayer);
      return after || (place === "sent" && claimed_by === relayer)
        ? [{ seen: `message ${id}: relayer ${relayer}`, content }]
        : [];
    });
  });

  return [
    ...violation(
      "2: a message is sent without an acceptance before it with its gateway_message_id",
      unaccepted.map(({ id, content, gateway_message_id }) => ({
        seen: `message ${id}: ${gateway_message_id}`,
        content,
      })),
    ),
    ...violation("2: a relayer recorded the acceptance of a message that was another's", stolen),
    ...violation("2: a relayer recorded something of a message after its claim was rescued", late),
    ...violation(
      "2: a message was posted more often than there are attempts on record",
      unrecorded.map(({ id, place, content }) => ({
        seen: `message ${id}: ${postsOf(content).length} posts, ${triesOf(id).length} attempts that did not end in accepted, now in ${place}`,
        content,
      })),
    ),
  ];
}
