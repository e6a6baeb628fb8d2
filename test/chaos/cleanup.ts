/** What must be gone when this process is, however it ends. */
export interface Cleanup {
  /** `undo` runs at once and to its end without the event loop: an exit leaves none. Returns what takes it off again. */
  add(undo: () => void): () => void;
  /** Undoes everything, the last first. */
  run(): void;
}

const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

export function createCleanup(): Cleanup {
  const undos: (() => void)[] = [];

  function run(): void {
    process.removeListener("exit", run);
    for (const signal of Object.keys(SIGNALS)) process.removeListener(signal, end);
    for (let undo = undos.pop(); undo !== undefined; undo = undos.pop()) {
      try {
        undo();
      } catch (error) {
        console.error("could not clean up:", error);
      }
    }
  }

  function end(signal: keyof typeof SIGNALS): void {
    run();
    process.exit(SIGNALS[signal]);
  }

  process.on("exit", run);
  for (const signal of Object.keys(SIGNALS)) process.on(signal, end);
  return {
    add(undo) {
      undos.push(undo);
      return () => {
        const at = undos.indexOf(undo);
        if (at >= 0) undos.splice(at, 1);
      };
    },
    run,
  };
}
