export type Labels = Readonly<Record<string, string>>;

export interface Described {
  readonly name: string;
  readonly help: string;
  readonly labelNames?: readonly string[];
}
