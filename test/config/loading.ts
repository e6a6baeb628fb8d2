import type { Config } from "../../src/config/config.ts";
import { ConfigError } from "../../src/config/config-error.ts";
import { loadConfig } from "../../src/config/load.ts";

export const SECRET = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;

export function load(yaml: string | undefined, env: Record<string, string | undefined> = {}): Config {
  return loadConfig({ yaml, yamlPath: "config.yaml", env });
}

/** The faults of a configuration that must not load. */
export function faultsOf(
  yaml: string | undefined,
  env: Record<string, string | undefined> = {},
): readonly string[] {
  try {
    load(yaml, env);
  } catch (error) {
    if (error instanceof ConfigError) return error.faults;
    throw error;
  }
  throw new Error("the configuration loaded without a fault");
}

/** `relay.batch_size` and `5` as YAML that names nothing else. */
export function yamlOf(path: readonly string[], value: string): string {
  return `${path.map((key, depth) => `${"  ".repeat(depth)}${key}:`).join("\n")} ${value}\n`;
}
