/*
 * npm run docs:performance
 *
 * Takes over what `npm run bench -- profile` measured last, if it did, into docs/performance.json, and writes from it
 * docs/performance.svg and the table of docs/performance.md.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import type { Row } from "../bench/support/bench.ts";
import type { Conditions } from "../bench/support/conditions.ts";
import { chart, type Part } from "./performance-chart.ts";

export const FIGURES = new URL("performance.json", import.meta.url);
export const CHART = new URL("performance.svg", import.meta.url);
export const PAGE = new URL("performance.md", import.meta.url);
const MEASURED = new URL("../bench/results/profile.json", import.meta.url);

export type Figures = Conditions & { readonly rows: readonly Row[] };

const PARTS = { gateway: "Gateway", relayer: "Relayer", postgres: "PostgreSQL" };
const TABLE = /(<!-- table: npm run docs:performance -->\n)[\s\S]*?(<!-- end of table -->)/;

export function performanceChart({ rows }: Figures): string {
  return chart(Object.entries(PARTS).map(([part, name]) => partOf(rows, part, name)));
}

/** The page with its table made anew; what people wrote stays. */
export function performancePage(page: string, figures: Figures): string {
  if (!TABLE.test(page)) throw new Error("docs/performance.md has lost the place of its table");
  return page.replace(TABLE, (_, start: string, end: string) => `${start}${table(figures)}${end}`);
}

function table({ at, cpus, cpu, node, postgres, rows }: Figures): string {
  const lines = rows.map(
    ({ part, case: name, us_per_message, share }) =>
      `| ${part} | ${name} | ${Number(us_per_message).toFixed(1)} | ${(Number(share) * 100).toFixed(1)} % |`,
  );
  return [
    `On ${at.slice(0, 10)}, on ${cpus} cores of ${cpu}, with Node ${node.slice(1)} and PostgreSQL ${postgres}:`,
    "",
    "| | | µs a message | share |",
    "|---|---|--:|--:|",
    ...lines,
    "",
  ].join("\n");
}

function partOf(rows: readonly Row[], part: string, name: string): Part {
  const areas = rows.filter((row) => row.part === part);
  return { name, areas: areas.map((row) => ({ name: row.case, us: Number(row.us_per_message) })) };
}

function read(url: URL): Figures {
  return JSON.parse(readFileSync(url, "utf8"));
}

if (import.meta.main) {
  if (existsSync(MEASURED)) {
    const measured = read(MEASURED);
    if (measured.scale !== 1 || measured.rows.length === 0)
      throw new Error("bench/results/profile.json is not of a full run: npm run bench -- profile");
    writeFileSync(FIGURES, `${JSON.stringify(measured, null, 2)}\n`);
  }
  const figures = read(FIGURES);
  writeFileSync(CHART, performanceChart(figures));
  writeFileSync(PAGE, performancePage(readFileSync(PAGE, "utf8"), figures));
}
