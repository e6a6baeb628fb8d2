import { postBare } from "../support/bare-client.ts";
import type { Bench } from "../support/bench.ts";
import { insertAndRelay } from "../support/messages.ts";

const MESSAGES = 100_000;
const CONCURRENCY = 64;
const ROUNDS = 3;

/** The median of a few rounds, in turn: a noisy neighbour spoils one, not the figure. */
export const throughput: Bench = {
  measures: "waiting messages → sent, beside the same HTTP client at the same gateway with no database",
  async run(stage) {
    const messages = stage.size(MESSAGES);
    const gateway = await stage.gateway();
    await stage.pool.query("select outbox.pause()");
    await stage.relayer({ webhookUrl: gateway.url });

    const relay = (count: number) => insertAndRelay(stage.pool, count);

    await relay(Math.ceil(messages / 4)); // warms up
    const rows = [];
    for (const round of stage.rounds(ROUNDS)) {
      stage.say(`round ${round} of ${ROUNDS}`);
      const client = await postBare(gateway.url, messages, CONCURRENCY);
      const relayer = await relay(messages);
      rows.push({
        case: `round ${round}`,
        gateway: gateway.kind,
        client_per_second: client,
        relayer_per_second: relayer,
        ratio: relayer / client,
      });
    }
    return rows;
  },
};
