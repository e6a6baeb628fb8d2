import { parseDuration } from "./duration.ts";
import { type Environment, environmentName } from "./environment.ts";
import { type Given, type Section, sectionOf } from "./given.ts";
import { isLoopback } from "./loopback.ts";
import { DEFAULT_HOST, DEFAULT_PORT } from "./schema.ts";

/** The faults that no setting has alone. Works on what was given, so that they are told beside all others. */
export function crossFaults(given: Given, env: Environment, relays: boolean): string[] {
  return [
    ...gatewayNameFaults(given),
    ...givenTwiceFaults(given),
    ...delayFaults(given, "retry", "base_delay", "max_delay"),
    ...delayFaults(given, "circuit", "pause", "max_pause"),
    ...emailFaults(given),
    ...metricsFaults(given),
    ...(relays ? openApiFaults(given) : []),
    ...(env.NODE_ENV === "production" ? productionFaults(given, relays) : []),
  ];
}

function gatewayNameFaults({ settings, origin }: Given): string[] {
  const faults: string[] = [];
  const variables = new Map<string, string>();
  for (const name of Object.keys(sectionOf(settings, "gateways"))) {
    const path = ["gateways", name];
    if (!/^[a-z][a-z0-9_-]{0,62}$/.test(name)) {
      faults.push(
        `${origin(path)}: ${JSON.stringify(name)} is not a gateway's name: a lowercase letter, then at most 62 lowercase letters, digits, _ or -`,
      );
    }
    const variable = environmentName(path);
    const other = variables.get(variable);
    if (other !== undefined) {
      faults.push(`${origin(path)}: shares its environment variables (${variable}_…) with gateways.${other}`);
    }
    variables.set(variable, name);
  }
  return faults;
}

function givenTwiceFaults({ settings, origin }: Given): string[] {
  const twice = sectionOf(sectionOf(settings, "gateways"), "default");
  return Object.keys(sectionOf(settings, "webhook"))
    .filter((key) => Object.hasOwn(twice, key))
    .map(
      (key) =>
        `${origin(["webhook", key])}: also given as ${origin(["gateways", "default", key])}; give it once`,
    );
}

/** A first wait that is longer than the longest, in a section that gateways may have too. */
function delayFaults({ settings, origin }: Given, section: string, first: string, longest: string): string[] {
  const common = sectionOf(settings, section);
  const gateways = sectionOf(settings, "gateways");
  const own = Object.keys(gateways).map((name) => ({
    path: ["gateways", name, section],
    delays: sectionOf(sectionOf(gateways, name), section),
  }));
  return [
    ...delayFault({ path: [section], delays: common }),
    ...own.filter(({ delays }) => first in delays || longest in delays).flatMap(delayFault),
  ];

  function delayFault(at: { readonly path: readonly string[]; readonly delays: Section }): string[] {
    const given = { ...common, ...at.delays };
    const firstMs = parseDuration(String(given[first]));
    const longestMs = parseDuration(String(given[longest]));
    if (firstMs === undefined || longestMs === undefined || firstMs <= longestMs) return [];
    const [one, other] = [first, longest].map((key) =>
      origin([...(key in at.delays ? at.path : [section]), key]),
    );
    return [`${one}: ${given[first]} is longer than the ${given[longest]} of ${other}`];
  }
}

const EMAIL = ["smtp_url", "email_from", "email_to"];

/** E-mail is whole or not there. */
function emailFaults({ settings, origin }: Given): string[] {
  const alerts = sectionOf(settings, "alerts");
  const isNamed = (key: string) => Object.hasOwn(alerts, key) && !isEmptyList(alerts[key]);
  const missing = EMAIL.filter((key) => !isNamed(key));
  const faults =
    missing.length === EMAIL.length
      ? []
      : missing.map(
          (key) =>
            `${origin(["alerts", key])}: missing; e-mail needs ${EMAIL.slice(0, -1).join(", ")} and email_to`,
        );
  const { smtp_url: url, smtp_password: password } = alerts;
  if (password !== undefined) {
    const parsed = typeof url === "string" ? URL.parse(url) : undefined;
    const at = origin(["alerts", "smtp_password"]);
    if (parsed?.username === "" || url === undefined)
      faults.push(`${at}: there is no user it is of; name one in alerts.smtp_url, as smtp://user@host`);
    else if (parsed?.password) faults.push(`${at}: alerts.smtp_url has a password, too; give it once`);
  }
  return faults;
}

function isEmptyList(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0;
}

/** Without keys, whoever reaches the API may read every message and stop the relay. */
function openApiFaults({ settings, origin }: Given): string[] {
  const { host } = settings;
  const { keys } = sectionOf(settings, "api");
  const hasKeys = Array.isArray(keys) ? keys.length > 0 : keys !== undefined;
  if (typeof host !== "string" || host === "" || hasKeys || isLoopback(host)) return [];
  return [
    `${origin(["host"])}: ${JSON.stringify(host)} can be reached from other machines, and the API has no keys: make one with npm run api-key -- NAME SCOPES and set API_KEYS, or listen on 127.0.0.1`,
  ];
}

function metricsFaults({ settings, origin }: Given): string[] {
  const { port, host } = sectionOf(settings, "metrics");
  if (port === undefined)
    return host === undefined
      ? []
      : [`${origin(["metrics", "host"])}: is for a port of its own; set metrics.port (METRICS_PORT), too`];
  const apiHost = settings.host ?? DEFAULT_HOST;
  const same = (host ?? apiHost) === apiHost && String(port) === String(settings.port ?? DEFAULT_PORT);
  if (!same || String(port) === "0") return [];
  return [
    `${origin(["metrics", "port"])}: is the API's port; give it another, or leave it out, for /metrics is there anyway`,
  ];
}

/** In production nothing stands in: neither a database of our own nor a demo gateway. */
function productionFaults({ settings }: Given, relays: boolean): string[] {
  const faults: string[] = [];
  if (!Object.hasOwn(settings, "database_url") && Object.keys(sectionOf(settings, "postgres")).length === 0) {
    faults.push(
      "No database is configured, and NODE_ENV is production: set DATABASE_URL, or POSTGRES_HOST, POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB",
    );
  }
  const gateways = sectionOf(settings, "gateways");
  const peers = [
    sectionOf(settings, "webhook"),
    ...Object.keys(gateways).map((name) => sectionOf(gateways, name)),
  ];
  if (relays && !peers.some((peer) => Object.hasOwn(peer, "url"))) {
    faults.push(
      "No gateway has a URL, and NODE_ENV is production: set WEBHOOK_URL (and WEBHOOK_AUTH_KEY if it asks for one)",
    );
  }
  return faults;
}
