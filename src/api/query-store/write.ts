import type { Context } from "hono";
import { inWriteTransaction, type Query } from "../connection.ts";
import type { ApiDependencies, ApiEnv } from "../dependencies.ts";
import { LSN_HEADER } from "./lsn.ts";

/** Runs `work` in one transaction on the primary. The answer says with which header a read sees at least this. */
export async function write<T>(
  c: Context<ApiEnv>,
  pool: ApiDependencies["pool"],
  work: (query: Query) => Promise<T>,
): Promise<T> {
  const { result, lsn } = await inWriteTransaction(pool, work);
  c.header(LSN_HEADER, lsn);
  return result;
}
