import { Histogram, type Registry } from "prom-client";
import type { Described, Labels } from "./metric.ts";

export interface HistogramSeries {
  observe(value: number): void;
  /** From now on it is not shown. */
  remove(): void;
}

export type HistogramOf = (labels?: Labels) => HistogramSeries;

interface Observed {
  readonly labels: Labels;
  /** How many fell into each bucket, those above the last bound at the end. */
  readonly counts: Float64Array;
  sum: number;
}

/**
 * As the counter: observed here, and shown by prom-client. Its own observe() takes more than a microsecond, which two of them a
 * message would make some percent of a core.
 */
export function createHistogram(
  registry: Registry,
  { name, help, labelNames = [], buckets }: Described & { readonly buckets: readonly number[] },
): HistogramOf {
  const all = new Set<Observed>();
  const histogram = new Histogram({
    name,
    help,
    labelNames: [...labelNames],
    buckets: [...buckets],
    registers: [],
  });
  const described = histogram.get();
  const get = async () => ({
    ...(await described),
    values: [...all].flatMap((observed) => valuesOf(name, buckets, observed)),
  });
  registry.registerMetric(Object.assign(histogram, { get, getForPromString: get }));

  return (labels = {}) => {
    const one: Observed = { labels, counts: new Float64Array(buckets.length + 1), sum: 0 };
    all.add(one);
    return {
      observe(value) {
        let bucket = 0;
        while (bucket < buckets.length && value > (buckets[bucket] as number)) bucket++;
        one.counts[bucket] = (one.counts[bucket] as number) + 1;
        one.sum += value;
      },
      remove: () => void all.delete(one),
    };
  };
}

/** Each bucket counts what is in the smaller ones, too. */
function valuesOf(name: string, buckets: readonly number[], { labels, counts, sum }: Observed) {
  let count = 0;
  const cumulative = [...buckets, "+Inf"].map((le, i) => {
    count += counts[i] as number;
    return { metricName: `${name}_bucket`, labels: { le: String(le), ...labels }, value: count };
  });
  return [
    ...cumulative,
    { metricName: `${name}_sum`, labels: { ...labels }, value: sum },
    { metricName: `${name}_count`, labels: { ...labels }, value: count },
  ];
}
