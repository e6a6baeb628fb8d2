import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { ServerError } from "./api/server.ts";
import { printedApiKey } from "./api-key.ts";
import { alertTestCommand } from "./commands/alert-test.ts";
import type { Command } from "./commands/command.ts";
import { migrateCommand } from "./commands/migrate.ts";
import { queryStoreCommand } from "./commands/query-store.ts";
import { notHere, startCommand } from "./commands/start.ts";
import { watchCommand } from "./commands/watch.ts";
import type { Config } from "./config/config.ts";
import { ConfigError } from "./config/config-error.ts";
import { formatDuration } from "./config/duration.ts";
import { loadConfig } from "./config/load.ts";
import { passwordsIn, secretsInWebhook } from "./config/passwords.ts";
import { MigrationError } from "./db/migrate.ts";
import { DatabaseUnusableError } from "./db/wait-for-database.ts";
import type { EmbeddedPostgres } from "./demo/embedded-postgres.ts";
import { createLogs } from "./ops/log.ts";
import { CrontabError, readCrontab } from "./ops/worker.ts";
import { TASKS } from "./program/jobs.ts";
import { setLevelsAnew } from "./program/log-levels.ts";
import { createServices } from "./services.ts";

// By itself V8 lets the heap grow to four times what lives in it. With thousands of messages in flight, each garbage a moment
// later, that was 100 MB for nothing.
setFlagsFromString("--heap-growing-percent=150");

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const { env } = process;
const production = env.NODE_ENV === "production";
const onTerminal = process.stdout.isTTY === true;
const version: string = JSON.parse(readFileSync(resolve(ROOT, "package.json"), "utf8")).version;

/** Beyond `shutdown.grace`, for settling and for closing connections. */
const STOP_MS = 15_000;
/** npm passes on a Ctrl-C that the terminal has already given us: signals so close together are one. */
const SAME_SIGNAL_MS = 500;
/** For telling the embedded PostgreSQL to stop, also when it has not yet started. */
const EXIT_MS = 5_000;

/** The person's to put right: a sentence, no stack. */
function isForThePerson(error: unknown): error is Error {
  const named = [ConfigError, ServerError, MigrationError, DatabaseUnusableError, CrontabError];
  return (
    error instanceof Error &&
    (named.some((kind) => error instanceof kind) || error.name === "LocalPostgresError")
  );
}

function readSettings(relays: boolean) {
  const yaml = readSetting("CONFIG_FILE", "config.yaml");
  const config = loadConfig({ yaml: yaml.text, yamlPath: yaml.path, env, relays });
  const crontab = readSetting("CRONTAB_FILE", "crontab");
  return { config, crontab: readCrontab(crontab.text, crontab.path, TASKS) };
}

function readSetting(variable: string, name: string): { readonly text: string; readonly path: string } {
  const path = env[variable] || resolve(ROOT, name);
  try {
    return { text: readFileSync(path, "utf8"), path };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") {
      throw new ConfigError([`${variable}: there is no file ${path}`]);
    }
    throw new ConfigError([`${variable}: ${path} cannot be read: ${(error as Error).message}`]);
  }
}

/** What may never stand in a log. The embedded database's password is no secret, and a word that logs need. */
function secretsOf(config: Config): string[] {
  const passwords = [
    config.databaseUrl,
    config.queryDatabaseUrl,
    config.queryStore.primaryUrl,
    config.redis?.url,
  ].flatMap((url) => (url ? passwordsIn(url) : []));
  const gateways = Object.values(config.gateways).flatMap(({ authKey, secret }) => [authKey, secret]);
  const { slackUrl, email } = config.alerts;
  const channels = [...(slackUrl ? secretsInWebhook(slackUrl) : []), email?.password];
  // By word: of "Bearer …" only the token is one. What is as short as a tenant's number is none, and hiding it would hide too much.
  const headers = Object.values(config.tracing?.headers ?? {})
    .flatMap((value) => value.split(" "))
    .filter((word) => word.length >= 8);
  return [...passwords, ...gateways, ...channels, ...headers, config.metrics.token].filter(
    (secret) => secret !== undefined,
  );
}

/** What `npm run NAME` may ask for, beside api-key, which needs no configuration. */
const COMMANDS: ReadonlyMap<string, Command> = new Map([
  ["start", startCommand({ production, onTerminal })],
  ["migrate", migrateCommand],
  ["watch", watchCommand],
  ["alert:test", alertTestCommand],
  ["query-store", queryStoreCommand],
]);

function commandNamed(name: string, words: readonly string[]): Command {
  const command = COMMANDS.get(name);
  const said = `"${[name, ...words].join(" ")}"`;
  if (command === undefined || (command.faultIn === undefined && words.length > 0)) {
    const others = [...COMMANDS.keys()].slice(1).join(", ");
    throw new ConfigError([`${said} is no command; there are start (the default), ${others} and api-key`]);
  }
  const fault = command.faultIn?.(words);
  if (fault !== undefined) throw new ConfigError([`${said}: ${fault}`]);
  return command;
}

async function main(): Promise<void> {
  const [name = "start", ...words] = process.argv.slice(2);
  if (name === "api-key") {
    const printed = printedApiKey(words);
    if (typeof printed === "string") process.stdout.write(printed);
    else process.stderr.write(`${printed.fault}\n`);
    process.exitCode = typeof printed === "string" ? 0 : 2;
    return;
  }
  const command = commandNamed(name, words);
  const { config, crontab } = readSettings(command.relays);
  const logs = createLogs({ ...config.log, pretty: onTerminal, secrets: secretsOf(config) });
  const log = logs.part("program");
  const services = createServices((name, error) => log.error({ err: error }, `could not stop the ${name}`));
  if (command.database === "configured" && config.databaseUrl === undefined)
    throw new ConfigError([
      `${name} works on the database of the relayers: set DATABASE_URL (or POSTGRES_HOST, POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB)`,
    ]);
  const stopping = new AbortController();
  let embedded: Promise<EmbeddedPostgres> | undefined;
  const news = (message: string) => log[command.prints ? "debug" : "info"](message);
  let exitCode = 0;
  let signalledAt = Number.NEGATIVE_INFINITY;

  function exitNow(): void {
    setTimeout(() => process.exit(1), EXIT_MS);
    const stopped = embedded?.then((postgres) => postgres.stopNow()) ?? Promise.resolve();
    stopped.catch(() => {}).finally(() => process.exit(1));
  }

  function onSignal(signal: NodeJS.Signals): void {
    if (performance.now() - signalledAt < SAME_SIGNAL_MS) return;
    signalledAt = performance.now();
    if (stopping.signal.aborted) {
      log.warn(`${signal} again: exiting at once`);
      exitNow();
      return;
    }
    const grace = `; messages in flight have ${formatDuration(config.shutdown.graceMs)} to end`;
    news(`${signal}: stopping${command.relays ? grace : ""}`);
    stopping.abort();
    // While it starts, the start ends by the abort, and stops what it had started.
    if (running) void shutDown();
  }

  function onBug(error: unknown): void {
    log.fatal({ err: error }, "unexpected error; stopping");
    exitCode = 1;
    if (stopping.signal.aborted) return;
    stopping.abort();
    if (running) void shutDown();
  }

  async function shutDown(): Promise<void> {
    // Parts wait for what they are asked to wait for; a frozen Postgres would make that long.
    setTimeout(() => {
      log.error("could not stop in time; exiting");
      exitNow();
    }, config.shutdown.graceMs + STOP_MS).unref();
    await services.stop();
    news("stopped");
    process.exit(exitCode);
  }

  async function startEmbedded(): Promise<string> {
    const { startEmbeddedPostgres } = await import("./demo/embedded-postgres.ts").catch(notHere);
    embedded = startEmbeddedPostgres(config.embeddedPostgres, ROOT);
    return (await services.start("embedded PostgreSQL", await embedded)).url();
  }

  process.on("SIGTERM", onSignal).on("SIGINT", onSignal).on("SIGHUP", onSignal);
  process.on("SIGUSR2", () => setLevelsAnew(logs, () => readSettings(command.relays).config.log));
  process.on("uncaughtException", onBug).on("unhandledRejection", onBug);

  let running = false;
  try {
    const databaseUrl = command.database === "none" ? "" : (config.databaseUrl ?? (await startEmbedded()));
    const context = {
      config,
      crontab,
      databaseUrl,
      version,
      name: `${hostname()}:${process.pid}`,
      logs,
      print: (text: string) => void process.stdout.write(text),
      services,
      signal: stopping.signal,
    };
    const result = await command.run(context, words);
    if (result !== "running") {
      exitCode = result;
      return await shutDown();
    }
    running = true;
    if (stopping.signal.aborted) await shutDown();
  } catch (error) {
    if (!stopping.signal.aborted) {
      exitCode = 1;
      if (isForThePerson(error)) log.fatal(error.message);
      else log.fatal({ err: error }, "could not start");
    }
    await shutDown();
  }
}

main().catch((error: unknown) => {
  // Before there is a log. A sentence where a person can act on it, everything where only a developer can.
  console.error(isForThePerson(error) ? error.message : error);
  process.exit(1);
});
