import type { Bench } from "../support/bench.ts";
import { insertAndRelay } from "../support/messages.ts";
import { openStore } from "../support/store.ts";

const MESSAGES = 100_000;
const ROUNDS = 3;

/**
 * A logical subscriber beside the outbox, as a second database of the same server: it has the relaying's cores to share. In each round
 * it sleeps through the first half, then makes up for it while nothing else goes on, then follows the second half.
 */
export const queryStore: Bench = {
  measures:
    "waiting messages → sent with a query store that sleeps, and one that follows; how fast it takes them up",
  settings: { wal_level: "logical" },
  async run(stage) {
    const messages = stage.size(MESSAGES);
    const gateway = await stage.gateway();
    const storeUrl = await stage.otherDatabase("store");
    const store = await openStore(stage.databaseUrl, storeUrl);
    stage.atEnd(() => store.close());
    await stage.pool.query("select outbox.pause()");
    await stage.relayer({ webhookUrl: gateway.url });

    const relay = (count: number) => insertAndRelay(stage.pool, count);

    await relay(Math.ceil(messages / 4)); // warms up
    await store.caughtUp();
    const rows = [];
    for (const round of stage.rounds(ROUNDS)) {
      stage.say(`round ${round} of ${ROUNDS}`);
      await store.sleep();
      const alone = await relay(messages);
      await store.wake();
      const catchUpSeconds = await store.caughtUp();
      const followed = await relay(messages);
      const behindSeconds = await store.caughtUp();
      rows.push({
        case: `round ${round}`,
        asleep_per_second: alone,
        following_per_second: followed,
        ratio: followed / alone,
        behind_at_the_end_s: behindSeconds,
        catch_up_per_second: messages / catchUpSeconds,
      });
    }
    return rows;
  },
};
