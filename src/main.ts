import { existsSync, readFileSync } from "node:fs";
import { hostname } from "node:os";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { ServerError } from "./api/server.ts";
import { banner } from "./banner.ts";
import type { Config } from "./config/config.ts";
import { ConfigError } from "./config/config-error.ts";
import { formatDuration } from "./config/duration.ts";
import { loadConfig } from "./config/load.ts";
import { MigrationError, migrate } from "./db/migrate.ts";
import { DatabaseUnusableError, waitForDatabase } from "./db/wait-for-database.ts";
import type { LocalPostgres } from "./demo/local-postgres.ts";
import { createLogger, type Logger } from "./ops/log.ts";
import { CrontabError } from "./ops/worker.ts";
import { startProgram } from "./program.ts";
import { createServices, type Services } from "./services.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const { env } = process;
const production = env.NODE_ENV === "production";
const onTerminal = process.stdout.isTTY === true;
const version: string = JSON.parse(readFileSync(resolve(ROOT, "package.json"), "utf8")).version;

/** Beyond `shutdown.grace`, for settling and for closing connections. */
const STOP_MS = 15_000;

/** The person's to put right: a sentence, no stack. */
function isForThePerson(error: unknown): error is Error {
  const named = [ConfigError, ServerError, MigrationError, DatabaseUnusableError, CrontabError];
  return (
    error instanceof Error &&
    (named.some((kind) => error instanceof kind) || error.name === "LocalPostgresError")
  );
}

function readSettings() {
  const yamlPath = env.CONFIG_FILE ?? resolve(ROOT, "config.yaml");
  const crontabPath = env.CRONTAB_FILE ?? resolve(ROOT, "crontab");
  for (const [variable, path] of Object.entries({ CONFIG_FILE: yamlPath, CRONTAB_FILE: crontabPath })) {
    if (!existsSync(path)) throw new ConfigError([`${variable}: there is no file ${path}`]);
  }
  const config = loadConfig({ yaml: readFileSync(yamlPath, "utf8"), yamlPath, env });
  return { config, crontab: { text: readFileSync(crontabPath, "utf8"), path: crontabPath } };
}

/** What may never stand in a log. The embedded database's password is no secret, and a word that logs need. */
function secretsOf(config: Config): string[] {
  const urls = [config.databaseUrl, config.redis?.url].filter((url) => url !== undefined);
  const passwords = urls.flatMap((url) => /^[^/]*\/\/[^/@]*?:([^@]+)@/.exec(url)?.[1] ?? []);
  const gateways = Object.values(config.gateways).flatMap(({ authKey, secret }) => [authKey, secret]);
  return [...passwords, ...passwords.map(decodeURIComponent), ...gateways].filter(
    (secret) => secret !== undefined,
  );
}

async function main(): Promise<void> {
  const [command = "start", ...rest] = process.argv.slice(2);
  if (!["start", "migrate"].includes(command) || rest.length > 0) {
    throw new ConfigError([
      `"${[command, ...rest].join(" ")}" is no command; there are start (the default) and migrate`,
    ]);
  }
  const { config, crontab } = readSettings();
  const log = createLogger({ level: config.log.level, pretty: onTerminal, secrets: secretsOf(config) });
  const services = createServices((name, error) => log.error({ err: error }, `could not stop the ${name}`));
  const stopping = new AbortController();
  let embedded: LocalPostgres | undefined;
  let exitCode = 0;

  function exitNow(): never {
    embedded?.stopNow();
    process.exit(1);
  }

  function onSignal(signal: NodeJS.Signals): void {
    if (stopping.signal.aborted) {
      log.warn(`${signal} again: exiting at once`);
      exitNow();
    }
    log.info(
      `${signal}: stopping; messages in flight have ${formatDuration(config.shutdown.graceMs)} to end`,
    );
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
    log.info("stopped");
    process.exit(exitCode);
  }

  process.on("SIGTERM", onSignal).on("SIGINT", onSignal).on("SIGHUP", onSignal);
  process.on("uncaughtException", onBug).on("unhandledRejection", onBug);

  let running = false;
  try {
    if (config.databaseUrl === undefined) {
      const { startEmbeddedPostgres } = await import("./demo/embedded-postgres.ts");
      embedded = await startEmbeddedPostgres(config.embeddedPostgres, ROOT);
      await services.start("embedded PostgreSQL", { stop: () => embedded?.stop() });
    }
    const databaseUrl = config.databaseUrl ?? (embedded as LocalPostgres).url();
    if (command === "migrate") {
      await waitForDatabase({
        connectionString: databaseUrl,
        log: (message) => log.warn(message),
        signal: stopping.signal,
      });
      await migrate({ connectionString: databaseUrl, log: (message) => log.info(message) });
      log.info("the database is up to date");
      return await shutDown();
    }
    const addresses = await startProgram({
      config,
      crontab,
      databaseUrl,
      fallbackGateway: production ? undefined : () => startFallbackGateway(services, log),
      version,
      name: `${hostname()}:${process.pid}`,
      log,
      services,
      signal: stopping.signal,
    });
    if (onTerminal) process.stdout.write(banner(addresses));
    else log.info(addresses, "ready");
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

/** A gateway that accepts everything and shows it, so that there is something to see without an account anywhere. */
async function startFallbackGateway(services: Services, log: Logger): Promise<string> {
  const { startDemoGateway } = await import("./demo/gateway.ts");
  const gateway = await startDemoGateway({
    port: 0,
    log: ({ to, content, messageId }) =>
      log.info({ to, content, gateway_message_id: messageId }, "demo gateway accepted"),
  });
  await services.start("demo gateway", gateway);
  return gateway.url;
}

main().catch((error: unknown) => {
  // Before there is a log. A sentence where a person can act on it, everything where only a developer can.
  console.error(isForThePerson(error) ? error.message : error);
  process.exit(1);
});
