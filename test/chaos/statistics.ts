/** The value that the given share of all values does not exceed; of none, NaN. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

export const median = (values: readonly number[]) => quantile(values, 0.5);
export const smallest = (values: readonly number[]) => quantile(values, 0);
export const largest = (values: readonly number[]) => quantile(values, 1);
