import { type ApiKey, type Scope, sha256Of } from "../../src/config/api-keys.ts";

const key = (name: string, scopes: Scope[]): ApiKey => ({
  name,
  scopes,
  sha256: sha256Of(`key-${name}`),
  expiresAt: undefined,
});

/** An operator with and without the right to see whole numbers, and one who may only look. */
export const OPERATORS_KEYS: readonly ApiKey[] = [
  key("reader", ["read"]),
  key("operator", ["read", "operate"]),
  key("lead", ["read", "read_pii", "operate"]),
];

/** A request with the key of that name. */
export const as = (name: string, init: RequestInit = {}): RequestInit => ({
  ...init,
  headers: { ...init.headers, Authorization: `Bearer key-${name}` },
});
