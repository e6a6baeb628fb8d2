import { Counter, type Registry } from "prom-client";
import type { Described, Labels } from "./metric.ts";

export interface CounterSeries {
  inc(count?: number): void;
  /** From now on it is not shown. */
  remove(): void;
}

/** A series starts at 0, because Prometheus cannot see the first increase of one that is born at 1. */
export type CounterOf = (labels?: Labels) => CounterSeries;

/**
 * Counts are kept here, and handed to prom-client when somebody asks: its own inc() builds a key of the labels each time, which
 * for what every message does is too much.
 */
export function createCounter(registry: Registry, { name, help, labelNames = [] }: Described): CounterOf {
  const all = new Set<{ readonly labels: Labels; count: number }>();
  new Counter({
    name,
    help,
    labelNames: [...labelNames],
    registers: [registry],
    collect() {
      this.reset();
      for (const { labels, count } of all) this.inc(labels, count);
    },
  });
  return (labels = {}) => {
    const one = { labels, count: 0 };
    all.add(one);
    return {
      inc(count = 1) {
        one.count += count;
      },
      remove: () => void all.delete(one),
    };
  };
}
