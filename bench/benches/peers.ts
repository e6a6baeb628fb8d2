import { PEERS } from "../peers/all.ts";
import { type PeerProcess, startPeer } from "../peers/start.ts";
import type { Bench } from "../support/bench.ts";
import { inTurn } from "../support/in-turn.ts";
import { insertAndRelay } from "../support/messages.ts";
import { percentile } from "../support/percentile.ts";

const MESSAGES = 100_000;
const ROUNDS = 3;

interface Contestant {
  readonly name: string;
  readonly messages: number;
  readonly relay: (count: number) => Promise<number>;
  readonly rates: number[];
}

/** All in turn, the median of a few rounds each. Each has a database of its own, so that none carries what another one left. */
export const peers: Bench = {
  measures:
    "waiting messages → recorded as done, as in throughput, by the relayer and by others; times: ours ÷ theirs",
  settings: { max_connections: "200" },
  async run(stage) {
    const gateway = await stage.gateway();
    await stage.pool.query("select outbox.pause()");
    await stage.relayer({ webhookUrl: gateway.url });

    const relay = (count: number) => insertAndRelay(stage.pool, count);

    const contestants: Contestant[] = [
      { name: "outbox-relayer", messages: stage.size(MESSAGES), relay, rates: [] },
    ];
    for (const [name, { share }] of Object.entries(PEERS)) {
      const database = await stage.otherDatabase(`peer_${contestants.length}`);
      const peer: PeerProcess = await startPeer(name, database, gateway.url);
      stage.atEnd(() => peer.stop());
      contestants.push({ name, messages: stage.size(MESSAGES * share), relay: peer.relay, rates: [] });
    }

    for (const { messages, relay } of contestants) await relay(Math.ceil(messages / 4)); // warms up
    for (const round of stage.rounds(ROUNDS)) {
      for (const { name, messages, relay, rates } of inTurn(contestants, round)) {
        stage.say(`round ${round} of ${ROUNDS}: ${name}`);
        rates.push(await relay(messages));
      }
    }

    const median = (contestant: Contestant) => percentile(contestant.rates, 0.5);
    const ours = median(contestants[0] as Contestant);
    return contestants.map((contestant) => ({
      case: contestant.name,
      messages: contestant.messages,
      per_second: median(contestant),
      times: ours / median(contestant),
    }));
  },
};
