/* Graphile Worker as it waits for messages: `node listening.ts DATABASE_URL GATEWAY_URL` tells its parent when it does. */
import { createWorkerPool, runTask } from "./graphile-worker.ts";
import { createPost } from "./post.ts";

const [databaseUrl, gatewayUrl] = process.argv.slice(2) as [string, string];
const settings = { concurrentJobs: 24, maxPoolSize: 26 };
const post = createPost(gatewayUrl, 64);
const pool = await createWorkerPool(databaseUrl, settings);
await runTask(pool, settings, async (message) => void (await post(message)));

process.on("disconnect", () => process.exit());
process.send?.("ready");
