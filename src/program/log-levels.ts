import { ConfigError } from "../config/config-error.ts";
import type { LogLevels } from "../config/levels.ts";
import type { Logs } from "../ops/log.ts";

/** Takes over log.level and log.levels as they are configured now. A configuration with a fault changes nothing. */
export function setLevelsAnew(logs: Logs, read: () => LogLevels): void {
  // Whoever asked has to see what came of it, also where little is logged. (A child made before the change would follow it.)
  const log = () => logs.part("program").child({}, { level: "info" });
  let wanted: LogLevels;
  try {
    wanted = read();
  } catch (error) {
    // Anything else is no reason to end either.
    const faults = error instanceof ConfigError ? error.faults : [String(error)];
    log().error({ faults }, "the configuration has faults, so the log's levels stay as they are");
    return;
  }
  const changes = logs.setLevels(wanted);
  const changed = Object.fromEntries(changes.map(({ part, from, to }) => [part, `${from} → ${to}`]));
  if (changes.length > 0) log().info({ levels: changed }, "the log's levels were changed");
  else log().info("the log's levels were read again; nothing is different");
}
