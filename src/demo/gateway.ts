import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

const BODY_LIMIT_BYTES = 64 * 1024;
const KEYS_KEPT = 10_000;
const KEY_LIMIT_CHARACTERS = 255;

interface Answer {
  readonly status: number;
  readonly body: Readonly<Record<string, string | number>>;
  readonly headers?: Readonly<Record<string, string>>;
}

const bad = (message: string): Answer => ({ status: 400, body: { message } });
const HINT = "POST a message, or GET / to see what this is.";
const NO_METHOD: Answer = { status: 405, body: { message: HINT }, headers: { Allow: "GET, HEAD, POST" } };
const NO_PAGE: Answer = { status: 404, body: { message: HINT } };
const TOO_LARGE: Answer = {
  status: 413,
  body: { message: `The body is larger than ${BODY_LIMIT_BYTES} bytes.` },
};

/** A message that the gateway took; a repeated one is not taken again. */
export interface AcceptedMessage {
  readonly to: string;
  readonly content: string;
  readonly messageId: string;
}

export interface DemoGatewayOptions {
  /** 0 for any free one. */
  readonly port: number;
  readonly host?: string;
  readonly log: (entry: AcceptedMessage) => void;
}

export interface DemoGateway {
  readonly url: string;
  /** Cuts what is still open. */
  readonly stop: () => Promise<void>;
}

/**
 * An SMS gateway that sends nothing: it accepts every message, on any path, and says so to `log`. Like a good real one it
 * answers a repeated Idempotency-Key with the messageId it gave the first time (of the last 10,000 keys).
 */
export async function startDemoGateway(options: DemoGatewayOptions): Promise<DemoGateway> {
  const host = options.host ?? "127.0.0.1";
  const accept = acceptOnce(options.log);
  const server = createServer((request, response) => {
    if (request.method === "POST") {
      receive(request, response, (body) => take(body, request.headers["idempotency-key"], accept.message));
    } else {
      request.resume();
      send(
        response,
        request.method === "GET" || request.method === "HEAD" ? show(request, accept.count()) : NO_METHOD,
      );
    }
  });
  // A relayer keeps its connections; closing idle ones under it would only make it connect again.
  server.keepAliveTimeout = 65_000;
  server.listen(options.port, host);
  await once(server, "listening");

  return {
    url: urlOf(host, (server.address() as AddressInfo).port),
    async stop() {
      if (!server.listening) return;
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

function acceptOnce(log: DemoGatewayOptions["log"]) {
  const idsByKey = new Map<string, string>();
  let accepted = 0;
  return {
    count: () => accepted,
    /** Returns the message's id. */
    message(to: string, content: string, key: string | undefined): string {
      const known = key === undefined ? undefined : idsByKey.get(key);
      if (known !== undefined) return known;
      const messageId = randomUUID();
      if (key !== undefined) remember(idsByKey, key, messageId);
      accepted += 1;
      log({ to, content, messageId });
      return messageId;
    },
  };
}

function remember(idsByKey: Map<string, string>, key: string, messageId: string): void {
  idsByKey.set(key, messageId);
  if (idsByKey.size <= KEYS_KEPT) return;
  // A Map keeps the order of insertion: the first is the oldest.
  for (const oldest of idsByKey.keys()) {
    idsByKey.delete(oldest);
    return;
  }
}

function receive(request: IncomingMessage, response: ServerResponse, answer: (body: string) => Answer): void {
  const chunks: Buffer[] = [];
  let size = 0;
  const grow = (bytes: number) => {
    const fitted = size <= BODY_LIMIT_BYTES;
    size += bytes;
    if (fitted && size > BODY_LIMIT_BYTES) send(response, TOO_LARGE);
  };
  const announced = Number(request.headers["content-length"] ?? 0);
  if (announced > BODY_LIMIT_BYTES) grow(announced);
  request.on("data", (chunk: Buffer) => {
    grow(chunk.length);
    // The rest of a refused body is read and dropped: a connection reset in its middle would hide the answer.
    if (size <= BODY_LIMIT_BYTES) chunks.push(chunk);
  });
  request.on("end", () => {
    if (size <= BODY_LIMIT_BYTES) send(response, answer(Buffer.concat(chunks).toString()));
  });
}

type Accept = (to: string, content: string, key: string | undefined) => string;

function take(body: string, key: string | string[] | undefined, accept: Accept): Answer {
  // Typed as a string or a list, although Node joins a repeated header of this name into one string.
  if (Array.isArray(key) || (key !== undefined && key.length > KEY_LIMIT_CHARACTERS)) {
    return bad(`An Idempotency-Key has at most ${KEY_LIMIT_CHARACTERS} characters.`);
  }
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    return bad("The body is not JSON.");
  }
  if (typeof value !== "object" || value === null) return bad("The body is not a JSON object.");
  const { to, content } = value as { to?: unknown; content?: unknown };
  if (typeof to !== "string" || to === "") return bad('"to" has to be a string that is not empty.');
  if (typeof content !== "string" || content === "") {
    return bad('"content" has to be a string that is not empty.');
  }
  return { status: 202, body: { message: "Accepted", messageId: accept(to, content, key) } };
}

function show(request: IncomingMessage, accepted: number): Answer {
  if (request.url !== "/") return NO_PAGE;
  const message = 'A demo SMS gateway: it accepts every POST of {"to": …, "content": …} and sends nothing.';
  return { status: 200, body: { message, accepted } };
}

function send(response: ServerResponse, { status, body, headers }: Answer): void {
  const text = JSON.stringify(body);
  const length = Buffer.byteLength(text);
  response.writeHead(status, { "Content-Type": "application/json", "Content-Length": length, ...headers });
  response.end(text);
}

function urlOf(host: string, port: number): string {
  // An address that means "every interface" is one to listen on, not one to send to.
  const reachable = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
  return `http://${reachable.includes(":") ? `[${reachable}]` : reachable}:${port}/`;
}
