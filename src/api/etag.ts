import { createHmac } from "node:crypto";
import { z } from "@hono/zod-openapi";
import type { ApiDependencies } from "./dependencies.ts";
import { createSigningKey } from "./signing-key.ts";
import type { MessageWithHistory } from "./whole-message.ts";

/** Entity tags of messages (RFC 9110, 8.8.3): strong ones, which change with anything that can be seen of the message. */
export interface Etags {
  /** For a reader who sees all of it, or for one who sees it masked: another representation, so another tag. */
  of(message: MessageWithHistory, whole: boolean): string;
  /** If-Match: is the message still as it was in one of these? Masked or not, it is the same message. */
  match(wanted: EntityTags, message: MessageWithHistory): boolean;
}

/** `*`, or the tags as they came, weak ones with their W/. */
export type EntityTags = "*" | readonly string[];

/** Given once, before a transaction begins: waiting for the key while holding a connection might be waiting for oneself. */
export function createEtags(pool: ApiDependencies["pool"]): () => Promise<Etags> {
  const signingKey = createSigningKey(pool);
  return async () => {
    const key = await signingKey();
    // Keyed, so that whoever sees the message masked cannot find out the number by trying all of them.
    const digestOf = (message: MessageWithHistory) =>
      createHmac("sha256", key)
        .update(`etag ${JSON.stringify(message)}`)
        .digest()
        .subarray(0, 16)
        .toString("base64url");
    const tag = (digest: string, whole: boolean) => (whole ? `"${digest}"` : `"${digest}.masked"`);
    return {
      of: (message, whole) => tag(digestOf(message), whole),
      match(wanted, message) {
        if (wanted === "*") return true;
        const digest = digestOf(message);
        return wanted.includes(tag(digest, true)) || wanted.includes(tag(digest, false));
      },
    };
  };
}

/** If-None-Match, for which a weak tag is as good. */
export function isOneOf(etag: string, tags: EntityTags): boolean {
  return tags === "*" || tags.some((tag) => tag.replace(/^W\//, "") === etag);
}

const TAG = /(?:W\/)?"[!#-~]*"/g;
const TAGS = '^(\\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$';

const tags = z
  .string()
  .regex(new RegExp(TAGS), 'must be ETags, such as "a", "b", or *')
  .transform((text): EntityTags => (text === "*" ? text : (text.match(TAG) ?? [])))
  .openapi({ type: "string", pattern: TAGS });

export const ifMatch = tags.optional().openapi({
  description:
    "The ETag of the message as it was read: if it has changed since, nothing is done (412). Several, with commas, or `*`.",
});

export const ifNoneMatch = tags.optional().openapi({
  description:
    "The ETag of the message as it is known: if it has not changed since, it is not sent again (304).",
});

/** For an answer that has a message in it. */
export const ETAG = {
  ETag: {
    description: "Stands for the message as it is now. Send it as `If-Match` with a change.",
    schema: { type: "string" },
  },
} as const;
