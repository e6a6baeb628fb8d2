import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { defaultResource, resourceFromAttributes } from "@opentelemetry/resources";
import { TracerProvider } from "@opentelemetry/sdk-trace";
import type { Tracer } from "../relay/tracer.ts";
import type { Logger } from "./log.ts";
import { createSpanQueue } from "./span-queue.ts";
import { createSampler, createSpans } from "./spans.ts";

export interface TracingOptions {
  /** Where traces are POSTed to, `http://collector:4318/v1/traces`: OTLP over HTTP, as JSON. */
  readonly endpoint: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Of the messages without a trace of their own, the share that begins one: 0 to 1. */
  readonly sampleRatio: number;
  readonly serviceName: string;
  readonly version: string;
  /** Host and process, as in `outbox.relayers`. */
  readonly instance: string;
  readonly log: Logger;
  /** How long the last spans may take. */
  readonly stopMs?: number;
}

export interface Tracing {
  readonly tracer: Tracer;
  /** Sends what waits, as long as there is time. */
  stop(): Promise<void>;
}

const STOP_MS = 2_000;
const LINE_EVERY_MS = 60_000;

/** Spans of the relay, to a collector. Nothing is registered globally, and a collector that is away costs a line a minute. */
export function createTracing(options: TracingOptions): Tracing {
  const { endpoint, headers, serviceName, version, instance, log, stopMs = STOP_MS } = options;
  const losses = createLosses(log, new URL(endpoint).origin);
  const exporter = new OTLPTraceExporter({
    url: endpoint,
    headers: { ...headers },
    userAgent: `outbox-relayer/${version}`,
  });
  const provider = new TracerProvider({
    resource: defaultResource().merge(
      resourceFromAttributes({
        "service.name": serviceName,
        "service.version": version,
        "service.instance.id": instance,
      }),
    ),
    sampler: createSampler(options.sampleRatio),
    spanProcessors: [createSpanQueue({ exporter, onDelivered: losses.delivered, onLost: losses.lost })],
  });

  return {
    tracer: createSpans(provider.getTracer("outbox-relayer", version)),
    async stop() {
      const late = Promise.withResolvers<"late">();
      const timer = setTimeout(() => late.resolve("late"), stopMs);
      const stopped = provider.shutdown().catch(() => {}); // told as lost
      const first = await Promise.race([stopped, late.promise]);
      clearTimeout(timer);
      if (first === "late") log.warn("stopped before the collector had taken the last spans");
      losses.tell();
    },
  };
}

/** Says that spans were lost: at once, and from then on a line a minute, with how many. */
function createLosses(log: Logger, collector: string) {
  let lost = 0;
  let reason = "";
  let away = false;
  let toldAt = Number.NEGATIVE_INFINITY;
  let backAt = Number.NEGATIVE_INFINITY;

  function tell(): void {
    if (lost === 0) return;
    log.warn({ collector, lost, reason }, "spans were lost: the collector does not take them");
    toldAt = performance.now();
    lost = 0;
  }

  return {
    tell,
    lost(count: number, why: string): void {
      lost += count;
      reason = why;
      away = true;
      if (performance.now() - toldAt >= LINE_EVERY_MS) tell();
    },
    delivered(): void {
      if (!away) return;
      away = false;
      // One that takes every other batch would else fill the log.
      if (performance.now() - backAt < LINE_EVERY_MS) return;
      backAt = performance.now();
      log.info({ collector, lost }, "the collector takes spans again");
      lost = 0;
    },
  };
}
