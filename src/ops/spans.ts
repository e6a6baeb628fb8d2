import {
  type Attributes,
  type Context,
  createContextKey,
  type Tracer as OpenTelemetryTracer,
  ROOT_CONTEXT,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  trace,
} from "@opentelemetry/api";
import {
  ParentBasedSampler,
  type Sampler,
  SamplingDecision,
  TraceIdRatioBasedSampler,
} from "@opentelemetry/sdk-trace";
import type { Claim, Result, Settled } from "../db/outbox.ts";
import type { Outcome } from "../gateway/outcome.ts";
import { formatTraceparent, readTraceparent, type TraceContext } from "../gateway/traceparent.ts";
import type { AttemptTracer, RouteTracer, Tracer } from "../relay/tracer.ts";

const SAMPLED = 1;
const RANDOM = 2;
const MOST_LINKS = 128;

const KEPT = createContextKey("a root span to be kept, whatever the ratio");
const KEPT_ROOT = ROOT_CONTEXT.setValue(KEPT, true);

/** An attempt is kept if its parent is; of those without a parent, the ratio; claims and settles with what they are about. */
export function createSampler(ratio: number): Sampler {
  const some = new TraceIdRatioBasedSampler(ratio);
  return new ParentBasedSampler({
    root: {
      shouldSample: (context, traceId) =>
        context.getValue(KEPT) === true
          ? { decision: SamplingDecision.RECORD_AND_SAMPLED }
          : some.shouldSample(context, traceId),
      toString: () => `${some}, and what is to be kept`,
    },
  });
}

/**
 * The relay's claims, attempts and settles as spans. Never a recipient, a content, a path, a query or an answer: traces go to
 * systems that have no business with them.
 */
export function createSpans(tracer: OpenTelemetryTracer): Tracer {
  /** Of the attempts that are sampled, for the settle's links. */
  const attempted = new WeakMap<Claim, SpanContext>();

  function claimed(attributes: Attributes, claims: readonly Claim[], tookMs: number): void {
    const parents = claims.map(parentOf);
    const kept = parents.some((parent) => parent !== undefined && isSampled(parent));
    // All of its messages belong to traces that nobody keeps.
    if (!kept && !parents.includes(undefined)) return;
    const now = Date.now();
    const counted = { ...attributes, "outbox.count": claims.length };
    const options = { kind: SpanKind.CLIENT, startTime: now - tookMs, attributes: counted };
    tracer.startSpan("outbox.claim", options, kept ? KEPT_ROOT : ROOT_CONTEXT).end(now);
  }

  function attempt(attributes: Attributes, claim: Claim): AttemptTracer {
    const parent = parentOf(claim);
    const context = parent === undefined ? ROOT_CONTEXT : contextOf(parent);
    const span = tracer.startSpan("outbox.attempt", { kind: SpanKind.CLIENT }, context);
    const own = span.spanContext();
    // Most are not, where the ratio is small: they need no attributes.
    if (span.isRecording()) {
      attempted.set(claim, own);
      span.setAttributes(attributes).setAttributes(attemptAttributes(claim));
    }
    const flags = own.traceFlags | ((parent?.flags ?? 0) & RANDOM);
    return {
      traceparent: formatTraceparent({ traceId: own.traceId, spanId: own.spanId, flags }),
      ended(outcome) {
        if (!span.isRecording()) return;
        span.setAttributes(outcomeAttributes(outcome));
        if (outcome.kind !== "accepted") {
          span.setStatus({ code: SpanStatusCode.ERROR, message: withoutAnswer(outcome) });
        }
        span.end();
      },
    };
  }

  async function settle(
    attributes: Attributes,
    results: readonly Result[],
    work: () => Promise<Settled>,
  ): Promise<Settled> {
    const links = linksTo(results);
    if (links.length === 0) return work();
    const counted = { ...attributes, "outbox.count": results.length };
    const options = { kind: SpanKind.CLIENT, links, attributes: counted };
    const span = tracer.startSpan("outbox.settle", options, KEPT_ROOT);
    try {
      const settled = await work();
      span.setAttributes({
        "outbox.sent": settled.sent,
        "outbox.dead": settled.dead.length,
        "outbox.stale": settled.stale.length,
      });
      return settled;
    } catch (error) {
      span.setAttribute("error.type", errorType(error));
      span.setStatus({ code: SpanStatusCode.ERROR });
      throw error;
    } finally {
      span.end();
    }
  }

  function linksTo(results: readonly Result[]): { context: SpanContext }[] {
    const links: { context: SpanContext }[] = [];
    for (const { claim } of results) {
      const context = attempted.get(claim);
      if (context !== undefined) links.push({ context });
      if (links.length === MOST_LINKS) break;
    }
    return links;
  }

  return {
    route(gateway, origin): RouteTracer {
      const common = { "outbox.gateway": gateway };
      const calls = (name: string) => ({
        ...common,
        "db.system.name": "postgresql",
        "db.stored_procedure.name": name,
      });
      const posts = { ...common, "http.request.method": "POST", ...serverOf(origin) };
      const claims = calls("outbox.claim");
      const settles = calls("outbox.settle");
      return {
        claimed: (found, tookMs) => claimed(claims, found, tookMs),
        attempt: (claim) => attempt(posts, claim),
        settle: (results, work) => settle(settles, results, work),
      };
    },
  };
}

function parentOf({ traceparent }: Claim): TraceContext | undefined {
  return traceparent === null ? undefined : readTraceparent(traceparent);
}

function isSampled({ flags }: TraceContext): boolean {
  return (flags & SAMPLED) !== 0;
}

function contextOf({ traceId, spanId, flags }: TraceContext): Context {
  return trace.setSpanContext(ROOT_CONTEXT, { traceId, spanId, traceFlags: flags, isRemote: true });
}

/** https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-client-span */
function serverOf(origin: string): Attributes {
  const { hostname, port, protocol } = new URL(origin);
  return {
    "server.address": hostname.replace(/^\[|\]$/g, ""),
    "server.port": Number(port || (protocol === "https:" ? 443 : 80)),
  };
}

function attemptAttributes({ id, attempt }: Claim): Attributes {
  return {
    "outbox.message_id": id,
    "outbox.attempt": attempt,
    ...(attempt > 1 && { "http.request.resend_count": attempt - 1 }),
  };
}

function outcomeAttributes({ kind, httpStatus }: Outcome): Attributes {
  const errorType = httpStatus !== null && httpStatus >= 400 ? String(httpStatus) : kind;
  return {
    "outbox.outcome": kind,
    ...(httpStatus !== null && { "http.response.status_code": httpStatus }),
    ...(kind !== "accepted" && { "error.type": errorType }),
  };
}

/** What the gateway said may quote the number and the text. */
function withoutAnswer({ httpStatus, error }: Outcome): string {
  return httpStatus === null ? (error ?? "") : `HTTP ${httpStatus}`;
}

/** The SQLSTATE, or Node's code. */
function errorType(error: unknown): string {
  const { code, name } = error as { code?: unknown; name?: unknown };
  return String(code ?? name ?? "error");
}
