import type { Frame } from "./cpu-profile.ts";

/** What no area's code has called: the event loop, timers, reading from sockets. */
export const NODE = "Node itself";
/** Almost all of it hands bytes to sockets. */
export const KERNEL = "system calls";

const SOURCE = new URL("../../src/", import.meta.url).href;
/** Node's own calls that hand bytes to the kernel. */
const WRITES = /^(?:writev|write\w*String|writeBuffer)$/;

const AREAS: readonly (readonly [area: string, url: RegExp])[] = [
  // Its parser of HTTP is WebAssembly.
  ["undici", /\/node_modules\/undici\/|^wasm:/],
  ["pg", /\/node_modules\/(?:pg|pg-\w+|postgres-\w+)\//],
  ["metrics", /\/node_modules\/prom-client\//],
  ["other packages", /\/node_modules\//],
];

/** The part of the relayer that a frame of its CPU profile belongs to; undefined: whichever called it. */
export function relayerArea({ functionName, url }: Frame): string | undefined {
  if (functionName === "(garbage collector)") return "garbage collection";
  if (url === "") return WRITES.test(functionName) ? KERNEL : undefined;
  if (!url.startsWith(SOURCE)) return AREAS.find(([, pattern]) => pattern.test(url))?.[0];
  const [folder, file] = url.slice(SOURCE.length).split("/");
  if (file === undefined) return "src";
  return folder === "ops" ? "metrics" : `src/${folder}`;
}
