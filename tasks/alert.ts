import type { Task } from "graphile-worker";
import type { Finding, Notice, Told } from "../src/db/alerts.ts";
import { FURTHER_KINDS, type FurtherFindings } from "../src/ops/alerts/further-findings.ts";

export interface AlertTaskOptions {
  /** Notes what is wrong, with what was found besides; returns what is told, null: nothing. */
  readonly note: (findings: readonly Finding[], unseen: readonly string[]) => Promise<Notice | null>;
  /** What this process can look for beside the database. */
  readonly further?: FurtherFindings | undefined;
  readonly log: (level: "info" | "warn", fields: Record<string, unknown>, message: string) => void;
}

/** On the crontab: `* * * * * alert`. Looks for what is wrong, once for the whole cluster, and has it told. */
export function createAlertTask({ note, further, log }: AlertTaskOptions): Task {
  async function look(): Promise<readonly Finding[] | undefined> {
    try {
      return await further?.find();
    } catch (error) {
      log("warn", { err: error }, `could not look for ${further?.kinds.join(", ")}`);
      return undefined;
    }
  }

  return async () => {
    const findings = await look();
    const seen = findings === undefined ? [] : (further?.kinds ?? []);
    const unseen = FURTHER_KINDS.filter((kind) => !seen.includes(kind));
    const notice = await note(findings ?? [], unseen);
    for (const alert of notice?.alerts ?? []) {
      const over = alert.event === "recovered";
      log(over ? "info" : "warn", fieldsOf(alert), `alert${over ? " over" : ""}: ${alert.summary}`);
    }
  };
}

function fieldsOf({ kind, severity, event, since, lasted, count, sample_ids, help }: Told) {
  return {
    kind,
    severity,
    event,
    since,
    lasted,
    ...(count === null ? {} : { count, message_ids: sample_ids }),
    ...(help === null || event === "recovered" ? {} : { help }),
  };
}
