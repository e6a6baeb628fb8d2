import type { HttpBindings } from "@hono/node-server";
import type { RequestIdVariables } from "hono/request-id";
import type pg from "pg";
import type { ApiKey } from "../config/api-keys.ts";
import type { CountedPool } from "../db/pool.ts";
import type { Caller } from "./keys.ts";
import type { QueryStore } from "./query-store/query-store.ts";
import type { Read } from "./query-store/reads.ts";

/** What the API needs from the program around it. */
export interface ApiDependencies {
  /** Of `createPool`: it answers timestamps with their microseconds, and survives connections that break. */
  readonly pool: Pick<pg.Pool, "query" | "connect"> & Partial<Pick<CountedPool, "full">>;
  /** Answers what is only read; without one, `pool` does. */
  readonly queryStore?: QueryStore | undefined;
  readonly ready: () => Readiness;
  readonly alive: () => { alive: boolean; reason?: string };
  /** Left out: there is no /metrics here. */
  readonly metrics?: (() => Promise<{ contentType: string; body: string }>) | undefined;
  /** Without it /metrics is for everybody who reaches it. */
  readonly metricsToken?: string | undefined;
  readonly version: string;
  readonly log: Log;
  /** Aborted when the server is to stop: streams of events end then, for others it waits. */
  readonly stopping?: AbortSignal;
  /** How long events are kept at least: what followed an id from before may be gone. */
  readonly eventsKeptMs?: number;
  /** None: whoever reaches the server may do everything. */
  readonly keys?: readonly ApiKey[];
  /** Web sites, besides our own pages, whose scripts may use the API. */
  readonly corsOrigins?: readonly string[];
  /** True when the server listens on a loopback address: only loopback names are then accepted as Host. */
  readonly loopbackOnly?: boolean;
}

export interface Readiness {
  ready: boolean;
  parts: Record<string, { ok: boolean; detail?: string }>;
}

export type Log = (
  level: "debug" | "info" | "warn" | "error",
  fields: Record<string, unknown>,
  message: string,
) => void;

export type ApiEnv = {
  /** Absent in process, without a server. */
  Bindings: Partial<HttpBindings>;
  Variables: RequestIdVariables & { caller: Caller; read: Read };
};
