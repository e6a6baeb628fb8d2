import { createHmac, createSecretKey } from "node:crypto";

/** Signs one request; `timestampSeconds` is what `webhook-timestamp` says. */
export type Signer = (id: string, timestampSeconds: number, body: string) => string;

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==)?|[A-Za-z0-9+/]{3}=?)?$/;

/**
 * Makes the `webhook-signature` of Standard Webhooks 1.0: HMAC-SHA256 over `id.timestamp.body`, as `v1,<base64>`.
 * The secret is base64, with or without the prefix `whsec_`. Without a secret there is no signer.
 * Throws a TypeError for a secret that is not base64: signing with the wrong bytes would fail at the gateway only.
 */
export function createSigner(secret: string | undefined): Signer | null {
  if (secret === undefined) return null;
  const encoded = secret.replace(/^whsec_/, "");
  if (encoded === "" || !BASE64.test(encoded)) {
    throw new TypeError("the webhook secret must be base64, with or without the prefix whsec_");
  }
  const key = createSecretKey(encoded, "base64");
  return (id, timestampSeconds, body) =>
    `v1,${createHmac("sha256", key).update(`${id}.${timestampSeconds}.${body}`).digest("base64")}`;
}
