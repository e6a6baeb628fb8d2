import { printable } from "./printable.ts";

const LONGEST = 500;

const PLAIN: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "connection reset",
  ECONNABORTED: "connection aborted",
  EPIPE: "connection closed",
  ETIMEDOUT: "connection timed out",
  ENOTFOUND: "host name not found",
  EAI_AGAIN: "host name lookup failed for now",
  EHOSTUNREACH: "host unreachable",
  EHOSTDOWN: "host unreachable",
  ENETUNREACH: "network unreachable",
  ENETDOWN: "network unreachable",
  EMFILE: "too many open files",
  EADDRNOTAVAIL: "no local port left to connect from",
  UND_ERR_SOCKET: "connection closed by the gateway",
  UND_ERR_HEADERS_OVERFLOW: "the answer's headers are too large",
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: "the answer's length does not match its content-length",
};

interface Details {
  code?: unknown;
  address?: unknown;
  hostname?: unknown;
  port?: unknown;
}

/** An error of Node or undici as part of a sentence: "connection refused (ECONNREFUSED 127.0.0.1:9)". */
export function failureText(error: Error): string {
  // One address of the host after the other was tried; each failed in its own way.
  const tried: unknown[] = error instanceof AggregateError ? error.errors : [];
  const parts = tried.length > 0 ? tried.filter((one) => one instanceof Error) : [error];
  return printable([...new Set(parts.map(describe))].join(", "), LONGEST);
}

function describe(error: Error): string {
  const { code, address, hostname, port } = error as Error & Details;
  if (error.name === "HTTPParserError") return `malformed answer: ${error.message}`;
  if (typeof code !== "string" || code === "UND_ERR_CONNECT_TIMEOUT") return error.message;
  const plain = PLAIN[code];
  if (plain === undefined) return `${stage(code)}${error.message} (${code})`;
  if (code.startsWith("UND_ERR")) return `${plain} (${error.message})`;

  const host = address ?? hostname;
  const where = typeof host === "string" ? ` ${host}${typeof port === "number" ? `:${port}` : ""}` : "";
  return `${plain} (${code}${where})`;
}

function stage(code: string): string {
  // OpenSSL's reasons for a refused certificate have no common prefix (DEPTH_ZERO_SELF_SIGNED_CERT, CERT_HAS_EXPIRED, …).
  return /TLS|SSL|EPROTO|CERT|SIGNATURE|CRL|ISSUER/.test(code) ? "TLS failed: " : "";
}
