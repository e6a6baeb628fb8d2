import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, onTestFinished, test } from "vitest";

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

test.each(["SIGINT", "SIGTERM"] as const)(
  "%s ends it, and all that it has started",
  { timeout: 120_000 },
  async (signal) => {
    const folder = mkdtempSync(join(tmpdir(), "outbox-bench-test-"));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    chmodSync(folder, 0o755);
    const child = spawn(process.execPath, [here("../../bench/main.ts"), "throughput"], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, TMPDIR: folder },
    });
    const exit = once(child, "exit");
    let said = "";
    for await (const chunk of child.stderr) {
      said += chunk;
      if (said.includes("round 1")) break;
    }
    const [stage = ""] = readdirSync(folder).filter((name) => name.startsWith("outbox-bench-"));
    // Its fourth line is the port.
    const [, , , port] = readFileSync(join(folder, stage, "postgres/postmaster.pid"), "utf8").split("\n");
    const connecting = async () => {
      const socket = connect(Number(port), "127.0.0.1");
      await once(socket, "connect").finally(() => socket.destroy());
    };
    await connecting();
    child.kill(signal);
    expect(await exit).toEqual([130, null]);
    await expect(connecting()).rejects.toThrow("ECONNREFUSED");
    expect(readdirSync(folder)).toEqual([]);
  },
);
