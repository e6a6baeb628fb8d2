import { execFileSync } from "node:child_process";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { curl } from "./contract/curl.ts";
import { createSchemas } from "./contract/schemas.ts";
import type { Request } from "./contract/wire.ts";

describe("a request as a command", () => {
  /** What a shell makes of it: the arguments of curl, and its standard input. */
  function understood(request: Request): { args: Buffer[]; input: Buffer } {
    const fake = `curl() { for one; do printf '%s\\0' "$one"; last=$one; done; if [ "$last" = @- ]; then cat; fi; }`;
    const output = execFileSync("sh", ["-c", `${fake}; ${curl("http://h:1", request)}`]);
    const args: Buffer[] = [];
    let rest = output;
    for (let end = rest.indexOf(0); end >= 0 && args.at(-1)?.toString() !== "@-"; end = rest.indexOf(0)) {
      args.push(rest.subarray(0, end));
      rest = rest.subarray(end + 1);
    }
    return { args, input: rest };
  }

  const bodies = fc.oneof(
    fc.string({ unit: "binary" }).map((text) => Buffer.from(text.toWellFormed())),
    fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
    fc
      .constantFrom("", "@file", "a'b", "$(id)", "`id`", "%s\\n", "a\n", "\n\n", "-d", "-\0", "é🙂")
      .map((text) => Buffer.from(text)),
  );
  const values = fc
    .constantFrom("", "a b", "it's", '"x"', "\u00e9\u00ff", "$HOME", "%d", "\\n", "a;b")
    .filter((one) => one !== "");

  test("has the same body and headers, whatever is in them", () => {
    fc.assert(
      fc.property(bodies, values, (body, value) => {
        const { args, input } = understood({
          method: "POST",
          target: "/a?b='%27",
          headers: [["X", value]],
          body,
        });
        const sent = args.at(-1)?.toString() === "@-" ? input : args.at(-1);
        expect(sent).toEqual(body);
        expect(args).toContainEqual(Buffer.from(`X: ${value}`, "latin1"));
        expect(args).toContainEqual(Buffer.from("http://h:1/a?b='%27"));
      }),
      { numRuns: 60 },
    );
  });

  test("says what has to be said of the method, an empty header, and a body of no type", () => {
    const get = curl("http://h", { method: "GET", target: "/", headers: [["X", ""]] });
    expect(get).toBe("curl -sS -i --path-as-is --globoff -H 'X;' 'http://h/'");
    const head = curl("http://h", { method: "HEAD", target: "/", headers: [] });
    expect(head).toBe("curl -sS -i --path-as-is --globoff -I 'http://h/'");
    const put = curl("http://h", { method: "PUT", target: "/", headers: [], body: Buffer.from("a") });
    expect(put).toBe(
      "curl -sS -i --path-as-is --globoff -X PUT -H 'Content-Type:' 'http://h/' --data-binary 'a'",
    );
  });
});

describe("an answer may have no property that is not in the document", () => {
  const object = (...names: string[]) => ({
    type: "object",
    properties: Object.fromEntries(names.map((name) => [name, { type: "integer" }])),
  });
  const schemas = {
    Alone: object("a"),
    Base: object("a"),
    Extended: { allOf: [{ $ref: "#/components/schemas/Base" }, object("b")] },
    Open: { ...object("a"), additionalProperties: { type: "integer" } },
    Nested: { type: "array", items: { anyOf: [{ $ref: "#/components/schemas/Alone" }, { type: "null" }] } },
  };
  const { request, answer } = createSchemas({ document: { components: { schemas } } });
  const refer = (name: keyof typeof schemas) => ({ $ref: `#/components/schemas/${name}` });

  test.each<[keyof typeof schemas, unknown, unknown]>([
    ["Alone", { a: 1 }, { a: 1, x: 1 }],
    ["Extended", { a: 1, b: 1 }, { a: 1, b: 1, x: 1 }],
    ["Nested", [{ a: 1 }, null], [{ a: 1, x: 1 }]],
  ])("%s", (name, right, wrong) => {
    expect(answer(refer(name), right)).toEqual([]);
    expect(answer(refer(name), wrong)).not.toEqual([]);
    expect(request(refer(name), wrong)).toEqual([]);
  });

  test("unless the document says that there are others", () => {
    expect(answer(refer("Open"), { a: 1, x: 1 })).toEqual([]);
    expect(answer(refer("Open"), { a: 1, x: "1" })).not.toEqual([]);
  });
});
