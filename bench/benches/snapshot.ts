import { Client } from "pg";
import type { Bench, Row } from "../support/bench.ts";
import { insertMessages } from "../support/messages.ts";
import { relayTimed } from "../support/sent.ts";

const MESSAGES = 1_000_000;
/** Settles are of up to a thousand: fewer messages could be sent in the same moment. */
const LEAST_MESSAGES = 20_000;
const FIFTHS = [1, 2, 3, 4, 5];

/**
 * While an old snapshot is open (a report, a pg_dump, a forgotten psql), no dead row can be removed, and every claim is over the
 * dead rows of all before it, unless it knows where to begin.
 */
export const snapshot: Bench = {
  measures:
    "messages a second, fifth by fifth, while another session keeps an old snapshot open, and without",
  async run(stage) {
    const { pool } = stage;
    const messages = Math.max(stage.size(MESSAGES), LEAST_MESSAGES);
    const gateway = await stage.gateway();
    await pool.query("select outbox.pause()");
    await stage.relayer({ webhookUrl: gateway.url });
    const reader = new Client({ connectionString: stage.databaseUrl });
    await reader.connect();
    stage.atEnd(() => reader.end());

    async function relay(name: string): Promise<Row> {
      stage.say(name);
      const times = await relayTimed(
        pool,
        FIFTHS.map((fifth) => fifth / 5),
      );
      const rates = times.map((at, index) => messages / 5 / (at - (times[index - 1] ?? 0)));
      return {
        case: name,
        ...Object.fromEntries(rates.map((rate, index) => [`fifth_${index + 1}_per_second`, rate])),
        ratio: (rates.at(-1) as number) / (rates[0] as number),
      };
    }

    await insertMessages(pool, Math.ceil(messages / 10));
    await relay("warm-up");

    await insertMessages(pool, messages);
    const without = await relay("no old snapshot");

    // Nothing of the round before is to be in the way of this one, in either table's files.
    await pool.query("truncate outbox.messages, outbox.sent");
    await insertMessages(pool, messages);
    await reader.query("begin isolation level repeatable read");
    await reader.query("select from outbox.gateways");
    const beside = await relay("old snapshot");
    await reader.query("rollback");
    return [without, beside];
  },
};
