import { postBare } from "../support/bare-client.ts";
import type { Bench, Row } from "../support/bench.ts";
import { idleCpuSeconds } from "../support/cpu.ts";
import { insertMessages } from "../support/messages.ts";
import { takeSamples } from "../support/samples.ts";
import { relayTimed } from "../support/sent.ts";
import type { Stage } from "../support/stage.ts";

const DELAY_MS = 100;
const CONCURRENCIES = [256, 1_024, 2_048];
/** Fifteen seconds of it. */
const ANSWERS_EACH = 150;
/** Below that, most of the time is the first and the last answer. */
const LEAST_ANSWERS_EACH = 10;
const SAMPLE_MS = 100;

/**
 * At best a gateway that takes its time lets through an answer for each connection every 100 ms. The same HTTP client without a
 * database shows how much of what is missing is the gateway's and the machine's.
 */
export const slowGateway: Bench = {
  measures: "messages a second through a gateway that answers after 100 ms, of what its connections allow",
  async run(stage) {
    const rows = [];
    for (const concurrency of CONCURRENCIES) rows.push(await relay(stage, concurrency));
    return rows;
  },
};

async function relay(stage: Stage, concurrency: number): Promise<Row> {
  stage.say(`${concurrency} in flight`);
  const messages = Math.max(stage.size(concurrency * ANSWERS_EACH), concurrency * LEAST_ANSWERS_EACH);
  const gateway = await stage.scriptedGateway({ delayMs: DELAY_MS });
  const client = await postBare(gateway.url, Math.ceil(messages / 3), concurrency);

  await stage.pool.query("select outbox.pause()");
  const relayer = await stage.relayer({
    webhookUrl: gateway.url,
    env: { RELAY_CONCURRENCY: String(concurrency) },
  });
  await insertMessages(stage.pool, Math.ceil(messages / 5));
  await relayTimed(stage.pool, []); // opens the connections, and warms up
  await insertMessages(stage.pool, messages);
  const ended = takeSamples(SAMPLE_MS, () => ({
    at: performance.now() / 1_000,
    relayer: relayer.cpuSeconds(),
    gateway: gateway.cpuSeconds(),
    idle: idleCpuSeconds(),
  }));
  const [first = 0, last = 0] = await relayTimed(stage.pool, [0.1, 0.9]);
  const samples = ended();
  const rssMb = relayer.peakRssMb();
  await relayer.stop();
  await gateway.stop();

  // Without the ramps: at first nothing is answered yet, and at the end less is left than what may be in flight.
  const rate = (messages * 0.8) / (last - first);
  const ideal = concurrency / (DELAY_MS / 1_000);
  const [from, to] = [0.1, 0.8].map((share) => samples[Math.floor(samples.length * share)]);
  if (from === undefined || to === undefined) throw new Error("no samples");
  const seconds = to.at - from.at;
  return {
    case: `${concurrency} in flight`,
    per_second: rate,
    ideal_per_second: ideal,
    ratio: rate / ideal,
    client_per_second: client,
    rss_mb: rssMb,
    relayer_cores: (to.relayer - from.relayer) / seconds,
    gateway_cores: (to.gateway - from.gateway) / seconds,
    idle_cores: (to.idle - from.idle) / seconds,
  };
}
