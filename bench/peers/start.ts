import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

/** A peer in a process of its own. */
export interface PeerProcess {
  /** Puts in so many messages and has them relayed. Returns messages a second, from the start to the last one recorded. */
  relay(count: number): Promise<number>;
  stop(): Promise<void>;
}

export async function startPeer(name: string, databaseUrl: string, gatewayUrl: string): Promise<PeerProcess> {
  const { child, told, stop } = await start("main.ts", [name, databaseUrl, gatewayUrl]);
  return {
    async relay(count) {
      child.send(count);
      return (await told()) as number;
    },
    stop,
  };
}

/** Graphile Worker, waiting for jobs named `sms`. */
export async function startListening(
  databaseUrl: string,
  gatewayUrl: string,
): Promise<Pick<PeerProcess, "stop">> {
  return await start("listening.ts", [databaseUrl, gatewayUrl]);
}

interface Started {
  readonly child: ChildProcess;
  /** What the process says next. */
  readonly told: () => Promise<unknown>;
  readonly stop: () => Promise<void>;
}

/** Resolves when the process says that it is ready. */
async function start(file: string, args: readonly string[]): Promise<Started> {
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), args, { stdio: "inherit" });
  const gone = once(child, "exit").then(([code, signal]) => {
    throw new Error(`${file} ${args[0]} ended with ${code ?? signal}`);
  });
  const told = async () => (await Promise.race([once(child, "message"), gone]))[0];
  await told();
  return {
    child,
    told,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.disconnect();
      await once(child, "exit");
    },
  };
}
