import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { calculateHash } from "graphile-migrate/dist/hash.js";
import { onTestFinished } from "vitest";

/** A migrations folder with these committed in it, hashes and all; gone when the test is. */
export async function migrationsFolder(...bodies: string[]): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "outbox-migrations-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  await mkdir(join(folder, "committed"));
  let previous: string | null = null;
  for (const [index, text] of bodies.entries()) {
    const body = `${text.trim()}\n`;
    const hash: string = calculateHash(body, previous);
    const file = `${String(index + 1).padStart(6, "0")}-step.sql`;
    await writeFile(
      join(folder, "committed", file),
      `--! Previous: ${previous ?? "-"}\n--! Hash: ${hash}\n\n${body}`,
    );
    previous = hash;
  }
  return folder;
}
