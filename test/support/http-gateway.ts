import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** One request as the gateway received it; the ledger keeps all of them. */
export interface GatewayRequest {
  /** 1 for the first request of all. */
  readonly nth: number;
  /** The Idempotency-Key, `msg_<installation>_<id>`; "" without one. */
  readonly id: string;
  /** 1 for the first request with this id. */
  readonly nthOfId: number;
  readonly method: string;
  /** Path and query. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** The parsed body; undefined when it is not JSON. */
  readonly body: unknown;
}

/** An answer in good order. Without a body it is the receipt `{"message": "Accepted", "messageId": "gw-<nth>"}`. */
export interface PlainAnswer {
  readonly fault?: undefined;
  readonly status?: number;
  /** An object is sent as JSON. */
  readonly body?: string | Buffer | object;
  readonly headers?: Record<string, string>;
  readonly delayMs?: number;
  /** Sends an interim 103 Early Hints first. */
  readonly earlyHints?: boolean;
  /** Closes the connection right after the answer, which had promised to keep it. */
  readonly thenClose?: boolean;
}

/** What gateways do wrong. */
export type Fault =
  /** Never answers. */
  | { readonly fault: "hang" }
  /** Resets the connection instead of answering. */
  | { readonly fault: "reset" }
  /** Sends the headers and half a body, then resets. */
  | { readonly fault: "reset-mid-answer"; readonly status?: number }
  /** Sends the headers, then a byte at a time without end. */
  | { readonly fault: "drip"; readonly status?: number; readonly everyMs?: number }
  /** Sends the headers and half a body, then nothing. */
  | { readonly fault: "stall"; readonly status?: number }
  /** Writes these bytes to the connection; `end` closes it after them. */
  | { readonly fault: "raw"; readonly bytes: string | Buffer; readonly end?: boolean };

export type Answer = PlainAnswer | Fault;
export type Script = (request: GatewayRequest) => Answer | Promise<Answer>;

export interface HttpGateway extends AsyncDisposable {
  /** http://127.0.0.1:port/sms */
  readonly url: string;
  readonly port: number;
  readonly requests: readonly GatewayRequest[];
  /** The most requests that were being answered at one time. */
  readonly mostAtOnce: number;
  /** The most connections that were open at one time. */
  readonly mostConnections: number;
  /** How many requests came for each id. */
  readonly counts: ReadonlyMap<string, number>;
  /** From now on, answers like this. */
  answerWith(script: Script): void;
  /** Resolves when the n-th request of all has come, body and all. */
  received(n: number): Promise<void>;
  /** Resolves with the first request for an id: a whole Idempotency-Key, or a message's number. */
  requestFor(id: string | number): Promise<GatewayRequest>;
  /** Resolves when no connection is open. */
  disconnected(): Promise<void>;
  /** Drops every connection and stops listening. */
  close(): Promise<void>;
}

export interface HttpGatewayOptions {
  readonly answer?: Script;
  /** To come back after `close()` where it was; by default any free port. */
  readonly port?: number;
}

interface Waiter {
  readonly satisfied: () => boolean;
  readonly resolve: () => void;
}

const ACCEPT: Script = () => ({});

/** Starts a real HTTP gateway on loopback that does what the script says, and remembers every request. */
export async function startHttpGateway(options: HttpGatewayOptions = {}): Promise<HttpGateway> {
  const requests: GatewayRequest[] = [];
  const counts = new Map<string, number>();
  let waiters: Waiter[] = [];
  let script = options.answer ?? ACCEPT;
  let answering = 0;
  let mostAtOnce = 0;
  let connections = 0;
  let mostConnections = 0;

  function signal(): void {
    const waiting = waiters;
    waiters = [];
    for (const waiter of waiting) {
      if (waiter.satisfied()) waiter.resolve();
      else waiters.push(waiter);
    }
  }

  function until(satisfied: () => boolean): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    waiters.push({ satisfied, resolve });
    signal();
    return promise;
  }

  function record(incoming: IncomingMessage, text: string): GatewayRequest {
    const header = incoming.headers["idempotency-key"];
    const id = typeof header === "string" ? header : "";
    const nthOfId = (counts.get(id) ?? 0) + 1;
    counts.set(id, nthOfId);
    const request: GatewayRequest = {
      nth: requests.length + 1,
      id,
      nthOfId,
      method: incoming.method ?? "",
      path: incoming.url ?? "",
      headers: incoming.headers,
      text,
      body: parse(text),
    };
    requests.push(request);
    return request;
  }

  const server = createServer((incoming, response) => {
    answering += 1;
    mostAtOnce = Math.max(mostAtOnce, answering);
    response.once("close", () => {
      answering -= 1;
    });
    const chunks: Buffer[] = [];
    incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
    incoming.on("end", async () => {
      const request = record(incoming, Buffer.concat(chunks).toString("utf8"));
      signal();
      await give(await script(request), request, response);
    });
  });
  server.on("connection", (socket) => {
    connections += 1;
    mostConnections = Math.max(mostConnections, connections);
    // A client that resets is what some tests are about.
    socket.on("error", () => {});
    socket.once("close", () => {
      connections -= 1;
      signal();
    });
  });
  // Longer than any test, so that it is the script that closes connections.
  server.keepAliveTimeout = 60_000;

  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port ?? 0, "127.0.0.1", resolve);
  });
  const { port } = server.address() as AddressInfo;

  async function close(): Promise<void> {
    if (!server.listening) return;
    const stopped = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await stopped;
  }

  return {
    url: `http://127.0.0.1:${port}/sms`,
    port,
    requests,
    counts,
    get mostAtOnce() {
      return mostAtOnce;
    },
    get mostConnections() {
      return mostConnections;
    },
    answerWith(next) {
      script = next;
    },
    received: (n) => until(() => requests.length >= n),
    async requestFor(id) {
      const wanted = (request: GatewayRequest) =>
        typeof id === "number" ? request.id.endsWith(`_${id}`) : request.id === id;
      await until(() => requests.some(wanted));
      return requests.find(wanted) as GatewayRequest;
    },
    disconnected: () => until(() => connections === 0),
    close,
    [Symbol.asyncDispose]: close,
  };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function give(answer: Answer, request: GatewayRequest, response: ServerResponse): Promise<void> {
  if (answer.fault !== undefined) return fail(answer, response);
  if (answer.delayMs !== undefined) await sleep(answer.delayMs);
  if (answer.earlyHints) response.writeEarlyHints({ link: "</style.css>; rel=preload; as=style" });

  const body = answer.body ?? { message: "Accepted", messageId: `gw-${request.nth}` };
  const json = typeof body === "object" && !Buffer.isBuffer(body);
  response.writeHead(answer.status ?? 202, {
    "content-type": json ? "application/json" : "text/plain",
    ...answer.headers,
  });
  response.end(json ? JSON.stringify(body) : body);
  if (answer.thenClose) response.once("finish", () => response.socket?.destroySoon());
}

function fail(fault: Fault, response: ServerResponse): void {
  const socket = response.socket;
  switch (fault.fault) {
    case "hang":
      return;
    case "reset":
      socket?.resetAndDestroy();
      return;
    case "reset-mid-answer":
      response.writeHead(fault.status ?? 202, { "content-length": "100" });
      // Reset only when the half is out: a reset drops what is still to be sent.
      response.write('{"message": "Accepted"', () => socket?.resetAndDestroy());
      return;
    case "stall":
      response.writeHead(fault.status ?? 202, { "content-length": "100" });
      response.write('{"message": "Accepted"');
      return;
    case "drip": {
      response.writeHead(fault.status ?? 202);
      const drip = setInterval(() => response.write(" "), fault.everyMs ?? 5);
      response.once("close", () => clearInterval(drip));
      return;
    }
    case "raw":
      if (fault.end) socket?.end(fault.bytes);
      else socket?.write(fault.bytes);
  }
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
