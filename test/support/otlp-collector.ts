import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { gunzipSync } from "node:zlib";

/** A span as it came over OTLP, its attributes as a plain object. */
export interface CollectedSpan {
  readonly name: string;
  readonly kind: number;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string | undefined;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly status: { readonly code: number; readonly message?: string };
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[];
  readonly startMs: number;
  readonly endMs: number;
  readonly resource: Readonly<Record<string, unknown>>;
}

export interface Collector extends AsyncDisposable {
  /** http://127.0.0.1:port */
  readonly url: string;
  /** Of the requests that were answered with 200. */
  readonly spans: readonly CollectedSpan[];
  readonly requests: readonly { readonly headers: IncomingHttpHeaders; readonly text: string }[];
  /** From now on, answers with this status. */
  answerWith(status: number): void;
  /** Resolves when so many requests have come. */
  received(count: number): Promise<void>;
  close(): Promise<void>;
}

interface KeyValue {
  readonly key: string;
  readonly value: Readonly<Record<string, unknown>>;
}

interface Traces {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly KeyValue[] };
    readonly scopeSpans: readonly { readonly spans: readonly Span[] }[];
  }[];
}

interface Span
  extends Pick<CollectedSpan, "name" | "kind" | "traceId" | "spanId" | "parentSpanId" | "status"> {
  readonly attributes: readonly KeyValue[];
  readonly links?: CollectedSpan["links"];
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
}

/** An OpenTelemetry collector on loopback, as far as traces over HTTP in JSON go. */
export async function startCollector(): Promise<Collector> {
  const spans: CollectedSpan[] = [];
  const requests: { headers: IncomingHttpHeaders; text: string }[] = [];
  const waiting = new Set<() => void>();
  let status = 200;

  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    const text = String(request.headers["content-encoding"] === "gzip" ? gunzipSync(body) : body);
    requests.push({ headers: request.headers, text });
    const found = request.method === "POST" && request.url === "/v1/traces";
    const answer = found ? status : 404;
    if (answer === 200) spans.push(...spansIn(JSON.parse(text) as Traces));
    response.writeHead(answer, { "content-type": "application/json" }).end("{}");
    for (const look of [...waiting]) look();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));

  async function close(): Promise<void> {
    if (!server.listening) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
  }

  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    requests,
    answerWith(next) {
      status = next;
    },
    received(count) {
      return new Promise((resolve) => {
        const look = () => {
          if (requests.length < count) return;
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
        look();
      });
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

function spansIn({ resourceSpans }: Traces): CollectedSpan[] {
  return resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) =>
      spans.map((span) => ({
        name: span.name,
        kind: span.kind,
        traceId: span.traceId,
        spanId: span.spanId,
        parentSpanId: span.parentSpanId,
        attributes: plain(span.attributes),
        status: span.status,
        links: span.links ?? [],
        startMs: Number(span.startTimeUnixNano) / 1e6,
        endMs: Number(span.endTimeUnixNano) / 1e6,
        resource: plain(resource.attributes),
      })),
    ),
  );
}

function plain(attributes: readonly KeyValue[]): Record<string, unknown> {
  return Object.fromEntries(
    attributes.map(({ key, value: { stringValue, intValue, boolValue, doubleValue } }) => [
      key,
      stringValue ?? (intValue === undefined ? (boolValue ?? doubleValue) : Number(intValue)),
    ]),
  );
}
