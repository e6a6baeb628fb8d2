import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import type { Account } from "./postgres-account.ts";
import type { Programs } from "./postgres-programs.ts";

/**
 * `initdb` starts its neighbour `postgres` through a shell and quotes its path with nothing but `"`. In a checkout whose
 * path holds a character that means something in there, it is run from a short-lived stand-in with a plain path.
 */
export async function withPlainPath<Result>(
  programs: Programs,
  account: Account | undefined,
  use: (initdb: string) => Promise<Result>,
): Promise<Result> {
  if (!/["$`\\]/.test(programs.initdb) || path.sep === "\\") return await use(programs.initdb);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "outbox-initdb-"));
  try {
    const native = path.dirname(path.dirname(programs.initdb));
    fs.cpSync(path.join(native, "bin"), path.join(folder, "bin"), { recursive: true });
    for (const shared of ["lib", "share"])
      fs.symlinkSync(path.join(native, shared), path.join(folder, shared));
    if (account) fs.chownSync(folder, account.uid, account.gid);
    return await use(path.join(folder, "bin", path.basename(programs.initdb)));
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}
