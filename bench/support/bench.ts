import type { Stage } from "./stage.ts";

/** One line of a bench's table: what was measured, then its figures, whose names say their units. */
export type Row = { readonly case: string } & Readonly<Record<string, string | number>>;

export interface Bench {
  /** What `run` measures, in a line. */
  readonly measures: string;
  /** Settings of the bench's PostgreSQL beyond the durable ones. */
  readonly settings?: Readonly<Record<string, string>>;
  readonly run: (stage: Stage) => Promise<readonly Row[]>;
}
