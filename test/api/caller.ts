import { type ApiKey, createApiKey, readApiKey } from "../../src/config/api-keys.ts";

export interface CallerUnderTest {
  /** For `apiUnderTest(pool, { keys })`. */
  readonly key: ApiKey;
  /** For its requests. */
  readonly headers: { readonly Authorization: string };
}

/** Somebody with a key: `callerWith("read+read_pii")`. */
export function callerWith(scopes: string, name = "ali"): CallerUnderTest {
  const made = createApiKey(name, scopes);
  if ("fault" in made) throw new Error(made.fault);
  const key = readApiKey(made.setting);
  if ("fault" in key) throw new Error(key.fault);
  return { key, headers: { Authorization: `Bearer ${made.key}` } };
}
