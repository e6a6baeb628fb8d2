/** Finds secrets by value, wherever they stand. */
export interface Redactor {
  /** Is there a secret in this line of JSON? */
  finds(line: string): boolean;
  /** A text without them. */
  clean(text: string): string;
}

export function createRedactor(secrets: readonly string[]): Redactor {
  const needles = [...new Set(secrets.filter((secret) => secret !== "").flatMap(spellings))];
  // The longest first: else a secret that holds another one would leave its rest behind.
  needles.sort((a, b) => b.length - a.length);
  const inJson = needles.map(escapedForJson);
  return {
    finds: (line) => inJson.some((needle) => line.includes(needle)),
    clean: (text) => needles.reduce((rest, needle) => rest.replaceAll(needle, "[redacted]"), text),
  };
}

/** A secret as it is, and as it looks in a URL and in JSON that is itself quoted in a message. */
function spellings(secret: string): string[] {
  const url = new URL("redacted://host");
  url.password = secret;
  return [secret, encodeURIComponent(secret.toWellFormed()), url.password, escapedForJson(secret)];
}

function escapedForJson(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}
