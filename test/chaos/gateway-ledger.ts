import type { OutcomeKind } from "../../src/gateway/outcome.ts";
import {
  type Answer,
  type GatewayRequest,
  type HttpGateway,
  startHttpGateway,
} from "../support/http-gateway.ts";
import { ACCEPTS, type GatewayAnswer, HANGS, UNAVAILABLE, WEATHER } from "./answers.ts";
import type { Seed } from "./seed.ts";

/** One POST in the gateway's book. */
export interface Post {
  readonly nth: number;
  /** When it was here, body and all: milliseconds since 1970, as all times of the chaos. */
  readonly at: number;
  /** The relayer process that made it, by the key it has for the gateway. */
  readonly by: string;
  readonly key: string;
  readonly content: string;
  readonly answer: string;
  readonly taken: boolean;
  /** Did the sender have a chance to learn what became of it? */
  clean: boolean;
  readonly shows: readonly OutcomeKind[];
  /** The id the gateway gave it, if its answer had one. */
  readonly messageId: string | null;
  readonly answeredAt: number;
}

export type Mood = "weather" | "healthy" | "unavailable" | "hanging";

/** A gateway that answers as the seed says, and keeps a ledger of every POST. */
export interface LedgerGateway {
  readonly url: string;
  readonly posts: readonly Post[];
  setMood(mood: Mood): void;
  /** Drops every connection and refuses new ones. */
  close(): Promise<void>;
  /** Where it was before. */
  reopen(): Promise<void>;
}

const MOODS: Readonly<Record<Mood, readonly GatewayAnswer[]>> = {
  weather: WEATHER,
  healthy: [ACCEPTS],
  unavailable: [UNAVAILABLE],
  hanging: [HANGS],
};
/** An answer so young may still be in the connection, and go with it. */
const ON_THE_WAY_MS = 50;

export async function startLedgerGateway(seed: Seed): Promise<LedgerGateway> {
  const posts: Post[] = [];
  let mood: Mood = "weather";

  /** Chosen by what is asked and how often it was, not by when: so that a seed means the same in each run. */
  function answer({ id, nthOfId, body, headers }: GatewayRequest): Answer {
    const content = (body as { content?: unknown } | undefined)?.content;
    const choices = seed.fork(`${content} ${nthOfId}`);
    const chosen = choices.weighted(MOODS[mood]);
    const messageId = `gw-${posts.length + 1}`;
    const given = chosen.give(messageId, choices);
    const at = Date.now();
    posts.push({
      nth: posts.length + 1,
      at,
      by: String(headers["api-key"]),
      key: id,
      content: String(content),
      answer: mood === "weather" ? chosen.name : `${chosen.name} (${mood})`,
      taken: chosen.taken,
      clean: chosen.clean,
      shows: chosen.shows,
      messageId: chosen.taken ? messageId : null,
      answeredAt: at + (given.fault === undefined ? (given.delayMs ?? 0) : 0),
    });
    return given;
  }

  let server: HttpGateway = await startHttpGateway({ answer });
  const { url, port } = server;
  return {
    url,
    posts,
    setMood(next) {
      mood = next;
    },
    async close() {
      for (const post of posts) if (post.answeredAt > Date.now() - ON_THE_WAY_MS) post.clean = false;
      await server.close();
    },
    async reopen() {
      server = await startHttpGateway({ answer, port });
    },
  };
}
