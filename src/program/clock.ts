import { formatDuration } from "../config/duration.ts";

/** Cron counts in minutes. */
const TOLERANCE_MS = 30_000;

/** Messages go by Postgres' clock alone. Graphile Worker's crontab does not. */
export function tellClock(aheadMs: number, warn: (message: string) => void): void {
  if (Math.abs(aheadMs) < TOLERANCE_MS) return;
  const off = `${formatDuration(Math.round(Math.abs(aheadMs) / 1_000) * 1_000)} ${aheadMs > 0 ? "ahead of" : "behind"}`;
  warn(
    `this host's clock is ${off} Postgres': the crontab goes by it, and a clock that is ahead keeps the crontab of all relayers from running until the others have caught up; set it right`,
  );
}
