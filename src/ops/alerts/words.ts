import type { Notice, Told } from "../../db/alerts.ts";
import { maskPlainNumbers } from "../log/mask-numbers.ts";

/** A notice tells so many alerts in full. */
const MOST = 20;

/** What a notice says, for each channel to put into its own form. Plain text. */
export interface Words {
  /** One line: how bad it is, and what. */
  readonly title: string;
  readonly alerts: readonly AlertWords[];
  /** Where to see all of it. */
  readonly more: readonly string[];
}

export interface AlertWords {
  readonly mark: "critical" | "warning" | "over";
  /** `critical`, `still a warning`, `over`, … */
  readonly state: string;
  readonly summary: string;
  readonly facts: readonly string[];
  /** Commands that help. */
  readonly commands: readonly string[];
  /** A page or an answer of the API. */
  readonly link: string | undefined;
}

export interface WordsOptions {
  /** Which outbox it is. */
  readonly name: string;
  /** Where people reach the API. */
  readonly linkUrl: string | undefined;
}

export function wordsOf(notice: Notice, { name, linkUrl }: WordsOptions): Words {
  const told = notice.alerts.slice(0, MOST).map((alert) => alertWords(alert, linkUrl));
  const left = notice.alerts.length - told.length;
  return {
    title: titleOf(notice, name, told[0]),
    alerts: told,
    more: [
      ...(left > 0 ? [`And ${left} more.`] : []),
      // It may have waited: for a mail server, or behind what is over by now.
      `As of ${notice.at}. What is open now: select * from outbox.open_alerts;`,
      ...(linkUrl === undefined ? [] : [`The API: ${linkUrl}/api/v1/swagger/index.html`]),
    ],
  };
}

function titleOf(notice: Notice, name: string, first: AlertWords | undefined): string {
  const others = notice.alerts.length - 1;
  const what = first === undefined ? "nothing" : `${first.state}: ${first.summary}`;
  return `[${name}] ${what}${others > 0 ? ` (and ${others} more)` : ""}`;
}

function alertWords(alert: Told, linkUrl: string | undefined): AlertWords {
  const { event, severity, since, lasted, count, sample_ids } = alert;
  const over = event === "recovered";
  const samples = sample_ids.length === 0 ? "" : `, such as ${sample_ids.join(", ")}`;
  const request = over ? null : alert.request;
  const [method = "", path = ""] = request?.split(" ") ?? [];
  const url = linkUrl === undefined ? undefined : `${linkUrl}/api/v1${path}`;
  return {
    mark: over ? "over" : severity,
    state: stateOf(alert),
    // There should be none in it: a last net.
    summary: maskPlainNumbers(alert.summary),
    facts: [
      over ? `It lasted ${lasted}, from ${since}.` : `Since ${since}, for ${lasted}.`,
      // Of none the summary says so.
      ...(!count || over ? [] : [`${count === 1 ? "1 message" : `${count} messages`}${samples}.`]),
    ],
    commands: [
      ...(alert.help === null || over ? [] : [alert.help]),
      ...(request === null || method === "GET" ? [] : [post(method, url ?? `…/api/v1${path}`)]),
    ],
    link: request !== null && method === "GET" ? url : undefined,
  };
}

function stateOf({ event, severity, returns }: Told): string {
  switch (event) {
    case "opened":
      return returns === 0 ? severity : `${severity}, again`;
    case "escalated":
      return `now ${severity}`;
    case "repeated":
      return severity === "critical" ? "still critical" : "still a warning";
    case "recovered":
      return "over";
  }
}

function post(method: string, url: string): string {
  return `curl -X ${method} ${url} -H 'Authorization: Bearer …'`;
}
