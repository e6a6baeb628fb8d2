import { describe, expect, test } from "vitest";
import { apiUnderTest, noPool } from "./api-under-test.ts";
import { check, type OpenApiDocument } from "./documented-answers.ts";

interface Described {
  operationId: string;
  summary: string;
  description: string;
  tags: string[];
  parameters?: { name: string; description: string; schema: object }[];
  responses: Record<
    string,
    {
      description: string;
      content?: Record<
        string,
        { schema: object; example?: unknown; examples?: Record<string, { value: unknown }> }
      >;
    }
  >;
}

const { app } = apiUnderTest(noPool);
const document = (await (await app.request("/api/v1/openapi.json")).json()) as OpenApiDocument & {
  info: { version: string };
  tags: { name: string }[];
};
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(
    ([method, operation]) => [`${method.toUpperCase()} ${path}`, operation as unknown as Described] as const,
  ),
);

test("it is OpenAPI 3.1, of this version, and every reference in it leads somewhere", () => {
  expect(document.openapi).toMatch(/^3\.1\.\d$/);
  expect(document.info.version).toBe("1.2.3");
  for (const [, name] of JSON.stringify(document).matchAll(/"#\/components\/schemas\/([^"]+)"/g))
    expect(document.components.schemas).toHaveProperty(name ?? "");
});

test("it has every route of the app but the pages, and no other", () => {
  const pages = /^\/$|swagger/;
  const served = app.routes
    .filter(({ method, path }) => method !== "ALL" && !pages.test(path))
    .map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)/g, "{$1}")}`);
  expect(operations.map(([name]) => name).toSorted()).toEqual([...new Set(served)].toSorted());
});

test("no two operations have one id", () => {
  const ids = operations.map(([, { operationId }]) => operationId);
  expect(new Set(ids).size).toBe(ids.length);
});

test("without metrics it does not promise any", async () => {
  const without = apiUnderTest(noPool, { metrics: undefined } as object);
  const { paths } = await without.json<OpenApiDocument>("/api/v1/openapi.json");
  expect(paths).not.toHaveProperty("/metrics");
  expect((await without.request("/metrics")).status).toBe(404);
});

test("the events of the stream have schemas, and its example keeps to them", () => {
  const [, stream] = operations.find(([, { operationId }]) => operationId === "streamEvents") ?? [];
  const example = String(stream?.responses[200]?.content?.["text/event-stream"]?.example);
  const blocks = [...example.matchAll(/^event: (\w+)\nid: [\w-]+\ndata: (.*)\n\n/gm)];
  const components = [...(stream?.description ?? "").matchAll(/`(\w+)` \| \[(\w+)\]/g)];
  expect(components.map(([, event]) => event)).toEqual(blocks.map(([, event]) => event));
  expect(components).toHaveLength(5);
  for (const [n, [, , component]] of components.entries())
    check(document, { $ref: `#/components/schemas/${component}` }, JSON.parse(blocks[n]?.[2] ?? ""));
});

describe.each(operations)("%s", (_name, operation) => {
  test("says what it is, and where it belongs", () => {
    for (const text of [operation.operationId, operation.summary, operation.description])
      expect(text).toMatch(/^\S.+/s);
    const known = document.tags.map(({ name }) => name);
    expect(operation.tags).toHaveLength(1);
    for (const tag of operation.tags) expect(known).toContain(tag);
    for (const { description } of operation.parameters ?? []) expect(description).toMatch(/\w{3}/);
  });

  test("shows an example of every answer, and the examples are right", () => {
    expect(Object.keys(operation.responses)).toEqual(expect.arrayContaining(["200", "421", "500"]));
    for (const { description, content = {} } of Object.values(operation.responses)) {
      expect(description).toMatch(/\.$/);
      for (const { schema, example, examples } of Object.values(content)) {
        const shown = examples === undefined ? [example] : Object.values(examples).map(({ value }) => value);
        for (const value of shown) check(document, schema, value);
      }
    }
  });
});
