import type { Facts } from "../facts.ts";
import { type Violation, violation } from "./violation.ts";

/** A relayer ends when it is told to, in time and with 0, and not before. */
export function checkRelayers({ processes, shutdowns }: Facts): Violation[] {
  const gaveUp = processes.flatMap((relayer) => {
    const words = relayer.gaveUp();
    return words === undefined ? [] : [{ seen: `${relayer.name}: ${words}` }];
  });
  const failed = shutdowns
    .filter(({ relayer, end }) => end?.code !== 0 && relayer.gaveUp() === undefined)
    .filter(({ relayer, end }) => end?.signal !== "SIGTERM" || relayer.spoke())
    .map(({ relayer, tookMs, end }) => ({
      seen: `${relayer.name}: ${end === undefined ? "still running" : (end.signal ?? end.code)} after ${tookMs.toFixed(0)} ms`,
    }));
  return [
    ...violation("a relayer ended, and nobody had told it to", gaveUp),
    ...violation("SIGTERM: a relayer did not exit with 0 in time", failed),
  ];
}
