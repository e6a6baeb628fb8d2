import type { ProgramOptions } from "../program.ts";
import type { Tracer } from "../relay/tracer.ts";

/** Whoever does not trace does not load OpenTelemetry either. */
export async function startTracing(
  options: Pick<ProgramOptions, "config" | "logs" | "name" | "services" | "version">,
): Promise<Tracer | undefined> {
  const { config, logs, name, services, version } = options;
  const log = logs.part("tracing");
  if (config.tracing === undefined) return undefined;
  const { createTracing } = await import("../ops/tracing.ts");
  const tracing = createTracing({ ...config.tracing, version, instance: name, log });
  await services.start("tracing", tracing);
  const { endpoint, sampleRatio } = config.tracing;
  // Not the whole URL: a token may be in it.
  log.info({ collector: new URL(endpoint).origin, sample_ratio: sampleRatio }, "spans go to the collector");
  return tracing.tracer;
}
