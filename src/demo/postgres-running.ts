import fs from "node:fs";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { isAlive } from "./host.ts";
import { codeOf, LocalPostgresError } from "./local-postgres-error.ts";
import { type Login, withClient } from "./postgres-login.ts";

/** How long a server may take to recover from a crash, or to shut down, before we give up on it. */
export const PATIENCE_MS = 120_000;
/** A server that began longer ago than this listens on its port; one that does not is no server. */
const SETTLED_MS = 60_000;
const CERTAINTY_MS = 1_000;

export interface RunningServer {
  readonly pid: number;
  readonly port: number;
}

export const logFile = (folder: string) => path.join(folder, "server.log");

/** What PostgreSQL writes about itself into postmaster.pid. */
interface ServerFile extends RunningServer {
  readonly startedAtMs: number;
  /** The lines that never change while the server runs. */
  readonly identity: string;
  readonly status: string;
}

export function readServerFile(folder: string): ServerFile | undefined {
  let lines: string[];
  try {
    lines = fs.readFileSync(path.join(folder, "postmaster.pid"), "utf8").split("\n");
  } catch {
    return undefined;
  }
  return {
    pid: Number(lines[0]),
    startedAtMs: Number(lines[2]) * 1000,
    port: Number(lines[3]),
    identity: lines.slice(0, 3).join("\n"),
    status: (lines[7] ?? "").trim(),
  };
}

/**
 * The server that already runs on this folder, after waiting for one that is starting or stopping.
 *
 * After a crash of the machine, postmaster.pid may name a process that has nothing to do with PostgreSQL: then the
 * answer is that number as `impostor`, for the start to disregard.
 */
export async function findServer(
  folder: string,
  login: Login,
): Promise<{ server?: RunningServer; impostor?: number }> {
  const giveUpAt = Date.now() + PATIENCE_MS;
  let lastDoubt = Date.now();
  while (Date.now() < giveUpAt) {
    const file = readServerFile(folder);
    if (!file || !isAlive(file.pid)) return {};
    const answer = await ask(file, login);
    if (answer === "ours") return { server: { pid: file.pid, port: file.port } };
    // A server that has only just begun, or is about to be gone, has no port either. Taking it for an impostor
    // would put two servers on one folder.
    const begunLongAgo = Math.abs(Date.now() - file.startedAtMs) > SETTLED_MS;
    if (answer === "busy" || !begunLongAgo) lastDoubt = Date.now();
    if (Date.now() - lastDoubt > CERTAINTY_MS) return { impostor: file.pid };
    await delay(20);
  }
  throw new LocalPostgresError(
    `The PostgreSQL on the data folder ${folder} neither starts nor stops. Look into ${logFile(folder)}, and end the ` +
      `process ${readServerFile(folder)?.pid ?? ""} if it hangs.`,
  );
}

/** Asks whoever listens on the port in the file to read that file: only its own server has the same lines. */
async function ask(file: ServerFile, login: Login): Promise<"ours" | "not ours" | "busy"> {
  try {
    return await withClient(file.port, login, "postgres", async (client) => {
      const { rows } = await client.query<{ content: string }>(
        "select pg_catalog.pg_read_file('postmaster.pid') as content",
      );
      return rows[0]?.content.startsWith(file.identity) ? "ours" : "not ours";
    });
  } catch (error) {
    if (error instanceof LocalPostgresError) throw error;
    // cannot_connect_now, admin_shutdown, too_many_connections: a server, only not at our service now.
    return ["57P03", "57P01", "53300", "ECONNRESET"].includes(codeOf(error)) ? "busy" : "not ours";
  }
}

/** Whether this server still runs on the folder: it may be gone, and another one be there. */
export function isServerOf(folder: string, server: RunningServer): boolean {
  return readServerFile(folder)?.pid === server.pid && isAlive(server.pid);
}

/** Not left to `pg_ctl -w`, which takes a server started right after this one for this one, and waits for it in vain. */
export async function serverGone(folder: string, server: RunningServer): Promise<void> {
  const giveUpAt = Date.now() + PATIENCE_MS;
  while (isServerOf(folder, server)) {
    if (Date.now() > giveUpAt) {
      throw new LocalPostgresError(
        `The built-in PostgreSQL (process ${server.pid}) does not stop. Look into ${logFile(folder)}.`,
      );
    }
    await delay(10);
  }
}
