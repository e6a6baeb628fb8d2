/*
 * npm run docs:bench
 *
 * Takes over into bench/README.md what the benches measured last; what was not measured anew stays as it is there.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import type { Row } from "./support/bench.ts";
import type { Conditions } from "./support/conditions.ts";
import { shown } from "./support/shown.ts";

export type Result = Conditions & { readonly bench: string; readonly rows: readonly Row[] };

const RESULTS = new URL("results/", import.meta.url);
const PAGE = new URL("README.md", import.meta.url);

/** The page with the table of a bench made anew, or added at its end. */
export function withTable(page: string, result: Result): string {
  const section = `### ${result.bench}\n\n${table(result)}`;
  const old = new RegExp(`^### ${result.bench}\n[^#]*`, "m");
  return old.test(page) ? page.replace(old, () => `${section}\n`) : `${page.trimEnd()}\n\n${section}`;
}

function table({ at, cpus, cpu, memory_gb, load, node, postgres, rows }: Result): string {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const cells = (row: Row) => columns.map((column) => (row[column] === undefined ? "" : shown(row[column])));
  const line = (texts: readonly (string | number)[]) => `| ${texts.join(" | ")} |`;
  return [
    `${at.slice(0, 10)}, ${cpus} cores of ${cpu}, ${memory_gb} GB, load ${load} before, Node ${node.slice(1)}, PostgreSQL ${postgres}.`,
    "",
    line(columns),
    line(columns.map((_, n) => (n === 0 ? "---" : "--:"))),
    ...rows.map((row) => line(cells(row))),
    "",
  ].join("\n");
}

if (import.meta.main) {
  const files = existsSync(RESULTS) ? readdirSync(RESULTS).filter((file) => file.endsWith(".json")) : [];
  const results = files.map((file): Result => JSON.parse(readFileSync(new URL(file, RESULTS), "utf8")));
  const page = readFileSync(PAGE, "utf8");
  writeFileSync(PAGE, `${results.reduce(withTable, page).trimEnd()}\n`);
}
