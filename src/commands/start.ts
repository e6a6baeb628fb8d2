import { banner } from "../banner.ts";
import { ConfigError } from "../config/config-error.ts";
import { withoutPassword } from "../config/passwords.ts";
import type { Logger } from "../ops/log.ts";
import { startProgram } from "../program.ts";
import type { Services } from "../services.ts";
import type { Command } from "./command.ts";

export interface StartOptions {
  /** A production image has no gateway of its own. */
  readonly production: boolean;
  /** A person reads along. */
  readonly onTerminal: boolean;
}

/** The relayer, with everything that belongs to it. */
export function startCommand({ production, onTerminal }: StartOptions): Command {
  return {
    relays: true,
    async run({ print, ...context }) {
      const { config, databaseUrl, logs, services } = context;
      const started = await startProgram({
        ...context,
        fallbackGateway: production ? undefined : () => startFallbackGateway(services, logs.part("demo")),
      });
      const psql = config.databaseUrl === undefined ? databaseUrl : withoutPassword(databaseUrl);
      const addresses = { ...started, psql };
      if (onTerminal) print(banner(addresses));
      else logs.part("program").info(addresses, "ready");
      return "running";
    },
  };
}

/**
 * A gateway that accepts everything and says so, so that there is something to see without an account anywhere. What a message says
 * is shown at the level debug alone; numbers are masked at each, as in every line.
 */
async function startFallbackGateway(services: Services, log: Logger): Promise<string> {
  const { startDemoGateway } = await import("../demo/gateway.ts").catch(notHere);
  const gateway = await startDemoGateway({
    port: 0,
    log({ to, content, messageId }) {
      const shown = log.isLevelEnabled("debug") ? { content } : { characters: [...content].length };
      log.info({ to, ...shown, gateway_message_id: messageId }, "demo gateway accepted");
    },
  });
  await services.start("demo gateway", gateway);
  return gateway.url;
}

/** The production image is made without the demo, whatever NODE_ENV says in it. */
export function notHere(cause: NodeJS.ErrnoException): never {
  if (cause.code !== "ERR_MODULE_NOT_FOUND") throw cause;
  throw new ConfigError([
    "This installation has no database and no gateway of its own: set DATABASE_URL (or POSTGRES_HOST, POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB) and WEBHOOK_URL",
  ]);
}
