export type Environment = Readonly<Record<string, string | undefined>>;

/** `relay.batch_size` is RELAY_BATCH_SIZE; `gateways.bulk-sms.url` is GATEWAYS_BULK_SMS_URL. */
export function environmentName(path: readonly string[]): string {
  return path
    .join("_")
    .toUpperCase()
    .replace(/[^A-Z0-9]/g, "_");
}

/** Names that others have given what is a setting of ours, after ours. */
const ALIASES: ReadonlyMap<string, readonly Alias[]> = new Map<string, readonly Alias[]>([
  // The images of Postgres say POSTGRES_DB, much else says POSTGRES_DATABASE.
  ["POSTGRES_DB", [{ name: "POSTGRES_DATABASE" }]],
  // https://opentelemetry.io/docs/specs/otel/protocol/exporter/
  [
    "TRACING_ENDPOINT",
    [
      { name: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" },
      { name: "OTEL_EXPORTER_OTLP_ENDPOINT", read: (base) => `${base.replace(/\/$/, "")}/v1/traces` },
    ],
  ],
  [
    "TRACING_HEADERS",
    [{ name: "OTEL_EXPORTER_OTLP_TRACES_HEADERS" }, { name: "OTEL_EXPORTER_OTLP_HEADERS" }],
  ],
  ["TRACING_SERVICE_NAME", [{ name: "OTEL_SERVICE_NAME" }]],
]);

interface Alias {
  readonly name: string;
  /** What its text is as the setting's. */
  readonly read?: (value: string) => string;
}

/** The name and text of a setting's variable; an empty variable is an unset one. */
export function fromEnvironment(
  env: Environment,
  path: readonly string[],
): { readonly name: string; readonly value: string } | undefined {
  const own = environmentName(path);
  for (const { name, read } of [{ name: own }, ...(ALIASES.get(own) ?? [])] as readonly Alias[]) {
    const value = env[name];
    if (value !== undefined && value !== "") return { name, value: read?.(value) ?? value };
  }
  return undefined;
}
