/** An error as a line has it. */
export interface ErrorFields {
  readonly type: string;
  readonly message: string;
  readonly code?: string;
  readonly stack?: string;
}

export function isErrorFields(value: unknown): value is ErrorFields {
  if (typeof value !== "object" || value === null || !("type" in value && "message" in value)) return false;
  return typeof value.type === "string" && typeof value.message === "string";
}
