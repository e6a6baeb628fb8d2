import type { QueueFigure, ServerFigures } from "../db/figures.ts";
import { type Answer, createRemembered } from "./remembered.ts";

/** What Postgres says, as far as it is known now. */
export interface Figures {
  /** Whether it answers this relayer; undefined: it was not asked yet. */
  readonly up: boolean | undefined;
  readonly queue: readonly QueueFigure[] | undefined;
  readonly server: ServerFigures | undefined;
}

export interface FiguresOptions {
  /** Did Postgres answer the relay when it was last asked? It asks each second. */
  readonly reachable: () => boolean;
  readonly queue: () => Promise<readonly QueueFigure[]>;
  readonly server: () => Promise<ServerFigures>;
  readonly isOutage: (error: unknown) => boolean;
  /** A question failed, and not because Postgres is away; told again only after one that did not fail. */
  readonly onError: (error: unknown) => void;
  readonly keepMs?: number;
  readonly waitMs?: number;
}

const KEEP_MS = 5_000;
const WAIT_MS = 2_000;

/**
 * Figures of the database for /metrics: asked for at most every 5 s, whatever the scrape rate, and waited for no longer than 2 s.
 * In two questions, so that a count that takes long (over the dead rows that an old snapshot keeps) hides only itself.
 */
export function createFigures(options: FiguresOptions): () => Promise<Figures> {
  const { isOutage, keepMs = KEEP_MS, waitMs = WAIT_MS } = options;
  const askQueue = createRemembered({ ask: reporting(options.queue), keepMs, waitMs });
  const askServer = createRemembered({ ask: reporting(options.server), keepMs, waitMs });

  function reporting<Value>(ask: () => Promise<Value>): () => Promise<Value> {
    let failing = false;
    return async () => {
      try {
        const value = await ask();
        failing = false;
        return value;
      } catch (error) {
        if (!failing && !isOutage(error)) {
          failing = true;
          options.onError(error);
        }
        throw error;
      }
    };
  }

  return async () => {
    // What was known a moment ago is no longer true then.
    if (!options.reachable()) return { up: false, queue: undefined, server: undefined };
    const [queue, server] = await Promise.all([askQueue(), askServer()]);
    return { up: true, queue: known(queue), server: known(server) };
  };
}

function known<Value>(answer: Answer<Value>): Value | undefined {
  return answer.kind === "known" ? answer.value : undefined;
}
