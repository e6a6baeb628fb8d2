import { TraceFlags } from "@opentelemetry/api";
import { BatchSpanProcessor, type SpanExporter, type SpanProcessor } from "@opentelemetry/sdk-trace";

export interface SpanQueueOptions {
  readonly exporter: SpanExporter;
  readonly onDelivered: () => void;
  readonly onLost: (count: number, reason: string) => void;
  /** The most spans that wait; what comes on top is lost. */
  readonly longest?: number;
}

const LONGEST = 4_096;
const BATCH = 512;
const DELAY_MS = 1_000;
/** ExportResultCode.SUCCESS, which is in a package that is not ours to import. */
const SUCCESS = 0;

/** OpenTelemetry's batches, but nothing is lost without a word: theirs tell only the SDK's global log. */
export function createSpanQueue(options: SpanQueueOptions): SpanProcessor {
  const { exporter, longest = LONGEST } = options;
  let waiting = 0;
  const batches = new BatchSpanProcessor({
    maxQueueSize: longest,
    maxExportBatchSize: Math.min(BATCH, longest),
    scheduledDelayMillis: DELAY_MS,
    exporter: {
      export(spans, done) {
        waiting -= spans.length;
        exporter.export(spans, (result) => {
          if (result.code === SUCCESS) options.onDelivered();
          else options.onLost(spans.length, result.error?.message || "it said no reason");
          done(result);
        });
      },
      shutdown: () => exporter.shutdown(),
    },
  });
  return {
    onStart: (span, context) => batches.onStart(span, context),
    onEnd(span) {
      if ((span.spanContext().traceFlags & TraceFlags.SAMPLED) === 0) return;
      if (waiting >= longest) return options.onLost(1, "too many wait for the collector");
      waiting++;
      batches.onEnd(span);
    },
    forceFlush: () => batches.forceFlush(),
    shutdown: () => batches.shutdown(),
  };
}
