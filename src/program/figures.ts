import type { Pool } from "pg";
import { readQueueFigures, readServerFigures } from "../db/figures.ts";
import { isOutage } from "../db/outage.ts";
import { createFigures, type Figures } from "../ops/figures.ts";
import type { Logger } from "../ops/log.ts";
import type { Stage } from "./probes.ts";

/** What /metrics shows of the database, once there is one to ask. */
export function figuresOf(
  pool: Pool,
  stage: Readonly<Stage>,
  reachable: () => boolean,
  log: Logger,
): () => Promise<Figures> {
  const ask = createFigures({
    reachable,
    queue: () => readQueueFigures(pool),
    server: () => readServerFigures(pool),
    isOutage,
    onError: (error) => log.warn({ err: error }, "some figures for /metrics cannot be read; trying again"),
  });
  const none: Figures = { up: undefined, queue: undefined, server: undefined };
  return async () => (stage.relaying ? await ask() : none);
}
