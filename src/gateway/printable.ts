/** What would break a log line or a terminal, or what Postgres text refuses (NUL), beside any run of whitespace. */
const UNPRINTABLE = /[\s\p{Cc}\p{Bidi_Control}]+/gu;

/** One line of well-formed text for a person, at most `longest` characters. */
export function printable(text: string, longest: number): string {
  const line = text.toWellFormed().replace(UNPRINTABLE, " ").trim();
  if (line.length <= longest) return line;
  // A cut through a surrogate pair leaves half a character, which is not well-formed.
  const cut = line.slice(0, longest);
  return cut.isWellFormed() ? cut : cut.slice(0, -1);
}

/** 500 → "500 ms", 10000 → "10 s". */
export function printableDuration(milliseconds: number): string {
  return milliseconds < 1_000 ? `${milliseconds} ms` : `${milliseconds / 1_000} s`;
}
