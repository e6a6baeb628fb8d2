import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import type { Cleanup } from "./cleanup.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const SHIFTED_CLOCK = join(import.meta.dirname, "shifted-clock.ts");

const LAST_WORDS = 2_000;

export interface RelayerEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** One process of `node src/main.ts`, from its start to its end. */
export interface RelayerProcess {
  /** "relayer 2, third start": for people. */
  readonly name: string;
  readonly pid: number;
  /** Every number it has had in outbox.relayers, and when it took each. */
  readonly numbers: ReadonlyMap<number, number>;
  /** What it logged as an error. */
  readonly errors: readonly string[];
  readonly end: Promise<RelayerEnd>;
  /** Milliseconds since 1970; undefined while it runs. */
  endedAt(): number | undefined;
  /** Has it said anything yet? Before, node is still loading it, and a signal ends it as it ends any process. */
  spoke(): boolean;
  /** Its last words, when it ended though nobody had told it to. */
  gaveUp(): string | undefined;
  kill(signal: NodeJS.Signals): void;
  /** Resolves when it relays, or, with false, when it ends before. */
  ready(): Promise<boolean>;
}

export interface RelayerProcessOptions {
  readonly name: string;
  readonly env: Readonly<Record<string, string>>;
  /** By how much its wall clock is wrong. */
  readonly clockShiftMs?: number;
  /** What it says goes to a file here. */
  readonly logFolder: string;
  readonly cleanup: Cleanup;
}

export function startRelayerProcess(options: RelayerProcessOptions): RelayerProcess {
  const { name, logFolder, cleanup, clockShiftMs = 0 } = options;
  const preload = clockShiftMs === 0 ? [] : ["--import", SHIFTED_CLOCK];
  const child = spawn(process.execPath, [...preload, join(ROOT, "src/main.ts")], {
    cwd: ROOT,
    env: {
      PATH: process.env.PATH ?? "",
      PORT: "0",
      CLOCK_SHIFT_MS: String(clockShiftMs),
      // So that the gateway knows who posts.
      WEBHOOK_AUTH_KEY: name,
      ...options.env,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const forget = cleanup.add(() => child.kill("SIGKILL"));
  const numbers = new Map<number, number>();
  const errors: string[] = [];
  const ready = Promise.withResolvers<boolean>();
  let said = "";
  const keep = (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-LAST_WORDS);
  };
  child.stdout?.on("data", keep);
  child.stderr?.on("data", keep);
  follow(child, join(logFolder, `${name.replaceAll(" ", "-")}.log`), (line) => {
    if (line.msg === "registered as a relayer") numbers.set(Number(line.relayer), Date.now());
    if (line.msg === "ready") ready.resolve(true);
    if (line.level === "error" || line.level === "fatal") errors.push(errorOf(line));
  });
  let endedAt: number | undefined;
  let told = false;
  const end = once(child, "close").then(([code, signal]): RelayerEnd => {
    endedAt = Date.now();
    forget();
    ready.resolve(false);
    return { code, signal };
  });

  return {
    name,
    pid: child.pid ?? Number.NaN,
    numbers,
    errors,
    end,
    endedAt: () => endedAt,
    spoke: () => said !== "",
    gaveUp: () => (endedAt !== undefined && !told ? said : undefined),
    kill(signal) {
      told ||= endedAt === undefined && (signal === "SIGKILL" || signal === "SIGTERM");
      child.kill(signal);
    },
    ready: () => ready.promise,
  };
}

type Line = Readonly<Record<string, unknown>>;

function errorOf({ msg, err }: Line): string {
  const cause = (err as { message?: string } | undefined)?.message;
  // Numbers differ from one time to the next.
  return `${msg}${cause === undefined ? "" : `: ${cause}`}`.replaceAll(/\d+/g, "N");
}

function follow(child: ChildProcess, file: string, onLine: (line: Line) => void): void {
  const log = createWriteStream(file);
  child.stdout?.pipe(log, { end: false });
  child.stderr?.pipe(log, { end: false });
  child.once("close", () => log.end());
  if (child.stdout === null) return;
  createInterface({ input: child.stdout }).on("line", (text) => {
    // A process that is killed may leave half a line.
    if (text.startsWith("{") && text.endsWith("}")) onLine(JSON.parse(text));
  });
}
