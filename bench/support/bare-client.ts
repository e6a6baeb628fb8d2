import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

const CLIENT = fileURLToPath(new URL("client.ts", import.meta.url));

/** POSTs a second of the relayer's own HTTP client, with nothing else in its process. */
export async function postBare(url: string, count: number, concurrency: number): Promise<number> {
  const child = fork(CLIENT, [url, String(count), String(concurrency)], { stdio: "inherit" });
  const [rate] = (await once(child, "message")) as [number];
  await once(child, "exit");
  return rate;
}
