import { execFile } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import type { Host } from "./host.ts";
import { LocalPostgresError, whatWentWrong } from "./local-postgres-error.ts";

const run = promisify(execFile);

// Debian leaves /usr/sbin off an ordinary PATH, and that is where useradd is.
const SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin";

/** The user that PostgreSQL runs as in our stead, because it refuses to run as root. */
export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Who PostgreSQL runs as: ourselves (undefined), or, when we are root, whoever owns the data folder already, so that
 * one used with and without sudo keeps working; for a new folder the system user `postgres`, made if missing.
 */
export async function serverAccount(
  host: Host,
  dataDir: string,
  systemUser = "postgres",
): Promise<Account | undefined> {
  if (host.uid !== 0) return undefined;
  const owner = fs.statSync(dataDir, { throwIfNoEntry: false });
  if (owner && owner.uid !== 0) return { name: `with the id ${owner.uid}`, uid: owner.uid, gid: owner.gid };
  return (await lookUp(systemUser)) ?? (await create(systemUser));
}

async function lookUp(name: string): Promise<Account | undefined> {
  const id = async (flag: string) => Number((await run("id", [flag, name])).stdout);
  try {
    const [uid, gid] = await Promise.all([id("-u"), id("-g")]);
    return { name, uid, gid };
  } catch {
    return undefined;
  }
}

async function create(name: string): Promise<Account> {
  const options = { env: { PATH: SYSTEM_PATH } };
  let refusal: unknown;
  try {
    await run("groupadd", ["--force", "--system", name], options);
    const flags = ["--system", "--gid", name, "--no-create-home", "--shell", "/usr/sbin/nologin"];
    await run("useradd", [...flags, name], options);
  } catch (error) {
    refusal = error;
  }
  // Looked up whatever useradd said: another process may have made it at the same moment.
  const made = await lookUp(name);
  if (made) return made;
  throw new LocalPostgresError(
    `PostgreSQL refuses to run as root, and the system user "${name}" that it would run as cannot be made ` +
      `(${whatWentWrong(refusal)}). Start as an ordinary user, or set DATABASE_URL to use a database of your own.`,
    { cause: refusal },
  );
}

/** The topmost folder on the way to `target` that the account may not pass through; folders not made yet are skipped. */
export function closedFolder(account: Account, target: string): string | undefined {
  const folders: string[] = [];
  let at = realPathOfExistingPart(target);
  while (!folders.includes(at)) {
    folders.unshift(at);
    at = path.dirname(at);
  }
  return folders.find((folder) => !mayPass(account, fs.statSync(folder)));
}

function mayPass(account: Account, folder: fs.Stats): boolean {
  if (folder.uid === account.uid) return (folder.mode & 0o100) !== 0;
  if (folder.gid === account.gid) return (folder.mode & 0o010) !== 0;
  return (folder.mode & 0o001) !== 0;
}

function realPathOfExistingPart(target: string): string {
  let at = target;
  while (!fs.existsSync(at) && at !== path.dirname(at)) at = path.dirname(at);
  return fs.realpathSync(at);
}
