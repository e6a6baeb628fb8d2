import { createHash, timingSafeEqual } from "node:crypto";
import type { ApiKey, Scope } from "../config/api-keys.ts";

/** Who asks, and what they may. */
export interface Caller {
  /** Whom the audit and the log name. */
  readonly name: string;
  readonly scopes: ReadonlySet<Scope>;
  readonly expiresAt: Date | undefined;
}

/** Finds the caller of a bearer token. In time that does not tell how much of a key was right, or whose. */
export function createKeyRing(keys: readonly ApiKey[]): (token: string) => Caller | undefined {
  const ring = keys.map(({ sha256, name, scopes, expiresAt }) => ({
    digest: Buffer.from(sha256, "hex"),
    caller: { name, scopes: new Set(scopes), expiresAt },
  }));
  return (token) => {
    const digest = createHash("sha256").update(token).digest();
    let found: Caller | undefined;
    for (const key of ring) if (timingSafeEqual(key.digest, digest)) found = key.caller;
    return found;
  };
}
