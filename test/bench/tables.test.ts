import { expect, test } from "vitest";
import { type Result, withTable } from "../../bench/tables.ts";

const RESULT: Result = {
  bench: "latency",
  at: "2026-11-24T12:00:00.000Z",
  cpus: 2,
  cpu: "Some CPU",
  memory_gb: 24,
  load: 0.5,
  node: "v26.10.0",
  postgres: "18.4",
  scale: 1,
  rows: [
    { case: "one at a time", p50_ms: 1.23456 },
    { case: "1,000/s", p50_ms: 12_345.6, sent: 7 },
  ],
};
const TABLE = `### latency

2026-11-24, 2 cores of Some CPU, 24 GB, load 0.5 before, Node 26.10.0, PostgreSQL 18.4.

| case | p50_ms | sent |
| --- | --: | --: |
| one at a time | 1.23 |  |
| 1,000/s | 12346 | 7 |
`;

test("a bench that has no table yet gets one at the end", () => {
  expect(withTable("# Benchmarks\n\nText.\n", RESULT).trimEnd()).toBe(
    `# Benchmarks\n\nText.\n\n${TABLE}`.trimEnd(),
  );
});

test("the table of a bench is made anew, and the rest of the page stays", () => {
  const page = (middle: string) => `# Benchmarks\n\n### backlog\n\nold\n\n${middle}\n### wal\n\nold\n`;
  expect(withTable(page("### latency\n\nold | table\n"), RESULT)).toBe(page(TABLE));
  expect(withTable(page(TABLE), RESULT)).toBe(page(TABLE));
});
