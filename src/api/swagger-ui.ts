import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { SwaggerUI } from "@hono/swagger-ui";
import type { OpenAPIHono } from "@hono/zod-openapi";
import type { ApiEnv } from "./dependencies.ts";
import { API } from "./documentation.ts";
import { DOCUMENT_PATH } from "./openapi-document.ts";
import { ProblemError } from "./problem.ts";

const BASE = `${API}/swagger`;
const ASSETS_PATH = `${BASE}/swagger-ui-dist`; // where @hono/swagger-ui looks for them
export const SWAGGER_PAGE = `${BASE}/index.html`;

/** All that is served of swagger-ui-dist: its own index.html would load a demo from the network. */
const ASSETS: Readonly<Record<string, string>> = {
  "swagger-ui.css": "text/css; charset=utf-8",
  "swagger-ui.css.map": "application/json",
  "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
  "swagger-ui-bundle.js.map": "application/json",
  "favicon-32x32.png": "image/png",
};

/** Swagger UI from this machine alone: no CDN, and no validator that would be sent the document's address. */
export function addSwaggerUi(app: OpenAPIHono<ApiEnv>): void {
  const folder = path.dirname(createRequire(import.meta.url).resolve("swagger-ui-dist/package.json"));

  app.get("/", (c) => c.redirect(SWAGGER_PAGE));
  app.get(BASE, (c) => c.redirect(SWAGGER_PAGE));
  app.get(`${BASE}/`, (c) => c.redirect(SWAGGER_PAGE));

  app.get(SWAGGER_PAGE, (c) => {
    const nonce = randomBytes(16).toString("base64");
    return c.html(page(nonce), 200, { "Content-Security-Policy": contentSecurityPolicy(nonce) });
  });

  app.get(`${ASSETS_PATH}/:asset`, async (c) => {
    const name = c.req.param("asset");
    if (!Object.hasOwn(ASSETS, name)) throw new ProblemError("not-found");
    const content = await readFile(path.join(folder, name));
    return c.body(content, 200, {
      "Content-Type": ASSETS[name] ?? "",
      "Cache-Control": "public, max-age=86400",
    });
  });
}

function contentSecurityPolicy(nonce: string): string {
  return [
    "default-src 'none'",
    `script-src 'nonce-${nonce}'`,
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
}

function page(nonce: string): string {
  const ui = SwaggerUI({
    baseUrl: BASE,
    url: DOCUMENT_PATH,
    validatorUrl: "none",
    deepLinking: true,
    displayRequestDuration: true,
    tryItOutEnabled: true,
  });
  return `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>outbox-relayer API</title>
    <link rel="icon" type="image/png" href="${ASSETS_PATH}/favicon-32x32.png">
  </head>
  <body>${ui.replaceAll("<script", `<script nonce="${nonce}"`)}</body>
</html>
`;
}
