import type { ApiDependencies } from "../api/dependencies.ts";
import { createOperationsApp } from "../api/operations-app.ts";
import { startServer } from "../api/server.ts";
import type { Config } from "../config/config.ts";
import type { Logger } from "../ops/log.ts";
import type { Services } from "../services.ts";

/** /metrics and the probes on a port of their own, where the configuration wants one. */
export async function startMetricsServer(
  ownPort: Config["metrics"]["ownPort"],
  operations: Pick<ApiDependencies, "alive" | "ready" | "metrics" | "metricsToken" | "log">,
  services: Services,
  log: Logger,
): Promise<void> {
  if (ownPort === undefined) return;
  const { host, port, loopbackOnly } = ownPort;
  const server = await startServer({
    app: createOperationsApp({ ...operations, loopbackOnly }),
    host,
    port,
    settings: { host: "METRICS_HOST", port: "METRICS_PORT" },
    graceMs: 1_000,
    onError: (error) => log.error({ err: error }, "the HTTP server for metrics cannot take a connection"),
  });
  await services.start("HTTP server for metrics", server);
  log.info({ metrics: `${server.url}/metrics` }, "metrics and probes have a port of their own");
}
