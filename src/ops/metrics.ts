import { collectDefaultMetrics, Registry } from "prom-client";
import type { Figures } from "./figures.ts";
import { createMetricsOfDatabase } from "./metrics/of-database.ts";
import { createMetricsOfGateways, type MetricsOfGateways } from "./metrics/of-gateways.ts";
import { createMetricsOfRelayer, type MetricsOfRelayer } from "./metrics/of-relayer.ts";

/** What is counted in this process, and what the database says of the whole cluster: docs/metrics.md has each. */
export interface Metrics extends MetricsOfRelayer {
  /** The series of one gateway; the same object for the same name, each time. */
  readonly gateway: MetricsOfGateways["gateway"];
  /** These are all the gateways there are: each has its series, and those of others go away. */
  gateways(names: readonly string[]): void;
  /** The Prometheus text format. */
  render(): Promise<{ contentType: string; body: string }>;
}

export interface MetricsOptions {
  readonly version: string;
  /** What to show of the database. Never throws, and answers soon, whatever the database does. Left out: nothing. */
  readonly figures?: () => Promise<Figures>;
  /** Whoever asks within so many times as long as the rendering took gets the same again. 0: each asks anew. */
  readonly rest?: number;
}

/** How old what is shown may be by that. */
const LONGEST_REST_MS = 5_000;

/** Builds a registry of its own; two relayers in one process (tests) never share a number. */
export function createMetrics({ version, figures, rest = 0 }: MetricsOptions): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const ofGateways = createMetricsOfGateways(registry);
  const showDatabase = createMetricsOfDatabase(registry);
  const { contentType } = registry;
  let last = "";
  let goodUntil = Number.NEGATIVE_INFINITY;
  let rendering: Promise<void> | undefined;

  // A hundred gateways have ten thousand series, which take their time: scrapes, however many, must not keep the relay from it.
  async function render(): Promise<void> {
    const shown = await figures?.();
    const start = performance.now();
    if (shown !== undefined) showDatabase(shown);
    last = await registry.metrics();
    const end = performance.now();
    goodUntil = end + Math.min(rest * (end - start), LONGEST_REST_MS);
  }

  return {
    ...createMetricsOfRelayer(registry, version),
    gateway: ofGateways.gateway,
    gateways: ofGateways.only,
    async render() {
      if (performance.now() >= goodUntil) {
        rendering ??= render().finally(() => {
          rendering = undefined;
        });
        await rendering;
      }
      return { contentType, body: last };
    },
  };
}
