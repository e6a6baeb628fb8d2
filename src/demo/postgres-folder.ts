import { execFile } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { type Host, isAlive } from "./host.ts";
import { codeOf, LocalPostgresError, whatWentWrong } from "./local-postgres-error.ts";
import { makeParents } from "./open-folder.ts";
import { withPlainPath } from "./plain-path.ts";
import { type Account, closedFolder } from "./postgres-account.ts";
import { childOptions, type Programs } from "./postgres-programs.ts";

const run = promisify(execFile);
const ELSEWHERE = "choose another folder with EMBEDDED_POSTGRES_DATA_DIR";

/**
 * Where in `dataDir` the database lives. A folder that was already there, empty, may be a mount point or stand in a
 * parent that is not ours to write: it cannot be replaced by rename, so the database goes one level down.
 */
export function databaseFolder(dataDir: string): string {
  try {
    if (fs.existsSync(path.join(dataDir, "PG_VERSION"))) return dataDir;
    const entries = fs.readdirSync(dataDir).filter((name) => !/^(\.|lost\+found$|pgdata)/.test(name));
    if (entries.length === 0) return path.join(dataDir, "pgdata");
  } catch (cause) {
    // Missing, or a parent is: it will be made.
    if (codeOf(cause) === "ENOENT") return dataDir;
    throw new LocalPostgresError(
      `The data folder ${dataDir} cannot be read (${whatWentWrong(cause)}). Start as the user who owns it, or ${ELSEWHERE}.`,
      { cause },
    );
  }
  throw new LocalPostgresError(
    `The data folder ${dataDir} holds files, but not a PostgreSQL database. Empty it, or ${ELSEWHERE}.`,
  );
}

/** Says at once what PostgreSQL would stumble over in a folder that others made, closed or wrote. */
export function checkFolder(folder: string, host: Host, account: Account | undefined, major: string): void {
  const closed = account && closedFolder(account, path.dirname(folder));
  if (closed) {
    throw new LocalPostgresError(
      `PostgreSQL refuses to run as root, so it runs as the user ${account.name}, who cannot pass through ${closed} to ` +
        `the data folder ${folder}. Open it with "chmod o+x", start as an ordinary user, or ${ELSEWHERE}, ` +
        "for example /var/lib/outbox-relayer.",
    );
  }
  if (!fs.existsSync(path.join(folder, "PG_VERSION"))) return;
  const owner = fs.statSync(folder).uid;
  const runner = account?.uid ?? host.uid;
  if (runner !== undefined && owner !== runner) {
    throw new LocalPostgresError(
      `The data folder ${folder} belongs to the user with the id ${owner}, and PostgreSQL would run with the id ${runner}. ` +
        `Start as its owner, hand it over with "chown -R ${runner}", or ${ELSEWHERE}.`,
    );
  }
  const found = fs.readFileSync(path.join(folder, "PG_VERSION"), "utf8").trim();
  if (found !== major) {
    throw new LocalPostgresError(
      `The data folder ${folder} was made by PostgreSQL ${found}, and this is PostgreSQL ${major}, which cannot read it. ` +
        `Move it away to begin with an empty database, or ${ELSEWHERE}.`,
    );
  }
}

export interface Birth {
  readonly user: string;
  readonly password: string;
  readonly initdbFlags: readonly string[];
}

/**
 * Makes the data folder if it is missing. It is made beside its place and then renamed, so that a start cut short
 * leaves nothing half-made there, and of several at the same time one wins.
 */
export async function makeFolder(
  folder: string,
  programs: Programs,
  account: Account | undefined,
  birth: Birth,
): Promise<void> {
  if (fs.existsSync(path.join(folder, "PG_VERSION"))) return;
  let draft: string | undefined;
  try {
    makeParents(path.dirname(folder));
    removeAbandoned(folder);
    draft = fs.mkdtempSync(`${folder}.new-${process.pid}-`);
    await initdb(draft, programs, account, birth);
    fs.renameSync(path.join(draft, "data"), folder);
  } catch (cause) {
    if (fs.existsSync(path.join(folder, "PG_VERSION"))) return;
    throw new LocalPostgresError(
      `The data folder ${folder} cannot be made (${whatWentWrong(cause)}). Make ${path.dirname(folder)} writable, ` +
        `or ${ELSEWHERE}.`,
      { cause },
    );
  } finally {
    if (draft) fs.rmSync(draft, { recursive: true, force: true });
  }
}

async function initdb(
  draft: string,
  programs: Programs,
  account: Account | undefined,
  birth: Birth,
): Promise<void> {
  const passwordFile = path.join(draft, "password");
  fs.writeFileSync(passwordFile, `${birth.password}\n`, { mode: 0o600 });
  if (account) for (const at of [draft, passwordFile]) fs.chownSync(at, account.uid, account.gid);
  const flags = [
    `--pgdata=${path.join(draft, "data")}`,
    `--username=${birth.user}`,
    `--pwfile=${passwordFile}`,
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    // PostgreSQL's own, so that sorting and case are the same on every operating system.
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
    ...birth.initdbFlags,
  ];
  await withPlainPath(programs, account, (program) => run(program, flags, childOptions(account)));
}

/** Drafts carry the number of the process that makes them; those of a process that is gone are nobody's. */
function removeAbandoned(folder: string): void {
  const prefix = `${path.basename(folder)}.new-`;
  for (const name of fs.readdirSync(path.dirname(folder))) {
    if (!name.startsWith(prefix) || isAlive(Number.parseInt(name.slice(prefix.length), 10))) continue;
    try {
      fs.rmSync(path.join(path.dirname(folder), name), { recursive: true, force: true });
    } catch {
      // Its initdb may still be writing. It costs space, no more; the next start tries again.
    }
  }
}
