import { once } from "node:events";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Browser, BrowserContext, Page } from "playwright-core";

export interface WatchedPage {
  readonly page: Page;
  /** What left the browser for the page's own server, in its order. */
  readonly requests: readonly Pick<IncomingMessage, "method" | "url" | "headers">[];
  /**
   * What a page should not do: errors and warnings in its console, exceptions, what its security policy had to stop, and requests
   * to any other host, which nobody answers.
   */
  readonly faults: readonly string[];
  /** Resolves when everything that the page has set off by now has come in. */
  readonly settled: () => Promise<void>;
  readonly close: () => Promise<void>;
}

/**
 * A page in a browser without a network, but for one server. Everything that it sends goes through a proxy of ours: also what the
 * browser's own tools do not show, such as icons and connections made ahead.
 */
export async function watchPage(browser: Browser, origin: string): Promise<WatchedPage> {
  const requests: IncomingMessage[] = [];
  const faults: string[] = [];
  const proxy = await startProxy(origin, requests, (what) => faults.push(`another host: ${what}`));
  const context = await browser.newContext({ proxy: { server: proxy.url } });
  await reportTo(context, (fault) => faults.push(fault));
  const page = await context.newPage();
  return {
    page,
    requests,
    faults,
    async settled() {
      await page.waitForLoadState("networkidle");
      // The browser tells things in their order: with this answer, everything before it has arrived.
      await page.evaluate("0");
    },
    async close() {
      await context.close();
      await proxy.close();
    },
  };
}

async function reportTo(context: BrowserContext, report: (fault: string) => void): Promise<void> {
  context.on("console", (message) => {
    if (["error", "warning", "assert"].includes(message.type())) report(`console: ${message.text()}`);
  });
  context.on("weberror", (error) => report(`exception: ${error.error().message}`));
  await context.exposeFunction("reportViolation", (what: string) => report(`policy: ${what}`));
  await context.addInitScript({
    content: `document.addEventListener("securitypolicyviolation", ({ effectiveDirective, blockedURI, sample }) =>
      reportViolation([effectiveDirective, blockedURI, sample].join(" ").trim()));`,
  });
}

async function startProxy(origin: string, passed: IncomingMessage[], refused: (what: string) => void) {
  const server = createServer((asked: IncomingMessage, answer: ServerResponse) => {
    const { method, url = "", headers } = asked;
    if (!url.startsWith(`${origin}/`)) {
      refused(`${method} ${url}`);
      answer.writeHead(502).end();
      return;
    }
    passed.push(asked);
    const forwarded = request(url, { method, headers }, (response) => {
      answer.writeHead(response.statusCode ?? 502, response.headers);
      response.pipe(answer);
    });
    forwarded.on("error", () => answer.destroy());
    // A page that is left ends what it was reading.
    answer.on("close", () => forwarded.destroy());
    asked.pipe(forwarded);
  });
  server.on("connect", ({ url }, socket) => {
    refused(`CONNECT ${url}`);
    socket.on("error", () => {}).end("HTTP/1.1 502 Bad Gateway\r\n\r\n");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}
