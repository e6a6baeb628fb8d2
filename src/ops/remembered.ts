export interface RememberedOptions<Value> {
  readonly ask: () => Promise<Value>;
  /** How long an answer, or a failure, is good for. */
  readonly keepMs: number;
  /** How long whoever wants it waits at most. */
  readonly waitMs: number;
  readonly now?: () => number;
}

export type Answer<Value> =
  | { readonly kind: "known"; readonly value: Value }
  | { readonly kind: "failed"; readonly error: unknown }
  /** No answer yet, and none worth showing from before. */
  | { readonly kind: "waiting" };

/** Questions may take a twentieth of the time, however long their answers take. */
const PAUSE_PER_QUESTION = 20;

/** Asks at most one question at a time, and only when the last answer is too old, however often it is wanted. */
export function createRemembered<Value>({
  ask,
  keepMs,
  waitMs,
  now = () => performance.now(),
}: RememberedOptions<Value>): () => Promise<Answer<Value>> {
  let last: Answer<Value> = { kind: "waiting" };
  let goodUntil = Number.NEGATIVE_INFINITY;
  let asking: Promise<void> | undefined;

  async function learn(): Promise<void> {
    const start = now();
    try {
      last = { kind: "known", value: await ask() };
      goodUntil = now() + Math.max(keepMs, PAUSE_PER_QUESTION * (now() - start));
    } catch (error) {
      last = { kind: "failed", error };
      goodUntil = now() + keepMs;
    }
    asking = undefined;
  }

  return async () => {
    if (now() < goodUntil) return last;
    asking ??= learn();
    const { promise: tooLate, resolve } = Promise.withResolvers<"too late">();
    const timer = setTimeout(resolve, waitMs, "too late");
    const answered = await Promise.race([asking, tooLate]);
    clearTimeout(timer);
    return answered === "too late" ? { kind: "waiting" } : last;
  };
}
