import type { Finding } from "../../db/alerts.ts";
import { printableDuration } from "../../gateway/printable.ts";
import type { FurtherFindings } from "./further-findings.ts";

export const QUERY_STORE_LAG = "query_store_lag";

export interface QueryStoreLagOptions {
  readonly thresholdMs: number | null;
  /** How far behind it is now; `away`: it does not answer, and why. */
  readonly lag: () => Promise<{ readonly lagMs: number } | { readonly away: string }>;
}

/** What only a process with a query store knows. */
export function queryStoreLag({ thresholdMs, lag }: QueryStoreLagOptions): FurtherFindings {
  return {
    kinds: [QUERY_STORE_LAG],
    async find() {
      if (thresholdMs === null) return [];
      const now = await lag();
      const about = { kind: QUERY_STORE_LAG, key: QUERY_STORE_LAG, severity: "warning" } as const;
      const help = "npm run query-store -- status";
      if ("away" in now) {
        const summary = `the query store does not answer: ${now.away}`;
        return [{ ...about, summary, lastingMs: thresholdMs, help }];
      }
      if (now.lagMs <= thresholdMs) return [];
      const behind = printableDuration(Math.round(now.lagMs / 1_000) * 1_000);
      const since = new Date(Date.now() - now.lagMs).toISOString();
      return [{ ...about, summary: `the query store is ${behind} behind`, since, help }] satisfies Finding[];
    },
  };
}
