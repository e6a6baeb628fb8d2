/** Postgres keeps neither NUL nor half of a surrogate pair. */
export function isStorable(text: string): boolean {
  return text.isWellFormed() && !text.includes("\0");
}

export const UNSTORABLE = "has a character that cannot be kept: NUL, or half of a surrogate pair";

/** For the OpenAPI document; it knows no half pairs, for JSON in UTF-8 has none. */
export const STORABLE = "^[^\\u0000]*$";

const DEEPEST = 50;

/** What keeps a JSON value from being stored, and read again, as it is; undefined: nothing. */
export function faultOfJson(value: unknown): string | undefined {
  const waiting: { value: unknown; depth: number }[] = [{ value, depth: 1 }];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const { value, depth } = next;
    if (typeof value === "string" && !isStorable(value)) return UNSTORABLE;
    if (typeof value === "number" && Math.abs(value) > Number.MAX_SAFE_INTEGER)
      return "has a number beyond 2^53, which would be rounded: make it a text";
    if (typeof value !== "object" || value === null) continue;
    if (depth > DEEPEST) return `is nested deeper than ${DEEPEST} levels`;
    for (const [key, inner] of Object.entries(value)) {
      if (!isStorable(key)) return UNSTORABLE;
      waiting.push({ value: inner, depth: depth + 1 });
    }
  }
  return undefined;
}
