import { isUtf8 } from "node:buffer";
import type { MiddlewareHandler } from "hono";
import { accepts } from "hono/accepts";
import type { ApiDependencies, ApiEnv } from "./dependencies.ts";
import { ProblemError } from "./problem.ts";

type Guard = MiddlewareHandler<ApiEnv>;

const LOOPBACK_NAME = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?$/i;

/**
 * Against DNS rebinding: a web page may point its own name at 127.0.0.1 and so reach a server that listens on
 * loopback only, but the browser then still sends that name as the Host.
 */
export const onlyLoopbackNames: Guard = async (c, next) => {
  const host = hostOf(c.req.raw);
  if (!LOOPBACK_NAME.test(host))
    throw new ProblemError(
      "wrong-host",
      "It listens on loopback only: call it localhost, 127.0.0.1 or [::1].",
    );
  await next();
};

/**
 * Against cross-site request forgery: a web page elsewhere can make a browser send a POST, though not read the
 * answer. Browsers then say where the page is from; curl and services do not, and pass.
 */
export function onlyOwnOrigin(friends: readonly string[]): Guard {
  return async (c, next) => {
    const origin = c.req.header("Origin");
    const foreign = c.req.header("Sec-Fetch-Site") === "cross-site";
    const friend = origin !== undefined && friends.includes(origin);
    if (!friend && (foreign || (origin !== undefined && !namesHost(origin, hostOf(c.req.raw)))))
      throw new ProblemError(
        "foreign-origin",
        "This changes something, so only pages of this server, and of api.cors_origins, may ask for it.",
      );
    await next();
  };
}

/** Questions are answered, and messages taken, also while this process has no number to relay under. */
const NOT_NEEDED = new Set(["relayer"]);

export function whenReady(
  dependencies: Pick<ApiDependencies, "ready">,
  alsoNotNeeded: () => readonly string[] = () => [],
): Guard {
  return async (_c, next) => {
    const notNeeded = NOT_NEEDED.union(new Set(alsoNotNeeded()));
    const failing = Object.entries(dependencies.ready().parts).filter(
      ([name, { ok }]) => !ok && !notNeeded.has(name),
    );
    if (failing.length > 0) throw new ProblemError("not-ready", notReadyDetail(failing));
    await next();
  };
}

/** What zod-openapi leaves open: it takes any other …+json as well, and, without a media type, nothing at all for `{}`. */
export function onlyMediaTypesOf(body: { readonly required?: boolean; readonly content: object }): Guard {
  const types = Object.keys(body.content);
  return async (c, next) => {
    const type = c.req.header("Content-Type")?.split(";")[0]?.trim().toLowerCase();
    if (type === undefined ? body.required : !types.includes(type))
      throw new ProblemError("unsupported-media-type", `Send a body as ${types.join(" or ")}.`);
    await next();
  };
}

/** Read as text, what is no UTF-8 would be replaced without a word, and a "für" in Latin-1 be sent as "f�r". */
export const onlyUtf8: Guard = async (c, next) => {
  if (!isUtf8(await c.req.arrayBuffer()))
    throw new ProblemError("malformed-request", "The body is not in UTF-8.");
  await next();
};

export const onlyJsonWanted = onlyWanted("application/json");
export const onlyEventsWanted = onlyWanted("text/event-stream");

function onlyWanted(mediaType: string): Guard {
  const fitting = new Set([mediaType, mediaType.replace(/\/.*/, "/*"), "*/*"]);
  return async (c, next) => {
    const wanted = accepts(c, {
      header: "Accept",
      supports: [mediaType],
      default: mediaType,
      match: (ranges) =>
        ranges.length === 0 || ranges.some(({ type, q }) => q > 0 && fitting.has(type.toLowerCase()))
          ? mediaType
          : "",
    });
    if (wanted === "") throw new ProblemError("not-acceptable", `Accept ${mediaType}.`);
    await next();
  };
}

function notReadyDetail(failing: readonly (readonly [string, { detail?: string }])[]): string {
  return failing.map(([name, { detail }]) => (detail === undefined ? name : `${name}: ${detail}`)).join("; ");
}

/** In process, without a server, requests have no Host header but do have a full URL. */
function hostOf(request: Request): string {
  return request.headers.get("Host") ?? new URL(request.url).host;
}

/** Through `URL`, so that a port that goes without saying may be said or not. */
function namesHost(origin: string, host: string): boolean {
  const page = URL.parse(origin);
  return page !== null && page.host === URL.parse(`${page.protocol}//${host}`)?.host;
}
