import type { OpenApiDocument } from "./documented-answers.ts";

interface Reading {
  readonly security: readonly object[];
  readonly parameters?: readonly { readonly $ref?: string }[];
}

/** What has to be of this moment. */
const OF_THE_PRIMARY: readonly string[] = ["/api/v1/alerts", "/api/v1/events"];

/** Every path that is read with a key, but those: the document has to say of each that a query store may answer. */
export function pathsReadInStore({ paths }: OpenApiDocument): string[] {
  const reads = Object.entries(paths as Record<string, { readonly get?: Reading }>).flatMap(
    ([path, { get }]) =>
      get === undefined || get.security.length === 0 ? [] : [{ path, parameters: get.parameters ?? [] }],
  );
  const said = reads.filter(({ parameters }) =>
    parameters.some(({ $ref }) => $ref === "#/components/parameters/ReadLsn"),
  );
  const others = reads.filter((read) => !said.includes(read)).map(({ path }) => path);
  if (said.length < 10 || others.join() !== OF_THE_PRIMARY.join())
    throw new Error(`read on the primary, by the document: ${others.join(", ")}`);
  return said.map(({ path }) => path);
}
