import { createApiKey } from "./config/api-keys.ts";

/** What `api-key NAME SCOPES [EXPIRES]` prints: the key, this once, and the setting that lets it in. */
export function printedApiKey(args: readonly string[]): string | { readonly fault: string } {
  const [name, scopes, expires, ...others] = args;
  if (name === undefined || scopes === undefined || others.length > 0)
    return {
      fault: "api-key takes NAME SCOPES [EXPIRES], such as: api-key support read+read_pii 2027-01-31",
    };
  const made = createApiKey(name, scopes, expires);
  if ("fault" in made) return made;
  return `The key, which is shown this once; give it to ${name}:
  ${made.key}
Its setting, for API_KEYS (with commas between keys) or api.keys in config.yaml:
  ${made.setting}
To use it:
  curl -H "Authorization: Bearer ${made.key}" http://127.0.0.1:8080/api/v1/scheduler
`;
}
