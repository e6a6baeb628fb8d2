import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

/** A peer in a process of its own. */
export interface PeerProcess {
  /** Puts in so many messages and has them relayed. Returns messages a second, from the start to the last one recorded. */
  relay(count: number): Promise<number>;
  stop(): Promise<void>;
}

const MAIN = fileURLToPath(new URL("main.ts", import.meta.url));

export async function startPeer(name: string, databaseUrl: string, gatewayUrl: string): Promise<PeerProcess> {
  const child = fork(MAIN, [name, databaseUrl, gatewayUrl], { stdio: "inherit" });

  const gone = once(child, "exit").then(([code, signal]) => {
    throw new Error(`${name} ended with ${code ?? signal}`);
  });

  async function answer(): Promise<unknown> {
    const [told] = await Promise.race([once(child, "message"), gone]);
    return told;
  }

  await answer();
  return {
    async relay(count) {
      child.send(count);
      return (await answer()) as number;
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.disconnect();
      await once(child, "exit");
    },
  };
}
