import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { Settings } from "graphile-migrate";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** What `.gmrc` says, with the folder made absolute: nothing here depends on where the process was started. */
export async function readMigrationSettings(): Promise<Settings & { migrationsFolder: string }> {
  const settings: Settings = JSON.parse(await readFile(resolve(ROOT, ".gmrc"), "utf8"));
  return { ...settings, migrationsFolder: resolve(ROOT, settings.migrationsFolder ?? "migrations") };
}
