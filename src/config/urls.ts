import { Client } from "pg";
import { setting } from "./values.ts";

export function webhookUrl() {
  return url(
    "an http:// or https:// URL without user:password@ and #fragment (URLs are written to the database, secrets never are: use auth_key)",
    // The form that outbox.gateways takes; URL.parse alone also takes http:///host, HTTP:host and spaces around it.
    (text) => /^https?:\/\/[^/@?#\s]+([/?][^#\s]*)?$/.test(text) && URL.canParse(text),
  );
}

export function collectorUrl() {
  return url(
    "an http:// or https:// URL without user:password@ and #fragment (secrets belong in tracing.headers), such as http://localhost:4318/v1/traces",
    (text) => /^https?:\/\/[^/@?#\s]+([/?][^@#\s]*)?$/.test(text) && URL.canParse(text),
  );
}

export function postgresUrl() {
  return url(
    "a postgres:// or postgresql:// URL, with the special characters of its user and password percent-encoded",
    // `postgres://user@/db?host=/var/run/postgresql` is a libpq URL but not a WHATWG one.
    (text) =>
      parse(text.replace("@/", "@socket/"), "postgres:", "postgresql:") !== undefined && pgTakes(text),
  );
}

/** It decodes parts of the URL, and throws a bare URIError for what is not UTF-8. */
function pgTakes(connectionString: string): boolean {
  try {
    return new Client({ connectionString }) !== undefined;
  } catch {
    return false;
  }
}

export function redisUrl() {
  return url(
    "a redis:// or rediss:// URL, with the special characters of its user and password percent-encoded",
    (text) => parse(text, "redis:", "rediss:") !== undefined,
  );
}

export function smtpUrl() {
  return url(
    "an smtp:// or smtps:// URL of a host alone, such as smtp://user@smtp.example.com:587, with the special characters of its user and password percent-encoded",
    (text) => {
      const parsed = parse(text, "smtp:", "smtps:");
      if (parsed === undefined || parsed.hostname === "") return false;
      return /^\/?$/.test(parsed.pathname) && parsed.search === "" && parsed.hash === "" && decodes(parsed);
    },
  );
}

function decodes({ username, password }: URL): boolean {
  try {
    return decodeURIComponent(username + password) !== undefined;
  } catch {
    return false;
  }
}

export function slackUrl() {
  return url(
    "the http:// or https:// URL of an incoming webhook, such as https://hooks.slack.com/services/…",
    (text) => /^https?:\/\/[^/@?#\s]+([/?][^#\s]*)?$/.test(text) && URL.canParse(text),
  );
}

export function pageUrl() {
  return url(
    "an http:// or https:// URL without user:password@, ? and #, such as https://sms.example.com",
    (text) => /^https?:\/\/[^/@?#\s]+(\/[^?#\s]*)?$/.test(text) && URL.canParse(text),
  );
}

interface ServerAddress {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
}

/** `host` may also be an IPv6 address or, for Postgres, the directory of a Unix socket. */
export function composeUrl(scheme: "postgres" | "redis", address: ServerAddress): string {
  const { host, port, user, password, database } = address;
  const login = encodeURIComponent(user) + (password === "" ? "" : `:${encodeURIComponent(password)}`);
  const credentials = login === "" ? "" : `${login}@`;
  const server = host.includes(":") ? `[${host.replace(/^\[|\]$/g, "")}]` : encodeURIComponent(host);
  // pg decodes the database with decodeURI, which leaves %2F and its like as they are.
  const path = encodeURI(database).replace(/[?#]/g, encodeURIComponent);
  return `${scheme}://${credentials}${server}:${port}/${path}`;
}

/** Taken as it is written: a URL that is parsed and printed again may differ from what a person looks for. */
function url(allowed: string, accepts: (text: string) => boolean) {
  return setting(allowed, (given) => (typeof given === "string" && accepts(given) ? given : undefined));
}

function parse(text: string, ...protocols: readonly string[]): URL | undefined {
  const parsed = text.includes("://") ? URL.parse(text) : null;
  return parsed !== null && protocols.includes(parsed.protocol) ? parsed : undefined;
}
