import { parseDuration } from "./duration.ts";
import { type Environment, environmentName } from "./environment.ts";
import { type Given, type Section, sectionOf } from "./given.ts";

/** The faults that no setting has alone. Works on what was given, so that they are told beside all others. */
export function crossFaults(given: Given, env: Environment, relays: boolean): string[] {
  return [
    ...gatewayNameFaults(given),
    ...givenTwiceFaults(given),
    ...delayFaults(given),
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

function delayFaults({ settings, origin }: Given): string[] {
  const common = sectionOf(settings, "retry");
  const gateways = sectionOf(settings, "gateways");
  const own = Object.keys(gateways).map((name) => ({
    path: ["gateways", name, "retry"],
    retry: sectionOf(sectionOf(gateways, name), "retry"),
  }));
  return [
    ...delayFault({ path: ["retry"], retry: common }),
    ...own.filter(({ retry }) => "base_delay" in retry || "max_delay" in retry).flatMap(delayFault),
  ];

  function delayFault(at: { readonly path: readonly string[]; readonly retry: Section }): string[] {
    const { base_delay, max_delay } = { ...common, ...at.retry };
    const baseMs = parseDuration(String(base_delay));
    const maxMs = parseDuration(String(max_delay));
    if (baseMs === undefined || maxMs === undefined || baseMs <= maxMs) return [];
    const [base, max] = ["base_delay", "max_delay"].map((key) =>
      origin([...(key in at.retry ? at.path : ["retry"]), key]),
    );
    return [`${base}: ${base_delay} is longer than the ${max_delay} of ${max}`];
  }
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
