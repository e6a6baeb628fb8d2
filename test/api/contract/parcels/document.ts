import type { Schema } from "../document.ts";

/** What the server takes, by a pattern of its paths. */
export const METHODS = {
  "/parcels": ["GET", "HEAD", "POST"],
  "/parcels/[^/]+": ["GET", "HEAD", "PATCH"],
  "/parcels/[^/]+/send": ["POST"],
  "/events": ["GET", "HEAD"],
};

const PROPERTIES = {
  name: { type: "string", minLength: 1, maxLength: 20, pattern: "^[^\\u0000]*$" },
  weight: { type: "integer", minimum: 1, maximum: 100 },
  note: { type: ["string", "null"], maxLength: 100 },
  tags: { type: "array", items: { enum: ["fragile", "urgent"] }, maxItems: 3 },
  due: { anyOf: [{ type: "string", format: "date-time" }, { type: "null" }] },
  labels: {
    type: "object",
    propertyNames: { type: "string", pattern: "^[a-z]{1,8}$" },
    additionalProperties: { type: "string", maxLength: 10 },
    maxProperties: 4,
  },
} satisfies Record<string, Schema>;
const ONE: Schema = {
  type: "object",
  properties: PROPERTIES,
  required: ["name", "weight"],
  additionalProperties: false,
};
export const NEW: Schema = { anyOf: [ONE, { type: "array", items: ONE, minItems: 1, maxItems: 100 }] };
export const CHANGE: Schema = {
  type: "object",
  properties: PROPERTIES,
  additionalProperties: false,
  minProperties: 1,
};
export const ETAG: Schema = { type: "string", pattern: '^"\\d{1,9}"$' };
const ID: Schema = { type: "integer", minimum: 1, maximum: 999_999_999 };
export const LIST = {
  limit: { type: "integer", minimum: 1, maximum: 50 },
  colour: { enum: ["red", "green"] },
  cursor: { type: "string", format: "cursor" },
} satisfies Record<string, Schema>;

const PARCEL: Schema = {
  type: "object",
  properties: { id: ID, version: { type: "integer" }, sent: { type: "boolean" }, ...PROPERTIES },
  required: ["id", "version", "sent", ...Object.keys(PROPERTIES)],
};
const EVENT = { type: "object", properties: { id: ID }, required: ["id"] };
const json = (schema: object) => ({ "application/json": { schema } });
const parcel = json({ $ref: "#/components/schemas/Parcel" });
const parcels = json({
  type: "object",
  properties: { ids: { type: "array", items: ID } },
  required: ["ids"],
});
const problems = (...statuses: number[]) =>
  Object.fromEntries(
    [...statuses, 500].map((status) => [
      status,
      {
        description: "",
        content: { "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" } } },
      },
    ]),
  );
const id = { name: "id", in: "path", required: true, schema: ID };
const key = (scope: string) => ({ security: [{ apiKey: [scope] }] });
const etag = { ETag: { required: true, schema: ETAG } };

export const DOCUMENT = {
  openapi: "3.1.0",
  info: { title: "parcels", version: "1" },
  security: [],
  components: {
    securitySchemes: { apiKey: { type: "http", scheme: "bearer" } },
    schemas: {
      Parcel: PARCEL,
      Problem: {
        type: "object",
        properties: { status: { type: "integer" }, title: { type: "string" } },
        required: ["status", "title"],
      },
    },
  },
  paths: {
    "/parcels": {
      get: {
        operationId: "listParcels",
        parameters: Object.entries(LIST).map(([name, schema]) => ({ name, in: "query", schema })),
        responses: {
          200: {
            description: "",
            content: json({
              type: "object",
              properties: {
                parcels: { type: "array", items: { $ref: "#/components/schemas/Parcel" } },
                next_cursor: { type: ["string", "null"] },
              },
              required: ["parcels", "next_cursor"],
            }),
          },
          ...problems(400),
        },
      },
      post: {
        operationId: "postParcel",
        ...key("write"),
        requestBody: { required: true, content: json(NEW) },
        responses: {
          200: { description: "", content: parcels },
          201: {
            description: "",
            headers: { Location: { required: true, schema: {} }, ...etag },
            content: parcel,
          },
          ...problems(400, 401, 403, 415),
        },
      },
    },
    "/parcels/{id}": {
      parameters: [id],
      get: {
        operationId: "getParcel",
        responses: { 200: { description: "", headers: etag, content: parcel }, ...problems(400, 404) },
      },
      patch: {
        operationId: "changeParcel",
        ...key("write"),
        parameters: [{ name: "If-Match", in: "header", schema: ETAG }],
        requestBody: { required: true, content: json(CHANGE) },
        responses: {
          200: { description: "", headers: etag, content: parcel },
          ...problems(400, 401, 403, 404, 412, 415),
        },
      },
    },
    "/parcels/{id}/send": {
      parameters: [id],
      post: {
        operationId: "sendParcel",
        ...key("operate"),
        responses: { 204: { description: "" }, ...problems(400, 401, 403, 404, 409) },
      },
    },
    "/events": {
      get: {
        operationId: "listEvents",
        responses: {
          200: {
            description: "",
            content: { "text/event-stream": { schema: { type: "string", contentSchema: EVENT } } },
          },
          ...problems(),
        },
      },
    },
  },
};
