/** Something about this machine keeps the built-in PostgreSQL from running; `message` is the sentence for a person. */
export class LocalPostgresError extends Error {
  override readonly name = "LocalPostgresError";
}

/** The first line a program wrote that says something, for the end of a sentence. */
export function whatWentWrong(error: unknown): string {
  const { stderr, message } = error as { stderr?: string; message?: string };
  const line = (stderr ?? "").split("\n").find((text) => text.trim() !== "");
  return (line ?? message ?? String(error)).trim();
}

/** The system's code of an error (`EACCES`, `28P01`), or an empty string. */
export function codeOf(error: unknown): string {
  const { code } = error as { code?: unknown };
  return typeof code === "string" ? code : "";
}
