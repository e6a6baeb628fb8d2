import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

export interface ToSessions {
  readonly sql: string;
  readonly forMs: number;
  readonly perSecond?: number;
}
export type FromSessions = Partial<{ readonly perSecond: number; readonly tookMs: readonly number[] }>;

/** Sessions of Postgres in a process of their own, which run one statement over and over. One call at a time. */
export interface Sessions {
  /** Each as fast as it can; a statement outside a transaction is one commit. Returns how many a second they ran. */
  repeat(sql: string, forMs: number): Promise<number>;
  /** All together so many a second. Returns how long each took, in milliseconds. */
  pace(sql: string, perSecond: number, forMs: number): Promise<readonly number[]>;
  stop(): Promise<void>;
}

const PROCESS = fileURLToPath(new URL("sessions-process.ts", import.meta.url));

export async function startSessions(databaseUrl: string, count: number): Promise<Sessions> {
  const child = fork(PROCESS, [databaseUrl, String(count)], { stdio: "inherit" });
  const heard = new AbortController();
  child.once("exit", () => heard.abort());
  await next();

  async function next(): Promise<FromSessions> {
    const [message] = (await once(child, "message", { signal: heard.signal })) as [FromSessions];
    return message;
  }

  async function ask(question: ToSessions): Promise<FromSessions> {
    const answer = next();
    child.send(question);
    return answer;
  }

  return {
    repeat: async (sql, forMs) => (await ask({ sql, forMs })).perSecond ?? Number.NaN,
    pace: async (sql, perSecond, forMs) => (await ask({ sql, forMs, perSecond })).tookMs ?? [],
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.disconnect();
      await once(child, "exit");
    },
  };
}
