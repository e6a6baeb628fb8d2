import { execFile } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";

const run = promisify(execFile);
const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const NAMES = readdirSync(here("../../bench/benches")).map((file) => file.replace(/\.ts$/, ""));

const bench = (...args: readonly string[]) => run(process.execPath, [here("../../bench/main.ts"), ...args]);

// What they measure is for a quiet machine; here it is whether they do.
describe("at a thousandth of its size, the bench prints a table and its figures as JSON", () => {
  test.each(NAMES)("%s", { timeout: 120_000 }, async (name) => {
    const { stdout } = await bench(name, "--scale", "0.001");
    const lines = stdout.trimEnd().split("\n");
    expect(lines[0]).toMatch(/^┌─+/);
    const result = JSON.parse(lines.at(-1) as string);
    expect(result).toMatchObject({ bench: name, scale: 0.001, cpus: expect.any(Number) });
    expect(result.rows.length).toBeGreaterThan(0);
    for (const row of result.rows) {
      // JSON writes NaN and Infinity as null.
      for (const figure of Object.values(row)) expect(figure, JSON.stringify(row)).not.toBeNull();
    }
  });
});

test.each([
  [["nonsense"], "There is no bench named nonsense."],
  [["--scale", "2"], '--scale is "2", and has to be a number from 0.0001 to 1.'],
  [["--loud"], "Unknown option '--loud'"],
])("%j is refused, with a list of what there is", async (args, fault) => {
  const { code, stderr } = await bench(...args).catch((error) => error);
  expect(code).toBe(2);
  expect(stderr).toContain(fault);
  for (const name of NAMES) expect(stderr).toContain(`  ${name} `);
});
