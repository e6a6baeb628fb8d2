import { describe, expect, test } from "vitest";
import { apiUnderTest, noPool } from "./api-under-test.ts";

const PAGE = "/api/v1/swagger/index.html";
const { app } = apiUnderTest(noPool);

const load = async (path: string) => {
  const answer = await app.request(path);
  return { answer, text: await answer.text() };
};

test.each(["/", "/api/v1/swagger", "/api/v1/swagger/"])("%s leads to the page", async (path) => {
  const answer = await app.request(path);
  expect(answer.status).toBe(302);
  expect(answer.headers.get("Location")).toBe(PAGE);
});

describe("the page", () => {
  test("names only addresses of this server, and each of them answers", async () => {
    const { text } = await load(PAGE);
    const named = [...text.matchAll(/(?:src|href|url)[=:]\s*["']([^"']*)["']/g)].map(
      ([, address]) => address ?? "",
    );
    expect(named).toContain("/api/v1/openapi.json");
    expect(named).toContain("/api/v1/swagger/swagger-ui-dist/swagger-ui-bundle.js");
    expect(text).not.toMatch(/https?:|\/\//);
    for (const address of named) {
      const answer = await app.request(address);
      expect(answer.status, address).toBe(200);
      expect((await answer.arrayBuffer()).byteLength).toBeGreaterThan(100);
    }
  });

  test("lets no script run but its own, by a nonce that is new each time", async () => {
    const [first, second] = [await load(PAGE), await load(PAGE)];
    const nonceOf = ({ answer }: typeof first) =>
      /script-src 'nonce-([\w+/=]{22,})'(;|$)/.exec(answer.headers.get("Content-Security-Policy") ?? "")?.[1];
    const nonce = nonceOf(first);
    expect(nonce).toBeTruthy();
    expect(nonceOf(second)).not.toBe(nonce);
    const scripts = first.text.match(/<script[^>]*>/g) ?? [];
    expect(scripts).toHaveLength(2);
    for (const script of scripts) expect(script).toContain(`nonce="${nonce}"`);
    expect(first.answer.headers.get("Content-Security-Policy")).not.toMatch(/unsafe|https?:|\*/);
  });

  test("asks no validator", async () => {
    expect((await load(PAGE)).text).toContain("validatorUrl: 'none'");
  });
});

test("assets have their types, and the style sheet loads nothing from elsewhere", async () => {
  const { answer, text } = await load("/api/v1/swagger/swagger-ui-dist/swagger-ui.css");
  expect(answer.headers.get("Content-Type")).toBe("text/css; charset=utf-8");
  expect(text).not.toMatch(/url\(["']?(https?:)?\/\//);
  expect(text).not.toContain("@import");
});

test.each([
  "package.json",
  "swagger-initializer.js",
  "..%2Fpackage.json",
  "%2e%2e/swagger-ui-dist/package.json",
  "constructor",
  "__proto__",
])("%s of the package is not served", async (name) => {
  expect((await app.request(`/api/v1/swagger/swagger-ui-dist/${name}`)).status).toBe(404);
});
