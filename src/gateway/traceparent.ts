/** What a traceparent says: https://www.w3.org/TR/trace-context/#traceparent-header-field-values */
export interface TraceContext {
  readonly traceId: string;
  readonly spanId: string;
  /** A byte: 1 sampled, 2 the trace's id is random. */
  readonly flags: number;
}

const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})$/;
/** Later versions may say more behind it. */
const LATER = /^(?!00)([0-9a-f]{2}(?:-[0-9a-f]+){3})(?:-.*)?$/s;
const KNOWN_FLAGS = 0b11;

export function isTraceparent(text: string): boolean {
  return TRACEPARENT.test(text);
}

export function readTraceparent(text: string): TraceContext | undefined {
  const [, traceId, spanId, flags] = TRACEPARENT.exec(text) ?? [];
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined;
  return { traceId, spanId, flags: Number.parseInt(flags, 16) };
}

/** In version 00. */
export function formatTraceparent({ traceId, spanId, flags }: TraceContext): string {
  return `00-${traceId}-${spanId}-${flags.toString(16).padStart(2, "0")}`;
}

/**
 * The traceparent of a request, in version 00; undefined for none and for a malformed one, which is to be ignored. Of a later version
 * it takes what version 00 knows, as https://www.w3.org/TR/trace-context/#versioning-of-traceparent demands.
 */
export function traceparentOfHeader(header: string | undefined): string | undefined {
  if (header === undefined) return undefined;
  const later = LATER.exec(header)?.[1];
  if (later === undefined) return isTraceparent(header) ? header : undefined;
  const context = readTraceparent(later);
  return context && formatTraceparent({ ...context, flags: context.flags & KNOWN_FLAGS });
}
