/** Three digits that matter; more would be noise. */
export function shown(value: string | number): string | number {
  if (typeof value === "string") return value;
  return Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3));
}
