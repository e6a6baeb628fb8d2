import type { EmailSettings } from "../../config/alerts.ts";
import type { Notice } from "../../db/alerts.ts";
import { printable } from "../../gateway/printable.ts";
import type { Channel, Delivery } from "./channel.ts";
import { plainText } from "./plain-text.ts";
import { type WordsOptions, wordsOf } from "./words.ts";

export interface EmailOptions extends WordsOptions, EmailSettings {
  readonly timeoutMs?: number;
}

const TIMEOUT_MS = 30_000;
const LONGEST_SUBJECT = 120;

export function createEmail(options: EmailOptions): Channel {
  const {
    host,
    port,
    secure,
    requireTls,
    user,
    password,
    from,
    to,
    timeoutMs = TIMEOUT_MS,
    ...words
  } = options;

  async function post(notice: Notice, signal: AbortSignal): Promise<Delivery> {
    const { title, ...its } = wordsOf(notice, words);
    const domain = `${notice.installation}.outbox-relayer`;
    const threads = notice.alerts.map(({ id }) => `<alert-${id}@${domain}>`);
    // Not at the start: most relayers never send a letter.
    const { createTransport } = await import("nodemailer");
    const transport = createTransport({
      host,
      ...(port === undefined ? {} : { port }),
      secure,
      requireTLS: requireTls,
      ...(user === undefined ? {} : { auth: { user, pass: password ?? "" } }),
      connectionTimeout: timeoutMs,
      greetingTimeout: timeoutMs,
      socketTimeout: timeoutMs,
      disableFileAccess: true,
      disableUrlAccess: true,
    });
    try {
      const { rejected } = await transport.sendMail({
        from,
        to: [...to],
        subject: printable(title, LONGEST_SUBJECT),
        text: plainText({ title, ...its }),
        // The same on each attempt, for mailboxes that know a letter by it; and a thread for all that is said of an alert.
        messageId: `<notice-${notice.id}@${domain}>`,
        references: threads.slice(0, 20),
        ...(threads[0] === undefined ? {} : { inReplyTo: threads[0] }),
        headers: { "Auto-Submitted": "auto-generated" },
        ...(notice.alerts.some(isUrgent) ? { priority: "high" as const } : {}),
        signal,
      });
      // Another attempt would tell the others twice.
      return rejected.length === 0
        ? { sent: true }
        : { sent: true, remark: `the mail server refused ${rejected.map(String).join(", ")}` };
    } finally {
      transport.close();
    }
  }

  return {
    name: "email",
    async send(notice, signal) {
      const deadline = AbortSignal.timeout(timeoutMs);
      try {
        return await post(notice, signal === undefined ? deadline : AbortSignal.any([deadline, signal]));
      } catch (error) {
        if (deadline.aborted)
          return { sent: false, reason: `the mail server did not take it within ${timeoutMs / 1_000} s` };
        if (signal?.aborted) return { sent: false, reason: "given up, for the program ends" };
        return { sent: false, reason: reasonOf(error) };
      }
    },
  };
}

function isUrgent({ event, severity }: Notice["alerts"][number]): boolean {
  return severity === "critical" && event !== "recovered";
}

/** nodemailer's errors have a code of their own, and quote what the server said. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code } = error as { readonly code?: unknown };
  const hint = typeof code === "string" ? HINTS[code] : undefined;
  return `${printable(error.message, 300)}${hint === undefined ? "" : ` (${hint})`}`;
}

const HINTS: Readonly<Record<string, string>> = {
  EAUTH: "check alerts.smtp_url and alerts.smtp_password",
  ENOAUTH: "check alerts.smtp_url and alerts.smtp_password",
  EENVELOPE: "check alerts.email_from and alerts.email_to",
  EDNS: "check alerts.smtp_url",
  ETLS: "the server has to offer STARTTLS with a certificate that is trusted; smtps:// is TLS from the start, and alerts.smtp_tls: optional does without",
};
