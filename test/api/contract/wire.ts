import { Agent, type IncomingHttpHeaders, type IncomingMessage, request } from "node:http";

/** A request as it goes over the wire: nothing is mended on the way, as fetch would. */
export interface Request {
  readonly method: string;
  /** The path with its query, escaped. */
  readonly target: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body?: Buffer;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** The server did not answer: it closed the connection, sent what is no HTTP, or took too long. */
export class NoAnswerError extends Error {
  override readonly name = "NoAnswerError";
}

export interface Wire {
  readonly origin: string;
  readonly send: (request: Request) => Promise<Answer>;
  readonly close: () => void;
}

const ANSWER_MS = 10_000;
/** A stream does not end by itself: its first event is enough, or so much silence. */
const STREAM_MS = 200;
export const EVENT_STREAM = "text/event-stream";

export function openWire(origin: string): Wire {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const { hostname, port } = new URL(origin);

  function once({ method, target, headers, body }: Request): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const length = body === undefined ? [] : ["Content-Length", `${body.length}`];
      const sent = request({
        agent,
        hostname: hostname.replace(/^\[|\]$/g, ""),
        port,
        method,
        path: target,
        // As a flat list, so that a name may come twice, in its own spelling.
        headers: ["Host", `${hostname}:${port}`, ...headers.flat(), ...length],
        signal: AbortSignal.timeout(ANSWER_MS),
      });
      sent.on("response", (response) => read(response).then(resolve, reject));
      sent.on("error", (error) => {
        if (sent.reusedSocket && "code" in error && error.code === "ECONNRESET") reject(new StaleSocket());
        else reject(new NoAnswerError(`no answer: ${error.message}`, { cause: error }));
      });
      sent.end(body);
    });
  }

  return {
    origin,
    // A server may close an idle connection in the moment in which it is used again.
    send: (request) =>
      once(request).catch((error) => (error instanceof StaleSocket ? once(request) : Promise.reject(error))),
    close: () => agent.destroy(),
  };
}

class StaleSocket extends NoAnswerError {}

async function read(response: IncomingMessage): Promise<Answer> {
  const { statusCode: status = 0, headers } = response;
  const chunks: Buffer[] = [];
  const streams = (headers["content-type"] ?? "").startsWith(EVENT_STREAM);
  const cut = streams ? setTimeout(() => response.destroy(), STREAM_MS) : undefined;
  try {
    for await (const chunk of response) {
      chunks.push(chunk as Buffer);
      if (streams && Buffer.concat(chunks).includes("\n\n")) response.destroy();
    }
  } catch (error) {
    if (!streams) throw new NoAnswerError(`the answer broke off: ${(error as Error).message}`);
  } finally {
    clearTimeout(cut);
  }
  return { status, headers, body: Buffer.concat(chunks) };
}
