import type { Task } from "graphile-worker";
import { createAlertTask } from "../../tasks/alert.ts";
import { createNotifyTask } from "../../tasks/notify.ts";
import type { AlertSettings } from "../config/alerts.ts";
import type { Alerts } from "../db/alerts.ts";
import type { FurtherFindings } from "../ops/alerts/further-findings.ts";
import type { Logger } from "../ops/log.ts";
import { createChannels } from "./channels.ts";

export interface AlertTasksOptions {
  readonly settings: AlertSettings;
  readonly alerts: Alerts;
  readonly further?: FurtherFindings | undefined;
  readonly log: Logger;
}

/** The task alert, and notify_CHANNEL for each channel that is configured: of relayers and watchers alike. */
export function createAlertTasks({ settings, alerts, further, log }: AlertTasksOptions) {
  const { thresholds, repeatMs, recoverAfterMs } = settings;
  const channels = createChannels(settings);
  const tell = (level: "info" | "warn" | "error", fields: object, message: string) =>
    log[level](fields, message);
  const notify = channels.map((channel): [string, Task] => [
    `notify_${channel.name}`,
    createNotifyTask({ channel, log: tell }),
  ]);
  const names = channels.map(({ name }) => name);
  return {
    alert: createAlertTask({
      note: (findings, unseen) =>
        alerts.note({ thresholds, findings, unseen, channels: names, repeatMs, recoverAfterMs }),
      further,
      log: tell,
    }),
    ...Object.fromEntries(notify),
  };
}
