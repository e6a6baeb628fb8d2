import { type ChildProcess, spawn } from "node:child_process";
import fs from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { LocalPostgresError } from "./local-postgres-error.ts";
import type { Account } from "./postgres-account.ts";
import { childOptions, type Programs } from "./postgres-programs.ts";
import { logFile, PATIENCE_MS, type RunningServer, readServerFile } from "./postgres-running.ts";

const LOG_LIMIT_BYTES = 5_000_000;

/** Starts a server that outlives this process; undefined when another process was faster. */
export async function startServer(
  folder: string,
  programs: Programs,
  account: Account | undefined,
  port: number,
  settings: Readonly<Record<string, string>>,
  impostor: number | undefined,
): Promise<RunningServer | undefined> {
  const log = openLog(folder, account);
  const began = fs.fstatSync(log).size;
  const options = childOptions(account);
  // PostgreSQL takes the process of this number for its own ancestor, hence not for a rival; the other guard,
  // its shared memory, stays on.
  if (impostor !== undefined) options.env.PG_GRANDPARENT_PID = String(impostor);
  const merged = { listen_addresses: "127.0.0.1", unix_socket_directories: "", ...settings };
  const flags = Object.entries(merged).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const child = spawn(programs.postgres, ["-D", folder, "-p", String(port), ...flags], {
    ...options,
    // Its own session: Ctrl-C in the terminal is for us, and we stop the database after its last user.
    detached: true,
    stdio: ["ignore", log, log],
  });
  const end = new Promise<void>((resolve) =>
    child.once("exit", () => resolve()).once("error", () => resolve()),
  );
  fs.closeSync(log);
  child.unref();
  if (await becomesReady(folder, child, end)) return { pid: child.pid ?? 0, port };
  return explain(folder, port, fs.readFileSync(logFile(folder)).subarray(began).toString());
}

async function becomesReady(folder: string, child: ChildProcess, end: Promise<void>): Promise<boolean> {
  let ended = false;
  void end.then(() => (ended = true));
  const giveUpAt = Date.now() + PATIENCE_MS;
  while (!ended) {
    const file = readServerFile(folder);
    if (file?.pid === child.pid && file?.status === "ready") return true;
    if (Date.now() > giveUpAt) child.kill("SIGQUIT");
    await Promise.race([end, delay(10)]);
  }
  return false;
}

function openLog(folder: string, account: Account | undefined): number {
  const file = logFile(folder);
  const size = fs.statSync(file, { throwIfNoEntry: false })?.size ?? 0;
  if (size > LOG_LIMIT_BYTES) fs.renameSync(file, `${file}.old`);
  const log = fs.openSync(file, "a", 0o600);
  if (account) fs.fchownSync(log, account.uid, account.gid);
  return log;
}

/** Turns what the server said on its way out into a sentence. Silent about what the next look will solve. */
function explain(folder: string, port: number, said: string): undefined {
  if (/lock file "postmaster.pid" already exists|shared memory block .* still in use/.test(said)) return;
  if (/could not bind/.test(said)) {
    const taken = /address already in use/i.test(said);
    throw new LocalPostgresError(
      `Port ${port} on 127.0.0.1 ${taken ? "is taken by another program" : "may not be used"}, so the built-in PostgreSQL ` +
        "cannot start. Choose another with EMBEDDED_POSTGRES_PORT, or set DATABASE_URL to use a database of your own.",
    );
  }
  const telling = said.split("\n").filter((line) => /(FATAL|PANIC|DETAIL|HINT): /.test(line));
  const reason = telling.map((line) => line.replace(/^.*?(FATAL|PANIC|DETAIL|HINT): +/, "")).join(" ");
  throw new LocalPostgresError(
    `The built-in PostgreSQL cannot start: ${reason || said.trim() || "it ended without a word"} (${logFile(folder)})`,
  );
}
