/** Something that must never be, with the messages it was seen on. */
export interface Violation {
  /** Which invariant, and what is wrong. */
  readonly invariant: string;
  /** What was seen, a line each. */
  readonly seen: readonly string[];
  /** The contents of the messages, for the evidence. */
  readonly contents: readonly string[];
}

export interface Sighting {
  readonly seen: string;
  readonly content?: string | undefined;
}

/** None when nothing was seen. */
export function violation(invariant: string, sightings: readonly Sighting[]): Violation[] {
  if (sightings.length === 0) return [];
  return [
    {
      invariant,
      seen: sightings.map(({ seen }) => seen),
      contents: sightings.flatMap(({ content }) => content ?? []),
    },
  ];
}
