/** A source of choices: the same name gives the same choices, on every machine and in every run. */
export interface Seed {
  readonly name: string;
  /** From 0 up to, and without, 1. */
  fraction(): number;
  /** A whole number from `least` to `most`, both included. */
  between(least: number, most: number): number;
  chance(probability: number): boolean;
  pick<Item>(items: readonly Item[]): Item;
  /** One of them, each as often as its weight says. */
  weighted<Item extends { readonly weight: number }>(items: readonly Item[]): Item;
  /** All of them in some order, each as many times as its weight says. */
  deck<Item extends { readonly weight: number }>(items: readonly Item[]): Item[];
  /** Choices of its own, so that how often one part chooses changes nothing for another. */
  fork(name: string): Seed;
}

export function createSeed(name: string): Seed {
  let state = hash(name);

  /** splitmix32 with the finalizer of MurmurHash3: a counter in even steps, each value stirred until nothing shows of it. */
  function fraction(): number {
    state = (state + 0x9e3779b9) | 0;
    return stir(state) / 2 ** 32;
  }

  function weighted<Item extends { readonly weight: number }>(items: readonly Item[]): Item {
    let left = fraction() * items.reduce((sum, { weight }) => sum + weight, 0);
    for (const item of items) {
      left -= item.weight;
      if (left < 0) return item;
    }
    return items.at(-1) as Item;
  }

  function deck<Item extends { readonly weight: number }>(items: readonly Item[]): Item[] {
    const cards = items.flatMap((item) => Array.from({ length: item.weight }, () => item));
    return cards
      .map((card) => ({ card, at: fraction() }))
      .sort((a, b) => a.at - b.at)
      .map(({ card }) => card);
  }

  const between = (least: number, most: number) => least + Math.floor(fraction() * (most - least + 1));
  return {
    name,
    fraction,
    between,
    chance: (probability) => fraction() < probability,
    pick: <Item>(items: readonly Item[]) => items[between(0, items.length - 1)] as Item,
    weighted,
    deck,
    fork: (part) => createSeed(`${name}/${part}`),
  };
}

/** FNV-1a. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return stir(value);
}

function stir(value: number): number {
  let mixed = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
