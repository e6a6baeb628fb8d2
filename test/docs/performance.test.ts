import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import {
  CHART,
  FIGURES,
  type Figures,
  PAGE,
  performanceChart,
  performancePage,
} from "../../docs/performance.ts";

const figures: Figures = JSON.parse(readFileSync(FIGURES, "utf8"));

test("docs/performance.svg shows docs/performance.json (npm run docs:performance draws it anew)", () => {
  expect(readFileSync(CHART, "utf8")).toBe(performanceChart(figures));
});

test("so does the table of docs/performance.md", () => {
  const page = readFileSync(PAGE, "utf8");
  expect(page).toBe(performancePage(page, figures));
  expect(page).toContain(`| relayer | undici | `);
});

test("the figures are of a full run, and their shares are whole", () => {
  expect(figures.scale).toBe(1);
  const parts = new Set(["gateway", "relayer", "postgres"]);
  const shares = figures.rows.filter(({ part }) => parts.has(String(part))).map(({ share }) => Number(share));
  expect(shares.reduce((sum, share) => sum + share)).toBeCloseTo(1, 6);
});
