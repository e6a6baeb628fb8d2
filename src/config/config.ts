import type { AlertSettings } from "./alerts.ts";
import type { ApiKey } from "./api-keys.ts";
import type { LogLevels } from "./levels.ts";

/** What the configuration names about a gateway. What is absent is the DBA's, in `outbox.gateways`. */
export interface GatewaySettings {
  readonly url?: string;
  readonly authKey?: string;
  /** Signing secret of Standard Webhooks: base64, with or without `whsec_`, as it was given. */
  readonly secret?: string;
  readonly timeoutMs?: number;
  readonly concurrency?: number;
  readonly onUnknown?: "retry" | "park";
  readonly holdForMs?: number;
  readonly maxAttempts?: number;
  readonly baseDelayMs?: number;
  readonly maxDelayMs?: number;
  readonly jitter?: number;
  readonly ratePerSecond?: number;
  readonly burst?: number;
  readonly circuitFailures?: number;
  readonly circuitRatio?: number;
  readonly circuitWindowMs?: number;
  readonly circuitPauseMs?: number;
  readonly circuitMaxPauseMs?: number;
  readonly circuitProbes?: number;
}

/** How long a logical subscriber keeps what it has; undefined: for ever. */
export interface StoreRetention {
  readonly sentMs: number | undefined;
  readonly attemptsMs: number | undefined;
  readonly deadLettersMs: number | undefined;
  readonly auditMs: number | undefined;
  readonly eventsMs: number | undefined;
}

export interface Config {
  readonly host: string;
  /** 0 is any free port. */
  readonly port: number;
  /** Whether `host` is an address that only this machine reaches. */
  readonly loopbackOnly: boolean;
  readonly api: {
    /** None: everyone who reaches the server may do everything, and `host` is a loopback address. */
    readonly keys: readonly ApiKey[];
    /** Web sites, besides this server's own pages, whose scripts may use the API. */
    readonly corsOrigins: readonly string[];
  };
  /** undefined: no database is configured. */
  readonly databaseUrl: string | undefined;
  /** undefined: every question goes to the primary. */
  readonly queryDatabaseUrl: string | undefined;
  readonly queryStore: {
    /** With a longer lag the store counts as away. */
    readonly maxLagMs: number;
    readonly whenAway: "primary" | "unavailable";
    /** How a logical subscriber reaches the primary; undefined: by `databaseUrl`. */
    readonly primaryUrl: string | undefined;
    readonly retention: StoreRetention;
  };
  readonly embeddedPostgres: { readonly port: number; readonly dataDir: string };
  /** undefined: no Redis. */
  readonly redis: { readonly url: string; readonly ttlMs: number } | undefined;
  readonly relay: {
    readonly mode: "continuous" | "scheduled";
    readonly batchSize: number;
    readonly pollIntervalMs: number;
    readonly deadAfterMs: number;
  };
  /** Always has `default`; `retry.*`, `circuit.*` and `relay.concurrency` are already merged into each. */
  readonly gateways: Readonly<Record<string, GatewaySettings>>;
  readonly retention: {
    readonly sentMs: number;
    readonly attemptsMs: number;
    /** undefined: kept for ever. */
    readonly deadLettersMs: number | undefined;
    /** undefined: kept for ever. */
    readonly auditMs: number | undefined;
    readonly eventsMs: number;
  };
  readonly alerts: AlertSettings;
  /** undefined: off. */
  readonly tracing:
    | {
        readonly endpoint: string;
        readonly headers: Readonly<Record<string, string>>;
        readonly sampleRatio: number;
        readonly serviceName: string;
      }
    | undefined;
  readonly shutdown: { readonly graceMs: number };
  readonly metrics: {
    /** undefined: /metrics is on the API's port. */
    readonly ownPort:
      | { readonly host: string; readonly port: number; readonly loopbackOnly: boolean }
      | undefined;
    /** undefined: whoever reaches it may scrape. */
    readonly token: string | undefined;
  };
  readonly log: LogLevels;
}
