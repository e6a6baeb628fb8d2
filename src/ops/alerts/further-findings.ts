import type { Finding } from "../../db/alerts.ts";

/** What the database cannot know of itself, and a process can. */
export interface FurtherFindings {
  /** The kinds of alerts that it looks for. */
  readonly kinds: readonly string[];
  find(): Promise<readonly Finding[]>;
}

/** All kinds that processes look for: one that does not must not take them for over. */
export const FURTHER_KINDS: readonly string[] = ["query_store_lag"];
