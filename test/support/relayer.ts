import { Writable } from "node:stream";
import { loadConfig } from "../../src/config/load.ts";
import { createLogs } from "../../src/ops/log.ts";
import { startProgram } from "../../src/program.ts";
import { createServices } from "../../src/services.ts";

export type LogLine = { readonly level: string; readonly msg: string } & Readonly<Record<string, unknown>>;

/** The whole program, in this process, on a database of the test's. */
export interface TestRelayer {
  readonly api: string;
  readonly logs: readonly LogLine[];
  /** Resolves with the first line, past or to come, that the test is true for. */
  logged(test: (line: LogLine) => boolean): Promise<LogLine>;
  stop(): Promise<void>;
}

export interface RelayerOptions {
  readonly databaseUrl: string;
  readonly webhookUrl: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly yaml?: string;
}

/** Fast waits and no crontab unless a test asks for them. */
export async function startRelayer(options: RelayerOptions): Promise<TestRelayer> {
  const logs: LogLine[] = [];
  const waiting = new Set<() => void>();
  const destination = new Writable({
    write(chunk, _encoding, done) {
      logs.push(JSON.parse(String(chunk)));
      for (const look of [...waiting]) look();
      done();
    },
  });
  const env = { PORT: "0", RETRY_BASE_DELAY: "20ms", WEBHOOK_URL: options.webhookUrl, ...options.env };
  const config = loadConfig({ yaml: options.yaml, yamlPath: "test.yaml", env });
  const parts = createLogs({ level: "debug", levels: {}, pretty: false, secrets: [], destination });
  const log = parts.part("program");
  const services = createServices((name, error) => log.error({ err: error }, `could not stop the ${name}`));
  const { api } = await startProgram({
    config,
    crontab: [],
    databaseUrl: options.databaseUrl,
    fallbackGateway: undefined,
    version: "0.0.0-test",
    name: `test:${process.pid}`,
    logs: parts,
    services,
    signal: new AbortController().signal,
  }).catch(async (error: unknown) => {
    await services.stop();
    throw error;
  });

  return {
    api,
    logs,
    logged(test) {
      return new Promise((resolve) => {
        const look = () => {
          const line = logs.find(test);
          if (line === undefined) return;
          waiting.delete(look);
          resolve(line);
        };
        waiting.add(look);
        look();
      });
    },
    stop: () => services.stop(),
  };
}
