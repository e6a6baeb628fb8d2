/* A peer in a process of its own: `node main.ts NAME DATABASE_URL GATEWAY_URL`. Told a number of messages, it puts them in, relays them, and tells how many a second. */
import { PEERS } from "./all.ts";

const [name, databaseUrl, gatewayUrl] = process.argv.slice(2) as [string, string, string];
const peer = await PEERS[name]?.start(databaseUrl, gatewayUrl);
if (peer === undefined) throw new Error(`there is no peer named ${name}`);

process.on("message", async (count: number) => {
  await peer.insert(count);
  const start = performance.now();
  await peer.relay(count);
  process.send?.((count / (performance.now() - start)) * 1_000);
});
process.on("disconnect", () => process.exit());
process.send?.("ready");
