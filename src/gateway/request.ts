import type { Dispatcher } from "undici";
import { createSigner } from "./signature.ts";
import { isTraceparent } from "./traceparent.ts";

/** What the gateway needs of a message. */
export interface Sendable {
  readonly id: number;
  readonly recipient: string;
  readonly content: string;
  readonly traceparent: string | null;
  /** Above 0: a rejected message that was changed, which the gateway is to take for another one. */
  readonly revision: number;
  /** On the clock of `performance.now()`; Infinity for a message without an end. */
  readonly expiresAtMs: number;
}

export interface RequestOptions {
  readonly url: string;
  /** Sent as `api-key`. */
  readonly authKey?: string | undefined;
  /** Signs every request, see `createSigner`. */
  readonly secret?: string | undefined;
  /** Names this database among the gateway's senders, so that ids of two installations never meet. */
  readonly installation: string;
  readonly userAgent: string;
}

/** VCHAR, space and tab: RFC 9110, section 5.5, without obs-text, whose encoding nobody has agreed on. */
const HEADER_VALUE = /^[\t\x20-\x7e]*$/;

/**
 * Returns what makes the POST of a message. Its id is the same on every attempt and replay, which is what lets the gateway
 * drop the second of two; only a rejected message that was changed has another. A message with an end says how many whole
 * seconds it has left (`webhook-expires-in`), for the gateway's own attempts. Throws a TypeError for options that no request could carry.
 */
export function createRequestMaker(
  options: RequestOptions,
): (message: Sendable) => Dispatcher.DispatchOptions {
  const { pathname, search, username, password } = new URL(options.url);
  const path = `${pathname}${search}`;
  const sign = createSigner(options.secret);
  const idPrefix = `msg_${options.installation}_`;
  const constant = [
    ["content-type", "application/json"],
    ["accept", "application/json"],
    ["user-agent", options.userAgent],
    ...(options.authKey === undefined ? [] : [["api-key", options.authKey]]),
    ...(username === "" && password === "" ? [] : [["authorization", basic(username, password)]]),
  ].flat();
  if (![...constant, idPrefix].every((value) => HEADER_VALUE.test(value))) {
    throw new TypeError("the auth key, the installation and the user agent must be printable ASCII");
  }

  return ({ id, recipient, content, traceparent, revision, expiresAtMs }) => {
    const messageId = revision === 0 ? `${idPrefix}${id}` : `${idPrefix}${id}_${revision}`;
    const timestamp = Math.floor(Date.now() / 1_000);
    const body = JSON.stringify({ to: recipient, content });
    const headers = [
      ...constant,
      "idempotency-key",
      messageId,
      "webhook-id",
      messageId,
      "webhook-timestamp",
      String(timestamp),
    ];
    if (sign !== null) headers.push("webhook-signature", sign(messageId, timestamp, body));
    if (expiresAtMs !== Number.POSITIVE_INFINITY) {
      headers.push(
        "webhook-expires-in",
        String(Math.max(0, Math.floor((expiresAtMs - performance.now()) / 1_000))),
      );
    }
    // A malformed traceparent is to be ignored, and must not cost the message.
    if (traceparent !== null && isTraceparent(traceparent)) headers.push("traceparent", traceparent);
    return { method: "POST", path, headers, body };
  };
}

function basic(username: string, password: string): string {
  const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return `Basic ${Buffer.from(credentials).toString("base64")}`;
}
