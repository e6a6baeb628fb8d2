import fs from "node:fs";
import path from "node:path";

/** Makes folders that every user can pass through, also under a root whose umask is 077. */
export function makeParents(folder: string): void {
  const first = fs.mkdirSync(folder, { recursive: true });
  if (!first) return;
  for (let at = folder; at.length >= first.length; at = path.dirname(at)) fs.chmodSync(at, 0o755);
}

/** Lets every user read a folder and all that is in it, and run what can be run. */
export function openToAll(folder: string): void {
  fs.chmodSync(folder, 0o755);
  for (const entry of fs.readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const at = path.join(entry.parentPath, entry.name);
    if (entry.isDirectory()) fs.chmodSync(at, 0o755);
    else if (entry.isFile()) fs.chmodSync(at, (fs.statSync(at).mode & 0o111) | 0o644);
  }
}
