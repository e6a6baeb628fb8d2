import type { MiddlewareHandler } from "hono";
import type { ApiDependencies, ApiEnv } from "../dependencies.ts";
import { ProblemError } from "../problem.ts";
import { createSearchability, SEARCH_UNAVAILABLE } from "../search.ts";
import { LSN_HEADER, lsnOf } from "./lsn.ts";
import { type Condition, isAway, type QueryStore } from "./query-store.ts";

/** How far behind the primary the query store may have been when it answered, in seconds. */
export const LAG_HEADER = "X-Query-Store-Lag";

/** Does what a request only reads: in the query store where there is one, else on the primary. May do it twice, once in each. */
export type Read = <T>(
  work: (pool: ApiDependencies["pool"]) => Promise<T>,
  needs?: { readonly search?: boolean },
) => Promise<T>;

type Guard = MiddlewareHandler<ApiEnv>;

/** A guard of every route that reads, which gives it its `read`. */
export function createReads({ pool: primary, queryStore, log }: ApiDependencies): Guard {
  const searchable = createSearchability(primary);

  return async (c, next) => {
    const lsn = lsnOf(c.req.header(LSN_HEADER));

    const read: Read = async (work, { search = false } = {}) => {
      if (queryStore !== undefined) {
        const obstacle = await obstacleOf(queryStore, lsn);
        if (obstacle === undefined) {
          const { lagMs = 0, searchable } = queryStore.condition();
          if (search && !searchable)
            throw new ProblemError("search-unavailable", SEARCH_UNAVAILABLE.queryStore);
          c.header(LAG_HEADER, (lagMs / 1_000).toFixed(3));
          try {
            return await work(queryStore.pool);
          } catch (error) {
            if (!isOfTheStore(error)) throw error;
            if (isAway(error)) queryStore.doubt(error);
            const fields = { request_id: c.get("requestId"), path: c.req.path, err: error };
            log(isAway(error) ? "debug" : "warn", fields, "the query store could not answer a read");
            c.header(LAG_HEADER, undefined);
          }
          if (queryStore.whenAway === "unavailable") throw unavailable("It could not answer this.");
        } else if (queryStore.whenAway === "unavailable") throw unavailable(obstacle);
      }
      if (search && !(await searchable()))
        throw queryStore === undefined
          ? new ProblemError("search-unavailable", SEARCH_UNAVAILABLE.primary)
          : unavailable("Only it can search, and it cannot be asked now.");
      return work(primary);
    };
    c.set("read", read);
    await next();
  };
}

/** Why it cannot answer, for whoever asks: without hosts. */
async function obstacleOf(queryStore: QueryStore, lsn: bigint | undefined): Promise<string | undefined> {
  const obstacle = obstacleIn(queryStore.condition());
  if (obstacle !== undefined || lsn === undefined || (await queryStore.hasSeen(lsn))) return obstacle;
  return `It has not seen the write of the ${LSN_HEADER} yet.`;
}

/** For probes, which anybody may ask, and for problems. */
export function obstacleIn({ state, lagMs }: Condition): string | undefined {
  if (state === "usable") return undefined;
  if (state === "away") return "It does not answer.";
  if (lagMs === undefined) return "It has never followed the primary yet.";
  return `It is ${(lagMs / 1_000).toFixed(1)} s behind, which is more than query_store.max_lag.`;
}

function unavailable(reason: string): ProblemError {
  return new ProblemError("query-store-unavailable", `${reason} Ask again shortly.`);
}

/**
 * Another place may answer what failed here: it went away; a standby had to undo what the question was still reading (40001); or it
 * is not as this version wants it (42…): a column, a function or a right is missing. Not what took too long: that is what spares the primary.
 */
function isOfTheStore(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return isAway(error) || /^(40001|42...)$/.test(code);
}
