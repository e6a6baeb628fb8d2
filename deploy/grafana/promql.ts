import type { Query } from "./panel.ts";

/** What the variables at the head of the dashboard choose: one cluster, … */
export const CLUSTER = 'job="$job"';
/** … and of that some gateways. */
export const CHOSEN = 'job="$job", gateway=~"$gateway"';

/** Every relayer tells the cluster's figures: a max, never a sum. */
export const last = (metric: string): string => `max(${metric}{${CLUSTER}})`;

/** What each relayer counts of its own work, of all of them together. */
export const perSecond = (counter: string, by: string, labels = CHOSEN): string =>
  `sum by (${by}) (rate(${counter}{${labels}}[$__rate_interval]))`;

export const percentiles = (histogram: string): Query[] =>
  ["0.5", "0.95", "0.99"].map((quantile) => ({
    expr: `histogram_quantile(${quantile}, ${perSecond(`${histogram}_bucket`, "le")})`,
    legend: `p${Number(quantile) * 100}`,
  }));

export const average = (histogram: string): string =>
  `sum(rate(${histogram}_sum{${CLUSTER}}[$__rate_interval])) / sum(rate(${histogram}_count{${CLUSTER}}[$__rate_interval]))`;
