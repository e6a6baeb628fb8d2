import { randomUUID } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { getRequestListener } from "@hono/node-server";
import { PROBLEM_TYPE, ProblemError, problemBody } from "./problem.ts";

export interface ServerOptions {
  readonly app: { fetch(request: Request, env: unknown): Response | Promise<Response> };
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** The settings that these two come from, for the person who has to change one. */
  readonly settings?: { readonly host: string; readonly port: string };
  /** How long `stop` waits for requests that are being answered. */
  readonly graceMs: number;
  /** Told when the running server cannot take a connection (too many open files), which it survives. */
  readonly onError?: (error: Error) => void;
}

export interface RunningServer {
  readonly url: string;
  /** Takes no more requests, and resolves when the last socket is closed. May be called again. */
  stop(): Promise<void>;
}

/** The server cannot start; the message is for the person who starts it. */
export class ServerError extends Error {
  override readonly name = "ServerError";
}

export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { app, host, port, settings = { host: "HOST", port: "PORT" }, graceMs } = options;
  const server = createServer(
    {
      headersTimeout: 10_000,
      requestTimeout: 30_000,
      keepAliveTimeout: 5_000,
      maxHeaderSize: 16 * 1024,
    },
    getRequestListener((request, env) => app.fetch(request, env), {
      hostname: host,
      errorHandler: unreadable,
    }),
  );
  await listen(server, host, port, settings);
  server.on("error", (error) => options.onError?.(error));

  let stopped: Promise<void> | undefined;
  return {
    url: urlOf(host, server),
    stop: () => {
      stopped ??= close(server, graceMs);
      return stopped;
    },
  };
}

/** A request whose Host or target makes no URL never reaches the app, and what the app adds to every answer. */
function unreadable(): Response {
  const problem = new ProblemError("malformed-request", "Its Host header or its target is not valid.");
  const requestId = randomUUID();
  const headers = {
    "Content-Type": PROBLEM_TYPE,
    "X-Request-Id": requestId,
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
  };
  return Response.json(problemBody(problem, requestId), { status: 400, headers });
}

function listen(server: Server, host: string, port: number, settings: SettingNames): Promise<void> {
  return new Promise((resolve, reject) => {
    const refused = (error: NodeJS.ErrnoException) => reject(explain(error, host, port, settings));
    server.once("error", refused);
    server.listen({ host, port }, () => {
      server.off("error", refused);
      resolve();
    });
  });
}

type SettingNames = NonNullable<ServerOptions["settings"]>;

function explain(error: NodeJS.ErrnoException, host: string, port: number, set: SettingNames): Error {
  const unresolved = `The name ${host} cannot be resolved: set ${set.host} to an address of this machine, such as 127.0.0.1.`;
  const advice: Record<string, string> = {
    EADDRINUSE: `Port ${port} on ${host} is taken by another program: stop it, or set ${set.port} to another.`,
    EACCES: `Port ${port} on ${host} is not this user's to open: set ${set.port} to one above 1023.`,
    EADDRNOTAVAIL: `This machine has no address ${host}: set ${set.host} to one it has, such as 127.0.0.1, or 0.0.0.0 for all.`,
    ENOTFOUND: unresolved,
    EAI_AGAIN: unresolved,
  };
  const message = advice[error.code ?? ""];
  return message === undefined ? error : new ServerError(message, { cause: error });
}

/** `0.0.0.0` and `::` are for listening; they are no address to open. */
function urlOf(host: string, server: Server): string {
  const { port } = server.address() as AddressInfo;
  if (host === "0.0.0.0" || host === "::") return `http://localhost:${port}`;
  return `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

async function close(server: Server, graceMs: number): Promise<void> {
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  server.close(() => resolve());
  // A socket whose answer ends from now on would be kept alive for another request.
  const sweep = setInterval(() => server.closeIdleConnections(), 20);
  const deadline = setTimeout(() => server.closeAllConnections(), graceMs);
  await closed;
  clearInterval(sweep);
  clearTimeout(deadline);
}
