import type { Seed } from "./seed.ts";

export interface Draft {
  readonly recipient: string;
  readonly content: string;
  readonly priority: number;
  /** Due so long from now. */
  readonly delay_ms: number;
  /** Expires so long from now; null: never. */
  readonly lives_ms: number | null;
  readonly dedupe_key: string | null;
}

/** What a producer does at one time, as an application would. */
export interface Order {
  /** Each of them is one statement. */
  readonly statements: readonly { readonly way: "insert" | "enqueue"; readonly drafts: readonly Draft[] }[];
  /** `alone`: no transaction of its own around it. */
  readonly end: "alone" | "commit" | "rollback";
}

const KINDS = [
  { kind: "one", weight: 40 },
  { kind: "many", weight: 12 },
  { kind: "commit", weight: 14 },
  { kind: "rollback", weight: 8 },
  { kind: "key", weight: 14 },
  { kind: "enqueue", weight: 8 },
  { kind: "bad", weight: 4 },
] as const;

/** Makes the orders of one producer. `keys` are shared by all, so that two may use one at the same time. */
export function createOrders(seed: Seed, producer: number, keys: string[]): () => Order {
  let count = 0;

  function draft(key: string | null = null): Draft {
    count += 1;
    return {
      recipient: `+90555${String(seed.between(0, 9_999_999)).padStart(7, "0")}`,
      content: `${producer}-${count}`,
      priority: seed.weighted([
        { value: 0, weight: 2 },
        { value: 1, weight: 5 },
        { value: 2, weight: 3 },
      ]).value,
      delay_ms: seed.chance(0.1) ? seed.between(100, 3_000) : 0,
      lives_ms: seed.chance(0.15) ? seed.between(200, 2_500) : null,
      dedupe_key: key,
    };
  }

  const drafts = (most: number) => Array.from({ length: seed.between(1, most) }, () => draft());

  /** Half of them have been used before, some a moment ago by somebody else. */
  function key(): string {
    if (keys.length > 0 && seed.chance(0.5))
      return keys[seed.between(Math.max(0, keys.length - 20), keys.length - 1)] as string;
    const fresh = `key ${producer}-${count}`;
    keys.push(fresh);
    return fresh;
  }

  function insertsOf(many: readonly Draft[][]): Order["statements"] {
    return many.map((drafts) => ({ way: "insert", drafts }));
  }

  return () => {
    switch (seed.weighted(KINDS).kind) {
      case "one":
        return { statements: insertsOf([[draft()]]), end: "alone" };
      case "many":
        return { statements: insertsOf([drafts(30)]), end: "alone" };
      case "commit":
        return {
          statements: insertsOf([drafts(3), drafts(3), [draft(seed.chance(0.2) ? key() : null)]]),
          end: "commit",
        };
      case "rollback":
        return { statements: insertsOf([drafts(5), drafts(5)]), end: "rollback" };
      case "key":
        return { statements: insertsOf([[draft(key())]]), end: "alone" };
      case "enqueue":
        return { statements: [{ way: "enqueue", drafts: [draft(key())] }], end: "alone" };
      case "bad":
        return { statements: insertsOf([[draft(), { ...draft(), recipient: "0555" }]]), end: "alone" };
    }
  };
}
