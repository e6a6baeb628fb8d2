import { type OpenAPIHono, z } from "@hono/zod-openapi";
import type { ApiEnv } from "./dependencies.ts";
import { faultOfJson, STORABLE } from "./storable.ts";

const VALUE = { $ref: "#/components/schemas/MetadataValue" };

/** The JSON Schema of what `metadata` takes. */
export const METADATA_SCHEMA = {
  type: "object",
  propertyNames: { pattern: STORABLE },
  additionalProperties: VALUE,
} as const;

/** Refers to itself, so it cannot stand in place. */
export function documentMetadata(app: OpenAPIHono<ApiEnv>): void {
  app.openAPIRegistry.registerComponent("schemas", "MetadataValue", {
    description: "Any JSON, but no number beyond 2^53, and nothing nested deeper than 50 levels.",
    anyOf: [
      { type: "string", pattern: STORABLE },
      { type: "number", minimum: Number.MIN_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER },
      { type: "boolean" },
      { type: "null" },
      { type: "array", items: VALUE },
      METADATA_SCHEMA,
    ],
  });
}

/** A JSON object, kept as it came: what zod takes for a record would lose a key like `__proto__`. */
export const metadata = z
  .custom<Record<string, unknown>>(isObject, "must be a JSON object")
  .superRefine((value, ctx) => {
    const fault = isObject(value) ? faultOfJson(value) : undefined;
    if (fault !== undefined) ctx.addIssue({ code: "custom", message: fault });
  });

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
