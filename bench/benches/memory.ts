import { setTimeout as pause } from "node:timers/promises";
import type { Bench, Row } from "../support/bench.ts";
import { insertMessages } from "../support/messages.ts";
import { percentile } from "../support/percentile.ts";
import { takeSamples } from "../support/samples.ts";
import { allSent, relayTimed } from "../support/sent.ts";
import type { Stage } from "../support/stage.ts";

const MESSAGES = 2_000_000;
const STALL_MS = 60_000;
/** Enough for before and after it. */
const STALLED_MESSAGES = 300_000;
const BEFORE_MS = 10_000;
const SAMPLE_MS = 100;

/** Memory is to depend on what is claimed and in flight, and not on what waits, was sent, or gets no answer. */
export const memory: Bench = {
  measures: "RSS of the relayer over 2,000,000 messages, and while its gateway answers nothing for a minute",
  run: async (stage) => [
    await longRun(stage),
    // Its circuit opens: after the timeout hardly anything is tried.
    await stall(stage, "stall, circuit opens", {}),
    // Nothing times out: all that may be in flight waits for the whole minute.
    await stall(stage, "stall, 2,048 in flight", { RELAY_CONCURRENCY: "2048", WEBHOOK_TIMEOUT: "5m" }),
  ],
};

async function longRun(stage: Stage): Promise<Row> {
  const messages = stage.size(MESSAGES);
  const gateway = await stage.gateway();
  await stage.pool.query("select outbox.pause()");
  const relayer = await stage.relayer({ webhookUrl: gateway.url });
  // Node takes some tens of MB more while it warms up.
  await insertMessages(stage.pool, Math.ceil(messages / 10));
  await relayTimed(stage.pool, []);
  stage.say(`${messages} messages`);
  await insertMessages(stage.pool, messages);

  const end = takeSamples(SAMPLE_MS, relayer.rssMb);
  const [seconds = 0] = await relayTimed(stage.pool, [1]);
  const samples = end();
  const tenth = Math.ceil(samples.length / 10);
  const first = percentile(samples.slice(0, tenth), 0.5);
  const last = percentile(samples.slice(-tenth), 0.5);
  await relayer.stop();
  return {
    case: `${messages} messages`,
    per_second: messages / seconds,
    first_tenth_mb: first,
    last_tenth_mb: last,
    ratio: last / first,
    max_mb: Math.max(...samples),
  };
}

async function stall(stage: Stage, name: string, env: Readonly<Record<string, string>>): Promise<Row> {
  stage.say(name);
  const gateway = await stage.scriptedGateway();
  await stage.pool.query("select outbox.pause()");
  const relayer = await stage.relayer({ webhookUrl: gateway.url, env });
  await insertMessages(stage.pool, stage.size(STALLED_MESSAGES));
  await stage.pool.query("select outbox.resume()");

  const before = takeSamples(SAMPLE_MS, relayer.rssMb);
  await pause(stage.milliseconds(BEFORE_MS));
  const beforeStall = before();

  const during = takeSamples(SAMPLE_MS, relayer.rssMb);
  const stallMs = stage.milliseconds(STALL_MS);
  gateway.stall(stallMs);
  await pause(stallMs);
  const stalled = during();

  const after = takeSamples(SAMPLE_MS, relayer.rssMb);
  await stage.pool.query("select outbox.resume('default')"); // the next probe may be a minute away
  await allSent(stage.pool);
  const afterStall = after();

  await relayer.stop();
  await gateway.stop();
  return {
    case: name,
    before_max_mb: Math.max(...beforeStall),
    stalled_max_mb: Math.max(...stalled),
    after_max_mb: Math.max(...afterStall),
    after_end_mb: afterStall.at(-1) as number,
  };
}
