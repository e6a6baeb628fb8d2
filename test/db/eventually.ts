import { expect } from "vitest";

/** `expect.poll` with the patience of a busy machine: what is waited for is another process's doing. */
export const eventually = <Value>(get: () => Value) => expect.poll(get, { timeout: 20_000 });
