import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { stripVTControlCharacters } from "node:util";
import { onTestFinished } from "vitest";
import { eventually } from "../support/eventually.ts";
import { freePort } from "../support/redis.ts";

export const ROOT = path.resolve(import.meta.dirname, "../..");

export type Line = { readonly level: string; readonly msg: string } & Readonly<Record<string, unknown>>;
export type End = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

/** `node src/main.ts` as a user runs it: a process, known by what it prints and how it ends. */
export interface Program {
  readonly pid: number;
  /** All of standard output and standard error. */
  readonly output: string;
  /** What of it is a log line. */
  readonly lines: readonly Line[];
  /** Resolves with the first line, past or to come, whose message matches; rejects when the process ends without. */
  logged(message: RegExp): Promise<Line>;
  /** The line for people and for us: psql, api, swagger, gateway. */
  ready(): Promise<Readonly<Record<"psql" | "api" | "swagger" | "gateway", string>>>;
  /** Resolves when the output has this, escape sequences left out. */
  printed(text: RegExp): Promise<string>;
  kill(signal: NodeJS.Signals): void;
  type(keys: string): void;
  readonly end: Promise<End>;
}

export interface ProgramOptions {
  /** The whole environment, beside PATH, a PORT of 0 and what only makes Node start faster. */
  readonly env?: Readonly<Record<string, string>>;
  readonly command?: readonly string[];
  readonly cwd?: string;
  readonly uid?: number;
  /** In a pseudo-terminal, of util-linux' script. */
  readonly terminal?: boolean;
}

export function startProgram({
  env = {},
  command = [],
  cwd = ROOT,
  uid,
  terminal = false,
}: ProgramOptions = {}): Program {
  const main = [process.execPath, path.join(cwd, "src/main.ts"), ...command];
  const [file = "", ...args] = terminal
    ? ["script", "-qec", `exec ${main.map(quoted).join(" ")}`, "/dev/null"]
    : main;
  const child = spawn(file, args, {
    cwd: uid === undefined ? ROOT : "/",
    env: {
      PATH: process.env.PATH ?? "",
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE ?? "",
      PORT: "0",
      ...env,
    },
    stdio: ["pipe", "pipe", "pipe"],
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
  return watch(child);
}

const quoted = (word: string) => `'${word.replaceAll("'", "'\\''")}'`;

/** The same for any process that prints. Killed at the end of the test. */
export function watch(child: ChildProcess): Program {
  let output = "";
  let rest = "";
  const lines: Line[] = [];
  const looks = new Set<() => void>();
  child.stdin?.on("error", () => {});
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    output += text;
    const all = (rest + text).split("\n");
    rest = all.pop() ?? "";
    for (const line of all) if (line.startsWith("{")) lines.push(JSON.parse(line));
    for (const look of [...looks]) look();
  });
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  const end = once(child, "close").then(([code, signal]) => ({ code, signal }) as End);
  onTestFinished(async () => {
    child.kill("SIGKILL");
    await end;
  });

  function find<Found>(what: string, search: () => Found | undefined): Promise<Found> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const found = search();
        if (found === undefined) return;
        looks.delete(look);
        resolve(found);
      };
      looks.add(look);
      look();
      void end.then(() => reject(new Error(`it ended without ${what}:\n${output}`)));
    });
  }

  const program: Program = {
    pid: child.pid ?? Number.NaN,
    get output() {
      return output;
    },
    lines,
    logged: (message) => find(String(message), () => lines.find(({ msg }) => message.test(msg))),
    ready: async () => (await program.logged(/^ready$/)) as never,
    printed: (text) =>
      find(String(text), () => text.exec(stripVTControlCharacters(output).replaceAll("\r", ""))?.[0]),
    kill: (signal) => void child.kill(signal),
    type: (keys) => void child.stdin?.write(keys),
    end,
  };
  return program;
}

/** What a test's process needs for an embedded PostgreSQL of the test's own, stopped and removed at its end. */
export async function embeddedHome(): Promise<{
  readonly env: { readonly EMBEDDED_POSTGRES_DATA_DIR: string; readonly EMBEDDED_POSTGRES_PORT: string };
  readonly server: () => number;
}> {
  const folder = openFolder("outbox-program-");
  const dataDir = path.join(folder, "data");
  const server = () => serverOn(dataDir);
  // Registered after the folder, so done before that is removed.
  onTestFinished(async () => {
    if (!fs.existsSync(path.join(dataDir, "postmaster.pid"))) return;
    const postgres = server();
    if (isRunning(postgres)) process.kill(postgres, "SIGQUIT");
    await gone(postgres);
  });
  return {
    env: { EMBEDDED_POSTGRES_DATA_DIR: dataDir, EMBEDDED_POSTGRES_PORT: String(await freePort()) },
    server,
  };
}

/** A temporary folder that every user may pass through, removed at the end of the test. */
export function openFolder(prefix: string): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), prefix));
  fs.chmodSync(folder, 0o755);
  onTestFinished(() => fs.rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 }));
  return folder;
}

/** The number of the PostgreSQL that runs on a data folder. */
export function serverOn(dataDir: string): number {
  return Number.parseInt(fs.readFileSync(path.join(dataDir, "postmaster.pid"), "utf8"), 10);
}

/** A zombie, which nobody has buried yet, is not running. */
export function isRunning(pid: number): boolean {
  try {
    const state = execFileSync("ps", ["-o", "stat=", "-p", String(pid)], { encoding: "utf8" });
    return !state.startsWith("Z");
  } catch {
    return false;
  }
}

/** Resolves when the process is gone; soon, or it fails. */
export async function gone(pid: number): Promise<void> {
  await eventually(
    async () => isRunning(pid),
    (running) => !running,
    3_000,
  );
}

/** Where /livez and /readyz are. */
export function probe(api: string, name: "livez" | "readyz"): Promise<Response> {
  return fetch(`${new URL(api).origin}/${name}`);
}
