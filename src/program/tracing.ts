import type { ProgramOptions } from "../program.ts";
import type { Tracer } from "../relay/tracer.ts";

/** Whoever does not trace does not load OpenTelemetry either. */
export async function startTracing(
  options: Pick<ProgramOptions, "config" | "log" | "name" | "services" | "version">,
): Promise<Tracer | undefined> {
  const { config, log, name, services, version } = options;
  if (config.tracing === undefined) return undefined;
  const { createTracing } = await import("../ops/tracing.ts");
  const tracing = createTracing({ ...config.tracing, version, instance: name, log });
  await services.start("tracing", tracing);
  return tracing.tracer;
}
