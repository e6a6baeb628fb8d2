import type { RelayerEnd, RelayerProcess } from "./relayer-process.ts";
import { GRACE_MS } from "./relayer-settings.ts";

/** How a relayer took a SIGTERM. */
export interface Shutdown {
  readonly relayer: RelayerProcess;
  readonly tookMs: number;
  /** Undefined: it did not end in time, and was killed. */
  readonly end: RelayerEnd | undefined;
}

export interface Shutdowns {
  readonly all: readonly Shutdown[];
  terminate(relayer: RelayerProcess): Promise<void>;
}

/** Beyond the grace, a relayer may take so long for settling and for closing what it has. */
const DEADLINE_MS = GRACE_MS + 15_000;

export function createShutdowns(): Shutdowns {
  const all: Shutdown[] = [];
  return {
    all,
    async terminate(relayer) {
      const from = performance.now();
      relayer.kill("SIGTERM");
      const late = Promise.withResolvers<undefined>();
      const timer = setTimeout(() => late.resolve(undefined), DEADLINE_MS);
      const end = await Promise.race([relayer.end, late.promise]);
      clearTimeout(timer);
      all.push({ relayer, tookMs: performance.now() - from, end });
      if (end === undefined) relayer.kill("SIGKILL");
      await relayer.end;
    },
  };
}
