/**
 * An array as Postgres reads it, made many times faster than node-postgres does: the text of JSON differs from it in the brackets,
 * and in some escapes, where it is left to node-postgres.
 */
export function arrayLiteral(values: readonly (string | number | null)[]): string | typeof values {
  const json = JSON.stringify(values);
  return json.includes("\\") ? values : `{${json.slice(1, -1)}}`;
}
