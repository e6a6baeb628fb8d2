import type { Position } from "./cursor.ts";

export interface Keyset {
  /** `select … from …`, of one table. */
  readonly select: string;
  /** The column that comes before `id` in the order; without it the order is that of the ids. */
  readonly time?: string;
  readonly order: "asc" | "desc";
  readonly from: Position | undefined;
  /** Each a comparison without its right side, `gateway =`, and that side; undefined was not asked for. */
  readonly conditions: readonly (readonly [comparison: string, value: string | number | undefined])[];
  readonly count: number;
}

/**
 * Up to `count` rows beyond a position. Only the conditions that are asked for: `$1 is null or …` would keep Postgres from its
 * index ranges. And the position first, for of two bounds Postgres starts its index scan at the one written first.
 */
export function keysetQuery({ select, time, order, from, conditions, count }: Keyset) {
  const values: (string | number)[] = [];
  const $ = (value: string | number) => `$${values.push(value)}`;
  const where: string[] = [];

  if (from !== undefined) {
    const beyond = order === "asc" ? ">" : "<";
    where.push(
      time === undefined
        ? `id ${beyond} ${$(from.id)}`
        : `(${time}, id) ${beyond} (${$(from.at ?? "")}, ${$(from.id)})`,
    );
  }
  for (const [comparison, value] of conditions)
    if (value !== undefined) where.push(`${comparison} ${$(value)}`);

  const text = `
    ${select}
    ${where.length === 0 ? "" : `where ${where.join("\n      and ")}`}
    order by ${time === undefined ? "" : `${time} ${order}, `}id ${order}
    limit ${$(count)}`;
  return { text, values };
}
