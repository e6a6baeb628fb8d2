import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { createMetrics } from "../../src/ops/metrics.ts";

const page = readFileSync(new URL("../../docs/metrics.md", import.meta.url), "utf8");

/** Rows of its tables: | `name` | type | `label`, `label` | meaning | worry when | */
const documented = [...page.matchAll(/^\| `(outbox_\w+)` \| (\w+) \| (.*?) ?\| (.+?) \| .*\|$/gm)].map(
  ([, name, type, labels = "", meaning]) => ({
    name,
    type,
    labels: [...labels.matchAll(/`(\w+)`/g)].map(([, label]) => label).sort(),
    meaning,
  }),
);

/** As they are shown when there is something to show of each. */
async function exposed(): Promise<string> {
  const metrics = createMetrics({
    version: "1",
    figures: async () => ({
      up: true,
      queue: [
        { gateway: "default", priority: 1, due: 1, scheduled: 1, in_flight: 1, oldest_due_age_seconds: 1 },
      ],
      server: {
        relayers_alive: 1,
        messages_estimated: 1,
        connections: 1,
        max_connections: 1,
        oldest_transaction_age_seconds: 1,
        slot_retained_bytes: 1,
        gateways: [{ name: "default", paused: false, circuit: "closed", held_for: null }],
        tables: [{ name: "messages", bytes: 1, dead_rows: 1 }],
      },
    }),
  });
  metrics.gateways(["default"]);
  metrics.schedulerRunning(true);
  metrics.queryStoreLag(1);
  return (await metrics.render()).body;
}

const text = await exposed();

function labelsOf(name: string): string[] {
  const [, labels = ""] = new RegExp(`^${name}(?:_bucket)?(?:\\{(.*)\\})? \\S+$`, "m").exec(text) ?? [];
  return [...labels.matchAll(/(\w+)="/g)].map(([, label = ""]) => label).filter((label) => label !== "le");
}

test("docs/metrics.md has every metric of ours, each with its type, its labels and what it means, and no other", () => {
  const registered = [...text.matchAll(/^# TYPE (outbox_\w+) (\w+)$/gm)].map(([, name = "", type]) => ({
    name,
    type,
    labels: labelsOf(name).sort(),
    meaning: expect.stringMatching(/\w/),
  }));
  expect(registered.length).toBeGreaterThan(25);
  const byName = (a: { name?: string | undefined }, b: { name?: string | undefined }) =>
    (a.name ?? "").localeCompare(b.name ?? "");
  expect(documented.sort(byName)).toEqual(registered.sort(byName));
});

test("every metric has a value to show, and a help", () => {
  for (const { name } of documented) {
    expect(text).toMatch(new RegExp(`^${name}(_bucket)?(\\{.*\\})? \\d`, "m"));
    expect(text).toMatch(new RegExp(`^# HELP ${name} .{5,}\\.`, "m"));
  }
});

test("what it says of the process is there, too", () => {
  const [, section = ""] = /^## The process\n([^#]*)/m.exec(page) ?? [];
  const named = [...section.matchAll(/`((?:process|nodejs)_\w+)`/g)].map(([, name]) => name);
  expect(named.length).toBeGreaterThan(5);
  for (const name of named) expect(text).toContain(`# TYPE ${name} `);
});

test("no label is one that grows with the messages: gateways, priorities and closed lists", () => {
  const labels = new Set(documented.flatMap(({ labels: its }) => its));
  expect([...labels].sort()).toEqual([
    "gateway",
    "node",
    "outcome",
    "priority",
    "reason",
    "source",
    "state",
    "table",
    "version",
  ]);
});
