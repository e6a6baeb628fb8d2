import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { createInterface } from "node:readline";

export interface TestRedis {
  readonly url: string;
  stop(): Promise<void>;
}

/** A server of the test's own, to do with as it likes. */
export interface SpawnedRedis extends TestRedis {
  readonly pid: number;
  readonly port: number;
  /** SIGSTOP: the kernel still accepts connections, and nothing ever answers. */
  freeze(): void;
  thaw(): void;
}

export interface SpawnOptions {
  /** A free one when left out. */
  readonly port?: number;
  readonly password?: string;
}

const HOW_TO_GET_ONE = "Install one (apt-get install redis-server, brew install redis)";

/**
 * A Redis to write to: the one at REDIS_URL (shared: use keys of your own), else a spawned one. Where there is
 * neither, undefined: skip the test. On CI that throws, because nobody reads a skip there.
 */
export async function startRedis(): Promise<TestRedis | undefined> {
  const url = process.env.REDIS_URL;
  return url === undefined || url === "" ? spawnRedis() : { url, stop: async () => {} };
}

/**
 * A redis-server on a loopback port, writing nothing to disk, ready when this resolves. Where none is installed,
 * undefined (skip the test), and on CI an error unless a REDIS_URL there at least serves the other tests.
 */
export async function spawnRedis(options: SpawnOptions = {}): Promise<SpawnedRedis | undefined> {
  const child = await launch(options.port ?? (await freePort()), options.password);
  if (child !== undefined) return child;
  if (process.env.CI && !process.env.REDIS_URL) {
    throw new Error(
      `There is no redis-server on the PATH, and on CI its tests may not be skipped. ${HOW_TO_GET_ONE}.`,
    );
  }
  console.warn(
    `\nSKIPPED: there is no redis-server on the PATH, so tests of Redis do not run. ${HOW_TO_GET_ONE}.\n`,
  );
  return undefined;
}

async function launch(port: number, password: string | undefined): Promise<SpawnedRedis | undefined> {
  const settings = { port, bind: "127.0.0.1", save: "", appendonly: "no", daemonize: "no", dir: tmpdir() };
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
  if (password !== undefined) args.push("--requirepass", password);

  const child = spawn("redis-server", args, { stdio: ["ignore", "pipe", "inherit"] });
  try {
    await once(child, "spawn");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
  const killWithUs = () => child.kill("SIGKILL");
  process.once("exit", killWithUs);
  await ready(child);

  const auth = password === undefined ? "" : `:${encodeURIComponent(password)}@`;
  return {
    url: `redis://${auth}127.0.0.1:${port}`,
    pid: child.pid ?? Number.NaN,
    port,
    freeze: () => void child.kill("SIGSTOP"),
    thaw: () => void child.kill("SIGCONT"),
    async stop() {
      process.removeListener("exit", killWithUs);
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exited = once(child, "exit");
      // SIGKILL also ends a frozen one, and there is nothing to save.
      child.kill("SIGKILL");
      await exited;
    },
  };
}

async function ready(child: ChildProcess): Promise<void> {
  if (child.stdout === null) throw new Error("redis-server was started without a pipe for its log");
  const said: string[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    said.push(line);
    if (line.includes("Ready to accept connections")) {
      // Keep reading, or a chatty server blocks on a full pipe.
      child.stdout.resume();
      return;
    }
  }
  throw new Error(`redis-server did not start:\n${said.join("\n")}`);
}

/** A loopback port that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("expected a TCP address");
  return address.port;
}
