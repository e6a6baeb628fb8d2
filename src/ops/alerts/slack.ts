import { Agent, request } from "undici";
import { failureText } from "../../gateway/failure-text.ts";
import { printable } from "../../gateway/printable.ts";
import { parseRetryAfter } from "../../gateway/retry-after.ts";
import type { Channel, Delivery } from "./channel.ts";
import { slackMessage } from "./slack-message.ts";
import { type WordsOptions, wordsOf } from "./words.ts";

export interface SlackOptions extends WordsOptions {
  /** The incoming webhook's; a secret. */
  readonly url: string;
  readonly timeoutMs?: number;
}

const TIMEOUT_MS = 10_000;
const LARGEST_ANSWER = 64 * 1_024;

/** Slack's incoming webhooks, and what speaks their language (Mattermost, Rocket.Chat, Discord's /slack). */
export function createSlack({ url, timeoutMs = TIMEOUT_MS, ...words }: SlackOptions): Channel {
  async function post(body: string, signal: AbortSignal): Promise<Delivery> {
    // A notice is rare: no connection is worth keeping. HTTP/1.1, as everywhere here.
    const dispatcher = new Agent({ allowH2: false, maxResponseSize: LARGEST_ANSWER });
    try {
      const {
        statusCode,
        headers,
        body: answer,
      } = await request(url, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body,
        dispatcher,
        signal,
      });
      const text = printable(await answer.text(), 200);
      if (statusCode >= 200 && statusCode < 300) return { sent: true };
      const reason = `HTTP ${statusCode}${text === "" ? "" : `: ${text}`}${hint(statusCode)}`;
      const retryAfter = headers["retry-after"];
      const retryAfterMs = typeof retryAfter === "string" ? parseRetryAfter(retryAfter, Date.now()) : null;
      if (retryAfterMs === null || (statusCode !== 429 && statusCode !== 503)) return { sent: false, reason };
      return { sent: false, reason, retryAfterMs };
    } finally {
      await dispatcher.destroy();
    }
  }

  return {
    name: "slack",
    async send(notice, signal) {
      const deadline = AbortSignal.timeout(timeoutMs);
      const body = JSON.stringify(slackMessage(wordsOf(notice, words)));
      try {
        return await post(body, signal === undefined ? deadline : AbortSignal.any([deadline, signal]));
      } catch (error) {
        if (deadline.aborted) return { sent: false, reason: `no answer within ${timeoutMs / 1_000} s` };
        if (signal?.aborted) return { sent: false, reason: "given up, for the program ends" };
        return { sent: false, reason: error instanceof Error ? failureText(error) : String(error) };
      }
    },
  };
}

function hint(status: number): string {
  if (status >= 300 && status < 400) return " (redirects are not followed: check alerts.slack_url)";
  return status >= 400 && status < 500 && status !== 429 ? " (check alerts.slack_url)" : "";
}
