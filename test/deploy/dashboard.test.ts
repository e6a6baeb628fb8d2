import { readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { stringify } from "yaml";
import { DASHBOARD, dashboardJson } from "../../deploy/grafana/dashboard.ts";
import { findPromtool, type Promtool } from "../support/promtool.ts";
import { readDashboard } from "./dashboard.ts";

const { panels, queries, templating } = readDashboard();
const promtool = await findPromtool();

test("deploy/grafana/dashboard.json is what its source makes of it (npm run deploy:dashboard)", () => {
  expect(readFileSync(DASHBOARD, "utf8")).toBe(dashboardJson());
});

test("no two panels have the same id, nor two of a row the same title", () => {
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
  expect(new Set(panels.map(({ title }) => title)).size).toBe(panels.length);
});

test("panels lie side by side within 24 columns, and none on another", () => {
  const taken = new Set<string>();
  for (const { title, gridPos } of panels) {
    expect(gridPos.x + gridPos.w, title).toBeLessThanOrEqual(24);
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++)
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        expect(taken.has(`${x} ${y}`), `${title} at ${x}, ${y}`).toBe(false);
        taken.add(`${x} ${y}`);
      }
  }
  const height = Math.max(...panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  expect(taken.size, "no gaps").toBe(24 * height);
});

test("queries use the variables that there are", () => {
  const variables = new Set(templating.list.map(({ name }) => name));
  expect([...variables]).toEqual(["datasource", "job", "gateway"]);
  const used = queries.flatMap(({ expr }) =>
    [...expr.matchAll(/\$(\w+)/g)].map(([, name]) => name as string),
  );
  expect(used.filter((name) => !name.startsWith("__") && !variables.has(name))).toEqual([]);
});

test("every query asks for the chosen cluster alone", () => {
  for (const { title, expr } of queries)
    expect(expr.match(/\{/g)?.length, title).toBe(expr.match(/job="\$job"/g)?.length);
});

describe.skipIf(promtool === undefined)("promtool", () => {
  test("can read every query", async () => {
    const folder = await mkdtemp(path.join(tmpdir(), "outbox-dashboard-"));
    onTestFinished(() => rm(folder, { recursive: true }));
    const rules = queries.map(({ expr }, nth) => ({ record: `query:${nth}`, expr: withoutVariables(expr) }));
    const file = path.join(folder, "rules.yml");
    writeFileSync(file, stringify({ groups: [{ name: "dashboard", rules }] }));
    await (promtool as Promtool)("check", "rules", file);
  });
});

/** Grafana puts values in their places. */
function withoutVariables(expr: string): string {
  return expr.replaceAll("$__rate_interval", "1m").replaceAll("$__range", "6h");
}
