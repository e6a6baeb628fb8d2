import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

/** In milliseconds, of each read, in order. */
export type FromReader = readonly number[];

/** A client of the database in a process of its own, so that it measures the database and not what else goes on in the bench. */
export interface Reader {
  /** Reads for so long. Returns how long each read took, in milliseconds, in order. */
  read(forMs: number): Promise<FromReader>;
  stop(): Promise<void>;
}

const READING = fileURLToPath(new URL("reading.ts", import.meta.url));

/** `text`: a query of one row by its number ($1), which is from 1 to `rows`. So many a second, evenly, whatever they take. */
export async function startReader(
  databaseUrl: string,
  text: string,
  rows: number,
  perSecond: number,
): Promise<Reader> {
  const child = fork(READING, [databaseUrl, text, String(rows), String(perSecond)], { stdio: "inherit" });
  const gone = once(child, "exit").then(([code, signal]) => {
    throw new Error(`the reader ended with ${code ?? signal}`);
  });
  gone.catch(() => {}); // whoever waits for an answer hears of it
  const told = async () => (await Promise.race([once(child, "message"), gone]))[0];
  await told();
  return {
    async read(forMs) {
      child.send(forMs);
      return (await told()) as FromReader;
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.disconnect();
      await once(child, "exit");
    },
  };
}
