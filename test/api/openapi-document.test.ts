import { expect, test } from "vitest";
import { apiUnderTest, noPool } from "./api-under-test.ts";
import { createSchemas } from "./contract/schemas.ts";
import type { OpenApiDocument } from "./documented-answers.ts";

interface Stream {
  readonly description: string;
  readonly responses: {
    readonly 200: { readonly content: { readonly "text/event-stream": { readonly example: unknown } } };
  };
}

const { app } = apiUnderTest(noPool);
const document = (await (await app.request("/api/v1/openapi.json")).json()) as OpenApiDocument & {
  info: { version: string };
};
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
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
  expect(operations.toSorted()).toEqual([...new Set(served)].toSorted());
});

test("without metrics it does not promise any", async () => {
  const without = apiUnderTest(noPool, { metrics: undefined } as object);
  const { paths } = await without.json<OpenApiDocument>("/api/v1/openapi.json");
  expect(paths).not.toHaveProperty("/metrics");
  expect((await without.request("/metrics")).status).toBe(404);
});

test("the events of the stream have schemas, and its example keeps to them", () => {
  const stream = document.paths["/api/v1/events"]?.get as Stream;
  const example = String(stream.responses[200].content["text/event-stream"].example);
  const blocks = [...example.matchAll(/^event: (\w+)\nid: [\w-]+\ndata: (.*)\n\n/gm)];
  const components = [...stream.description.matchAll(/`(\w+)` \| \[(\w+)\]/g)];
  expect(components.map(([, event]) => event)).toEqual(blocks.map(([, event]) => event));
  expect(components).toHaveLength(5);
  const check = createSchemas({ document }).answer;
  for (const [n, [, , component]] of components.entries())
    expect(check({ $ref: `#/components/schemas/${component}` }, JSON.parse(blocks[n]?.[2] ?? ""))).toEqual(
      [],
    );
});
