import { createAlerts } from "../db/alerts.ts";
import { migrate } from "../db/migrate.ts";
import { createPool, createWaitingPool } from "../db/pool.ts";
import { createRelayerRole } from "../db/relayer-role.ts";
import { throughOutages } from "../db/wait-for-database.ts";
import { createWatcher } from "../ops/watcher.ts";
import { CrontabError, createWorker } from "../ops/worker.ts";
import { createAlertTasks } from "../program/alert-tasks.ts";
import type { Command } from "./command.ts";

const QUERY_TIMEOUT_MS = 30_000;

/**
 * Looks after alerts and nothing else: it relays no message and serves no API. On another machine than the relayers it tells that
 * none of them is alive, which they cannot.
 */
export const watchCommand: Command = {
  relays: false,
  database: "configured",
  async run({ config, crontab, databaseUrl: connectionString, name, logs, services, signal }) {
    const lines = crontab.filter(({ task }) => task === "alert");
    if (lines.length === 0)
      throw new CrontabError("The crontab has no line for the task alert, and watch runs no other.");
    const [log, databaseLog] = [logs.part("alerts"), logs.part("database")];
    const warn = (message: string) => databaseLog.warn(message);
    const role = createRelayerRole(connectionString, warn);
    const common = { connectionString, onConnect: role.become, log: warn };
    const pool = createPool({
      ...common,
      max: 2,
      applicationName: "outbox-watch",
      queryTimeoutMs: QUERY_TIMEOUT_MS,
    });
    await services.start("pool", { stop: () => pool.end() });
    const alerts = createAlerts(pool);
    const worker = createWorker({
      pool: createWaitingPool({ ...common, max: 3, applicationName: "outbox-worker" }),
      crontab: lines,
      tasks: createAlertTasks({ settings: config.alerts, alerts, log }),
      log: (level, message) => logs.part("worker")[level](message),
    });
    await throughOutages({ connectionString, log: warn, signal }, async () => {
      await migrate({ connectionString, log: (message) => databaseLog.info(message) });
      await role.find();
    });
    signal.throwIfAborted();

    await services.start("worker", worker);
    const { deadAfterMs } = config.relay;
    const watcher = createWatcher({
      deadAfterMs,
      async beat() {
        const id = worker.id();
        return id === undefined ? 0 : await alerts.watch(id, name, deadAfterMs);
      },
      onFreed: (workers) => log.info({ workers }, "freed the jobs of workers that are gone"),
      onError: (error) => log.warn({ err: error }, "cannot say that this watcher is alive; trying again"),
    });
    await services.start("watcher", watcher);
    log.info({ channels: channelNames(config.alerts) }, "watching");
    return "running";
  },
};

function channelNames({
  slackUrl,
  email,
}: {
  readonly slackUrl: unknown;
  readonly email: unknown;
}): string[] {
  return [...(slackUrl === undefined ? [] : ["slack"]), ...(email === undefined ? [] : ["email"])];
}
