const SECRET_KEYS = new Set([
  "auth_key",
  "secret",
  "password",
  "keys",
  "headers",
  "token",
  "slack_url",
  "smtp_password",
]);
const LONGEST = 100;

/** A faulty value as a fault may quote it: on one line, not too long, without secrets. */
export function shown(path: readonly string[], value: unknown): string {
  if (SECRET_KEYS.has(path.at(-1) ?? "")) return "the value (not shown)";
  if (typeof value !== "string") return typeof value === "object" ? kindOf(value) : String(value);
  const text = withoutCredentials(value);
  return JSON.stringify(text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text);
}

/** What sort of value it is, for where the value itself might hold a secret. */
export function kindOf(value: unknown): string {
  if (value === null) return "nothing";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "a mapping";
  return typeof value === "string" ? "text" : `a ${typeof value}`;
}

/** A URL without user, password, query and fragment: a token may stand in any of them. */
export function withoutCredentials(text: string): string {
  if (!/[@?#]/.test(text)) return text;
  const url = URL.parse(text);
  // With an unencoded "/", "?" or "#" in the password, part of the password parses as something else.
  const misparsed = url === null || url.host === "" || /@/.test(url.pathname + url.search + url.hash);
  if (misparsed) return `${/^[a-z][a-z0-9+.-]*:\/\//i.exec(text)?.[0] ?? ""}***`;
  const user = url.username === "" && url.password === "" ? "" : "***@";
  return `${url.protocol}//${user}${url.host}${url.pathname}${url.search && "?***"}${url.hash && "#***"}`;
}
