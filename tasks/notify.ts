import type { Task } from "graphile-worker";
import type { Notice } from "../src/db/alerts.ts";
import type { Channel } from "../src/ops/alerts/channel.ts";

export interface NotifyTaskOptions {
  readonly channel: Channel;
  readonly log: (level: "info" | "warn" | "error", fields: Record<string, unknown>, message: string) => void;
}

/** A peer that asks for patience without end is not asked for ever. */
const MOST_DEFERRALS = 24;
/** By then what is still so was told anew; a notice waits for so long when no process has its channel any more. */
const NO_NEWS_AFTER_MS = 86_400_000;

/**
 * Sends one notice by one channel: the task notify_slack or notify_email, which only a process with that channel has. Not for the
 * crontab: outbox.note_alerts() adds it. Graphile Worker tries again what throws.
 */
export function createNotifyTask({ channel, log }: NotifyTaskOptions): Task {
  return async (payload, { job, addJob, abortSignal }) => {
    const notice = noticeIn(payload);
    const fields = { channel: channel.name, notice: notice.id, alerts: notice.alerts.length };
    if (Date.now() - Date.parse(notice.at) > NO_NEWS_AFTER_MS) {
      log("warn", { ...fields, at: notice.at }, "notice left out: it is more than a day old");
      return;
    }
    const delivery = await channel.send(notice, abortSignal);
    if (delivery.sent) {
      if (delivery.remark === undefined) log("info", fields, "notice sent");
      else log("warn", { ...fields, reason: delivery.remark }, "notice sent, but not to all");
      return;
    }
    const { reason } = delivery;
    // Cut off as the program ends: that is no attempt, and the next process may begin at once.
    const retryAfterMs = abortSignal?.aborted ? 0 : delivery.retryAfterMs;
    const deferrals = (notice.deferrals ?? 0) + 1;
    if (retryAfterMs !== undefined && deferrals <= MOST_DEFERRALS) {
      // A job of its own, for this one's next attempt would come when Graphile Worker thinks right.
      await addJob(
        job.task_identifier,
        { ...notice, deferrals },
        { runAt: new Date(Date.now() + retryAfterMs), queueName: "notices", maxAttempts: job.max_attempts },
      );
      log("warn", { ...fields, reason, retry_after_ms: retryAfterMs }, "notice put off");
      return;
    }
    if (job.attempts < job.max_attempts) throw new Error(`the notice was not sent: ${reason}`);
    log("error", { ...fields, reason, attempts: job.attempts }, "notice given up");
  };
}

interface Deferred extends Notice {
  readonly deferrals?: number;
}

function noticeIn(payload: unknown): Deferred {
  const notice = payload as Deferred | null;
  if (typeof notice?.id === "string" && Array.isArray(notice.alerts)) return notice;
  throw new Error(
    `a task notify_… wants what outbox.note_alerts() gives it, and was given ${JSON.stringify(payload)}`,
  );
}
