export type Environment = Readonly<Record<string, string | undefined>>;

/** `relay.batch_size` is RELAY_BATCH_SIZE; `gateways.bulk-sms.url` is GATEWAYS_BULK_SMS_URL. */
export function environmentName(path: readonly string[]): string {
  return path
    .join("_")
    .toUpperCase()
    .replace(/[^A-Z0-9]/g, "_");
}

/** The name and text of a setting's variable; an empty variable is an unset one. */
export function fromEnvironment(
  env: Environment,
  path: readonly string[],
): { readonly name: string; readonly value: string } | undefined {
  const name = environmentName(path);
  // The images of Postgres say POSTGRES_DB, much else says POSTGRES_DATABASE.
  const names = name === "POSTGRES_DB" ? [name, "POSTGRES_DATABASE"] : [name];
  for (const each of names) {
    const value = env[each];
    if (value !== undefined && value !== "") return { name: each, value };
  }
  return undefined;
}
