import { crossFaults } from "./checks.ts";
import type { Config } from "./config.ts";
import { ConfigError } from "./config-error.ts";
import { readDocument } from "./document.ts";
import type { Environment } from "./environment.ts";
import { type Given, gather } from "./given.ts";
import { resolve } from "./resolve.ts";
import { schema } from "./schema.ts";
import { shown } from "./shown.ts";

/**
 * Reads the whole configuration once; the environment overrides the file. Throws ConfigError with every fault at
 * once. `yaml` is the file's text, or undefined without a file; `yamlPath` is its name in the faults. The result is
 * frozen in depth.
 */
export function loadConfig(source: {
  readonly yaml: string | undefined;
  readonly yamlPath: string;
  readonly env: Environment;
  /** false: messages are not to be relayed, so that production needs no gateway (`migrate`). */
  readonly relays?: boolean;
}): Config {
  const given = gather(readDocument(source.yaml ?? "", source.yamlPath), source.env);
  const parsed = schema.safeParse(given.settings, { reportInput: true });
  const faults = [
    ...given.faults,
    ...(parsed.error?.issues ?? []).map((issue) => valueFault(given, issue.path.map(String), issue)),
    ...crossFaults(given, source.env, source.relays ?? true),
  ];
  if (!parsed.success || faults.length > 0) throw new ConfigError(faults);
  return deepFreeze(resolve(parsed.data));
}

function valueFault(
  given: Given,
  path: readonly string[],
  issue: { message: string; input?: unknown },
): string {
  return `${given.origin(path)}: ${shown(path, issue.input)} is not ${issue.message}`;
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null) Object.values(value).forEach(deepFreeze);
  return Object.freeze(value);
}
