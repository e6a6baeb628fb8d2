import { setTimeout as pause } from "node:timers/promises";

/**
 * Asks until the answer is the wanted one, for state that nobody announces (a row in a table). The test's own timeout is the limit;
 * the last answer is in its failure.
 */
export async function eventually<Value>(
  ask: () => Promise<Value>,
  wanted: (value: Value) => boolean,
  limitMs = 20_000,
): Promise<Value> {
  const deadline = performance.now() + limitMs;
  for (;;) {
    const value = await ask();
    if (wanted(value)) return value;
    if (performance.now() > deadline) throw new Error(`still not as wanted: ${JSON.stringify(value)}`);
    await pause(10);
  }
}
