import { type Metric, Registry } from "prom-client";
import { vi } from "vitest";
import { createMetrics } from "../../src/ops/metrics.ts";

export interface Exposed {
  readonly labels: readonly string[];
  /** Upper bounds, of a histogram's buckets. */
  readonly buckets?: readonly number[];
  /** What values its labels have from the start, where these are a closed list. */
  readonly values: ReadonlyMap<string, ReadonlySet<string>>;
}

/** prom-client keeps both; it only does not declare them. */
type Registered = Metric & {
  readonly name: string;
  readonly labelNames?: readonly string[];
  readonly upperBounds?: readonly number[];
};

/** Every name that a relayer's /metrics has, a histogram's three by themselves, as they are registered with prom-client. */
export async function exposedMetrics(): Promise<ReadonlyMap<string, Exposed>> {
  const registering = vi.spyOn(Registry.prototype, "registerMetric");
  const metrics = createMetrics({ version: "1.2.3" });
  const registered = registering.mock.calls.map(([metric]) => metric as Registered);
  registering.mockRestore();
  metrics.gateway("default");
  const samples = samplesIn((await metrics.render()).body);

  const exposed = new Map<string, Exposed>();
  for (const { name, labelNames = [], upperBounds } of registered) {
    const values = samples.get(name) ?? new Map();
    if (upperBounds === undefined) {
      exposed.set(name, { labels: labelNames, values });
      continue;
    }
    exposed.set(`${name}_bucket`, { labels: [...labelNames, "le"], buckets: upperBounds, values });
    exposed.set(`${name}_count`, { labels: labelNames, values });
    exposed.set(`${name}_sum`, { labels: labelNames, values });
  }
  return exposed;
}

/** Of the text format: metric → label → the values that it has. */
function samplesIn(text: string): Map<string, Map<string, Set<string>>> {
  const found = new Map<string, Map<string, Set<string>>>();
  for (const [, metric, labels] of text.matchAll(/^(\w+)\{(.*)\} \S+$/gm)) {
    const its = found.get(metric as string) ?? new Map<string, Set<string>>();
    found.set(metric as string, its);
    for (const [, label, value] of (labels as string).matchAll(/(\w+)="([^"]*)"/g)) {
      const values = its.get(label as string) ?? new Set<string>();
      its.set(label as string, values.add(value as string));
    }
  }
  return found;
}
