import { databaseNow, queryUntilAnswered } from "./persistent-query.ts";

/** A pause, on the database's clock: nothing may have been claimed within it. */
export interface Pause {
  readonly gateway: string | null;
  /** Its commit, or a little later. */
  readonly from: number;
  /** Before its resume began. */
  readonly to: number;
  /** Messages that were seen claimed within it, shortly before its end. */
  readonly claimed: readonly number[];
}

export interface PauseLog {
  readonly pauses: readonly Pause[];
  /** null: everything. */
  pause(gateway: string | null): Promise<void>;
  resume(): Promise<void>;
}

export function createPauseLog(url: string): PauseLog {
  const pauses: Pause[] = [];
  let current: { readonly gateway: string | null; readonly from: number } | undefined;
  return {
    pauses,
    async pause(gateway) {
      await queryUntilAnswered(url, "select outbox.pause($1)", [gateway]);
      current = { gateway, from: await databaseNow(url) };
    },
    async resume() {
      if (current === undefined) return;
      const { gateway, from } = current;
      const rows = await queryUntilAnswered<{ id: number }>(
        url,
        "select id::float8 as id from outbox.messages where claimed_at > to_timestamp($1::float8 / 1000) order by id",
        [from],
      );
      pauses.push({ gateway, from, to: await databaseNow(url), claimed: rows.map(({ id }) => id) });
      current = undefined;
      await queryUntilAnswered(url, "select outbox.resume($1)", [gateway]);
    },
  };
}
