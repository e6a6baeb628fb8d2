import { isLoopback } from "./loopback.ts";
import type { Settings } from "./schema.ts";
import type { Threshold } from "./thresholds.ts";

/** From when on what is told; null: never. */
export interface AlertThresholds {
  readonly newDeadLetters: Threshold;
  readonly deadLetters: Threshold;
  readonly oldestDueAgeMs: Threshold;
  readonly gatewayHeldMs: Threshold;
  readonly schedulerStoppedMs: Threshold;
  readonly noRelayerMs: Threshold;
  readonly queryStoreLagMs: Threshold;
  readonly slotWalBytes: Threshold;
}

export interface EmailSettings {
  readonly host: string;
  /** undefined: the usual one of smtp or smtps. */
  readonly port: number | undefined;
  /** smtps: TLS from the first byte on. */
  readonly secure: boolean;
  /** smtp: STARTTLS, or nothing is sent. */
  readonly requireTls: boolean;
  readonly user: string | undefined;
  readonly password: string | undefined;
  readonly from: string;
  readonly to: readonly string[];
}

export interface AlertSettings {
  readonly thresholds: AlertThresholds;
  readonly repeatMs: number;
  readonly recoverAfterMs: number;
  /** Which outbox this is, for who gets alerts of several. */
  readonly name: string;
  /** Where the API is reached by people, without a slash at the end. */
  readonly linkUrl: string | undefined;
  readonly slackUrl: string | undefined;
  readonly email: EmailSettings | undefined;
}

export function resolveAlerts(alerts: Settings["alerts"]): AlertSettings {
  return {
    thresholds: {
      newDeadLetters: alerts.new_dead_letters,
      deadLetters: alerts.dead_letters,
      oldestDueAgeMs: alerts.oldest_due_age,
      gatewayHeldMs: alerts.gateway_held,
      schedulerStoppedMs: alerts.scheduler_stopped,
      noRelayerMs: alerts.no_relayer,
      queryStoreLagMs: alerts.query_store_lag,
      slotWalBytes: alerts.slot_wal,
    },
    repeatMs: alerts.repeat,
    recoverAfterMs: alerts.recover_after,
    name: alerts.name,
    linkUrl: alerts.link_url?.replace(/\/+$/, ""),
    slackUrl: alerts.slack_url,
    email: email(alerts),
  };
}

function email(alerts: Settings["alerts"]): EmailSettings | undefined {
  const { smtp_url, email_from: from, email_to: to } = alerts;
  if (smtp_url === undefined || from === undefined) return undefined;
  const { protocol, hostname, port, username, password } = new URL(smtp_url);
  const host = hostname.replace(/^\[|\]$/g, "");
  const secure = protocol === "smtps:";
  const given = alerts.smtp_password ?? (password === "" ? undefined : decodeURIComponent(password));
  return {
    host,
    port: port === "" ? undefined : Number(port),
    secure,
    requireTls: !secure && alerts.smtp_tls === "required" && !isLoopback(host),
    user: username === "" ? undefined : decodeURIComponent(username),
    password: given,
    from,
    to,
  };
}
