import type { Result } from "../../db/outbox.ts";
import { withoutAnswer } from "../../gateway/without-answer.ts";
import { withoutContent } from "./without-content.ts";

const MOST = 200;
/** As Postgres names the failure that opened a circuit. */
const LAST = "; the last: ";

/** What gateways said of messages, as the log may show it. */
export interface Answers {
  /** An attempt failed. */
  heard(result: Result): void;
  /** Why a gateway is left alone. What was said to another relayer, of a message that is not known here, is left out. */
  shown(detail: string): string;
}

export function createAnswers(): Answers {
  /** Of each error the text that it may quote; the latest at the end. */
  const contents = new Map<string, string>();
  return {
    heard({ claim, outcome: { error } }) {
      if (error === null) return;
      contents.delete(error);
      contents.set(error, claim.content);
      const [oldest] = contents.keys();
      if (contents.size > MOST && oldest !== undefined) contents.delete(oldest);
    },
    shown(detail) {
      const at = detail.indexOf(LAST);
      const content = contents.get(at < 0 ? detail : detail.slice(at + LAST.length));
      return content === undefined ? withoutAnswer(detail) : withoutContent(detail, content);
    },
  };
}
