import type { ChildProcess } from "node:child_process";
import { setTimeout as pause } from "node:timers/promises";

/** Resolves when the URL answers with a 2xx. Throws when the process that should answer has ended. */
export async function answers(url: string, child: ChildProcess): Promise<void> {
  while (child.exitCode === null && child.signalCode === null) {
    const answer = await fetch(url).catch(() => undefined);
    await answer?.body?.cancel();
    if (answer?.ok) return;
    await pause(20);
  }
  throw new Error(`${child.spawnfile} ended with ${child.exitCode ?? child.signalCode}`);
}
