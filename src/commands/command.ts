import type { ParsedCronItem } from "graphile-worker";
import type { Config } from "../config/config.ts";
import type { Logs } from "../ops/log.ts";
import type { Services } from "../services.ts";

/** What main.ts gives to each command. */
export interface CommandContext {
  readonly config: Config;
  readonly crontab: readonly ParsedCronItem[];
  /** The configured database, or the embedded one, which runs by then. */
  readonly databaseUrl: string;
  readonly version: string;
  /** Host and process, for people. */
  readonly name: string;
  readonly logs: Logs;
  /** For standard output: what the command was asked for, where a line of the log would not do. */
  readonly print: (text: string) => void;
  /** What runs on is started here, and stopped as the program ends. */
  readonly services: Services;
  /** Aborted when the program is told to stop. */
  readonly signal: AbortSignal;
}

export interface Command {
  /** Whether it relays messages, so that production needs a gateway. */
  readonly relays: boolean;
  /**
   * `configured`: it does not do with the embedded database. `none`: it needs no database, and `databaseUrl` is empty. Left out: the
   * configured one, or else the embedded.
   */
  readonly database?: "configured" | "none";
  /** It answers on standard output: beside that, nothing is said but what is wrong. */
  readonly prints?: true;
  /** What is wrong with the words after its name, a sentence; undefined: nothing. A command without this takes no words. */
  readonly faultIn?: (words: readonly string[]) => string | undefined;
  /** Answers the exit code, or "running" when it goes on until the program is told to stop. */
  readonly run: (context: CommandContext, words: readonly string[]) => Promise<number | "running">;
}
