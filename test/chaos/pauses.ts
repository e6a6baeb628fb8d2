import { databaseNow, queryUntilAnswered } from "./persistent-query.ts";

/** A pause, on the database's clock: nothing may be claimed within it. */
export interface Pause {
  readonly gateway: string | null;
  /** Its commit, or a little later. */
  readonly from: number;
  /** Before its resume began. */
  readonly to: number;
  /** What was claimed at its beginning: this is settled, and nothing else. */
  readonly claimed: ReadonlySet<number>;
  /** What was claimed shortly before its end. */
  readonly stillClaimed: readonly number[];
}

export interface PauseLog {
  readonly pauses: readonly Pause[];
  /** null: everything. */
  pause(gateway: string | null): Promise<void>;
  resume(): Promise<void>;
}

export function createPauseLog(url: string): PauseLog {
  const pauses: Pause[] = [];
  let current: Pick<Pause, "gateway" | "from" | "claimed"> | undefined;

  async function claimed(): Promise<number[]> {
    const rows = await queryUntilAnswered<{ id: number }>(
      url,
      "select id::float8 as id from outbox.messages where claimed_by is not null",
    );
    return rows.map(({ id }) => id);
  }

  return {
    pauses,
    async pause(gateway) {
      await queryUntilAnswered(url, "select outbox.pause($1)", [gateway]);
      // In this order: what is settled after `from` was still claimed when it was looked at.
      const ids = await claimed();
      current = { gateway, claimed: new Set(ids), from: await databaseNow(url) };
    },
    async resume() {
      if (current === undefined) return;
      const stillClaimed = await claimed();
      pauses.push({ ...current, stillClaimed, to: await databaseNow(url) });
      const { gateway } = current;
      current = undefined;
      await queryUntilAnswered(url, "select outbox.resume($1)", [gateway]);
    },
  };
}
