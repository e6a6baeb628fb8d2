import { createConfig, lintFromString } from "@redocly/openapi-core";
import { describe, expect, test } from "vitest";
import { apiUnderTest, noPool } from "./api-under-test.ts";
import { shortcomings } from "./operation-rules.ts";

/** Redocly's rules as it recommends them, and some that it leaves to taste. A warning counts as well. */
const config = await createConfig({
  extends: ["recommended"],
  rules: {
    "operation-description": "error",
    "operation-tag-defined": "error",
    "parameter-description": "error",
    "operation-4xx-problem-details-rfc7807": "error",
  },
});

async function problemsOf(document: unknown): Promise<string[]> {
  const problems = await lintFromString({
    source: JSON.stringify(document),
    absoluteRef: "/openapi.json",
    config,
  });
  return problems.map(({ ruleId, message, location: [at] }) => `${ruleId}: ${message} (${at?.pointer})`);
}

const document = await apiUnderTest(noPool).json<object>("/api/v1/openapi.json");

test("the linter has nothing to say", async () => {
  expect(await problemsOf(document)).toEqual([]);
});

test("each operation says whom it is for and what can go wrong, and shows examples", () => {
  expect(shortcomings(document as never)).toEqual([]);
});

// biome-ignore lint/suspicious/noExplicitAny: a document is changed at will here
type Any = any;

/** An operation as it should be, beside the real ones, with one thing wrong. */
function withFault(plant: (operation: Any, document: Any) => void): Any {
  const copy: Any = structuredClone(document);
  const problem = {
    description: "No.",
    content: {
      "application/problem+json": {
        schema: { $ref: "#/components/schemas/Problem" },
        example: { type: "urn:no", title: "No", status: 400, instance: "urn:1" },
      },
    },
  };
  const json = {
    "application/json": {
      schema: { type: "object", properties: { a: { type: "string" } } },
      example: { a: "b" },
    },
  };
  const operation = {
    operationId: "changeThing",
    tags: ["messages"],
    summary: "Change a thing",
    description: "Changes it.",
    security: [{ apiKey: ["write"] }],
    parameters: [
      { name: "id", in: "path", required: true, description: "Its id.", schema: { type: "integer" } },
    ],
    requestBody: { required: true, content: json },
    responses: {
      200: { description: "Changed.", content: structuredClone(json) },
      ...Object.fromEntries(
        [400, 401, 403, 404, 413, 415, 421, 500].map((status) => [status, structuredClone(problem)]),
      ),
    },
  };
  plant(operation, copy);
  copy.paths["/api/v1/things/{id}"] = { patch: operation };
  return copy;
}

test("an operation as it should be has no faults", async () => {
  const sound = withFault(() => {});
  expect(await problemsOf(sound)).toEqual([]);
  expect(shortcomings(sound)).toEqual([]);
});

describe("the linter notices", () => {
  test.each<[string, string, (operation: Any, document: Any) => void]>([
    ["a tag of no meaning", "operation-tag-defined", (one) => (one.tags = ["things"])],
    ["no operationId", "operation-operationId", (one) => delete one.operationId],
    ["an operationId twice", "operation-operationId-unique", (one) => (one.operationId = "getScheduler")],
    ["no summary", "operation-summary", (one) => delete one.summary],
    ["no description", "operation-description", (one) => delete one.description],
    ["no description of a parameter", "parameter-description", (one) => delete one.parameters[0].description],
    ["a path parameter that is not described", "path-parameters-defined", (one) => (one.parameters = [])],
    ["a security scheme of no meaning", "security-defined", (one) => (one.security = [{ secret: [] }])],
    ["a reference to nowhere", "no-unresolved-refs", (one) => (one.requestBody = { $ref: "#/nowhere" })],
    ["no 4xx", "operation-4xx-response", (one) => (one.responses = { 200: one.responses[200] })],
    [
      "an error that is no problem",
      "operation-4xx-problem-details-rfc7807",
      (one) => (one.responses[404].content = one.responses[200].content),
    ],
    [
      "an example that its schema does not allow",
      "no-invalid-media-type-examples",
      (one) => (one.responses[200].content["application/json"].example.a = 7),
    ],
    [
      "one such example among several",
      "no-invalid-media-type-examples",
      (one) => {
        const media = one.responses[404].content["application/problem+json"];
        media.examples = { sound: { value: media.example }, wrong: { value: {} } };
        delete media.example;
      },
    ],
    ["a word that OpenAPI does not know", "struct", (one) => (one.answers = {})],
    [
      "a schema that no one uses",
      "no-unused-components",
      (_, all) => (all.components.schemas.Thing = { type: "object" }),
    ],
    ["no licence", "info-license", (_, all) => delete all.info.license],
  ])("%s", async (_name, rule, plant) => {
    expect(await problemsOf(withFault(plant))).toContainEqual(
      expect.stringMatching(new RegExp(`^${rule}: `)),
    );
  });
});

describe("our own rules notice", () => {
  test.each<[string, (operation: Any) => void]>([
    ["does not say whether it needs a key", (one) => delete one.security],
    ["needs secret, which is no security scheme", (one) => (one.security = [{ secret: [] }])],
    ["needs a key, and has no 401", (one) => delete one.responses[401]],
    ["needs a key, and has no 403", (one) => delete one.responses[403]],
    ["has the operationId change_thing", (one) => (one.operationId = "change_thing")],
    ["does not describe itself in a sentence", (one) => (one.description = "Changes it")],
    ["does not describe 404 in a sentence", (one) => (one.responses[404].description = "no")],
    ["has 0 tags", (one) => (one.tags = [])],
    ["has 2 tags", (one) => one.tags.push("scheduler")],
    ...["400", "404", "413", "415", "421", "500"].map((status): [string, (operation: Any) => void] => [
      `has no ${status}`,
      (one) => delete one.responses[status],
    ]),
    [
      "shows no example of its request (application/json)",
      (one) => delete one.requestBody.content["application/json"].example,
    ],
    [
      "shows no example of 200 (application/json)",
      (one) => delete one.responses[200].content["application/json"].example,
    ],
  ])("it %s", (fault, plant) => {
    expect(shortcomings(withFault(plant))).toEqual([`PATCH /api/v1/things/{id}: ${fault}`]);
  });
});
