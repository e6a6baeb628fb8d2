/** What is read of the machine and this process, in one place, so that a test can say otherwise. */
export interface Host {
  readonly platform: NodeJS.Platform;
  readonly arch: string;
  /** Undefined where users have no number (Windows). */
  readonly uid: number | undefined;
}

export function thisHost(): Host {
  return { platform: process.platform, arch: process.arch, uid: process.getuid?.() };
}

/** Whether a process has this id. One that we may not signal is not ours to wait for, and counts as gone. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
