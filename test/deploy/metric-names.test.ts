import { describe, expect, test } from "vitest";
import { readDashboard } from "./dashboard.ts";
import { type Matcher, namesIn } from "./promql.ts";
import { type Exposed, exposedMetrics } from "./registry.ts";
import { readRules } from "./rules.ts";

const { recordings, alerts } = readRules();
const dashboard = readDashboard();

/** Prometheus adds them to whatever it scrapes. */
const OF_THE_SCRAPE = ["job", "instance"];
/** Labels whose values are closed lists, all of them there from the start. */
const CLOSED = new Set(["outcome", "reason", "source"]);
const none = new Map<string, ReadonlySet<string>>();
const OF_PROMETHEUS: readonly [string, Exposed][] = [
  ["up", { labels: [], values: none }],
  [
    "ALERTS",
    { labels: ["alertname", "alertstate", "severity", "gateway", "reason", "priority", "slo"], values: none },
  ],
];

const known = new Map([...(await exposedMetrics()), ...OF_PROMETHEUS]);
for (const [name, labels] of recordedLabels()) known.set(name, { labels: [...labels], values: none });

const expressions = [
  ...recordings.map(({ record, expr }) => [`rule ${record}`, expr] as const),
  ...alerts.map(({ alert, expr }) => [`alert ${alert}`, expr] as const),
  ...dashboard.queries.map(({ title, expr }) => [`panel ${title}`, expr] as const),
];

test.each(expressions)("%s names only metrics and labels that there are", (_, expr) => {
  expect(faultsIn(expr)).toEqual([]);
});

describe("what is not there is a fault", () => {
  test.each([
    ["outbox_attempt_total", "no metric outbox_attempt_total"],
    ["outbox:nothing:max", "no metric outbox:nothing:max"],
    ['outbox_inflight{gate="default"}', "outbox_inflight has no label gate"],
    ['outbox_attempts_total{outcome="acepted"}', "outbox_attempts_total is never outcome acepted"],
    ['outbox_attempts_total{outcome!~"retry|holt"}', "outbox_attempts_total is never outcome holt"],
    ["sum by (job, gatewya) (rate(outbox_inflight[5m]))", "nothing has the label gatewya"],
    [
      'outbox_attempt_duration_seconds_bucket{le="7"}',
      "outbox_attempt_duration_seconds_bucket has no bucket 7",
    ],
  ])("%s", (expr, fault) => {
    expect(faultsIn(expr)).toEqual([fault]);
  });
});

test("a name is a metric, a function, a label or a word by what is next to it", () => {
  const { selectors, grouping } = namesIn(`
    # sum(of_a_comment)
    histogram_quantile(0.95, sum without (instance, pod) (rate(a_bucket{le!="+Inf", by=~"x{y}|\\"z"}[5m] offset 1d)))
      + on (job) group_left(team) max by () (b:c:d) * 1e3 > bool 14.4 and -e or count(f @ 1609746000) == Inf unless g`);
  expect(selectors.map(({ metric }) => metric)).toEqual(["a_bucket", "b:c:d", "e", "f", "g"]);
  expect(selectors[0]?.matchers).toEqual([
    { label: "le", operator: "!=", value: "+Inf" },
    { label: "by", operator: "=~", value: 'x{y}|\\"z' },
  ]);
  expect(grouping).toEqual(["instance", "pod", "job", "team"]);
});

test.each(['sum({job="x"})', "a{", "sum by (job", "a ? b"])("%s cannot be read", (expr) => {
  expect(() => namesIn(expr)).toThrow();
});

function faultsIn(expr: string): string[] {
  const { selectors, grouping } = namesIn(expr);
  const faults: string[] = [];
  const there = new Set(OF_THE_SCRAPE);
  for (const { metric, matchers } of selectors) {
    const its = known.get(metric);
    if (its === undefined) {
      faults.push(`no metric ${metric}`);
      continue;
    }
    for (const label of its.labels) there.add(label);
    for (const matcher of matchers) faults.push(...faultsOf(metric, its, matcher));
  }
  for (const label of grouping) if (!there.has(label)) faults.push(`nothing has the label ${label}`);
  return faults;
}

function faultsOf(metric: string, { labels, values, buckets }: Exposed, { label, value }: Matcher): string[] {
  if (![...labels, ...OF_THE_SCRAPE].includes(label)) return [`${metric} has no label ${label}`];
  // A variable of the dashboard, or a pattern that is more than a choice.
  if (!/^[\w.|[\]+]+$/.test(value)) return [];
  const choice = value.split("|");
  if (label === "le")
    return choice
      .map((bound) => Number(bound.replace("[.]", ".")))
      .filter((bound) => buckets?.includes(bound) === false)
      .map((bound) => `${metric} has no bucket ${bound}`);
  const its = CLOSED.has(label) ? values.get(label) : undefined;
  return choice.filter((one) => its?.has(one) === false).map((one) => `${metric} is never ${label} ${one}`);
}

/** What a rule records has the labels that it groups by or gives, and those of what it is made of where that is recorded itself. */
function recordedLabels(): Map<string, Set<string>> {
  const recorded = new Map<string, Set<string>>();
  for (const { record, expr, labels = {} } of recordings) {
    const its = recorded.get(record) ?? new Set<string>();
    recorded.set(record, its);
    const { selectors, grouping } = namesIn(expr);
    for (const { metric } of selectors) for (const label of recorded.get(metric) ?? []) its.add(label);
    for (const label of [...grouping, ...Object.keys(labels)]) if (label !== "le") its.add(label);
  }
  return recorded;
}
