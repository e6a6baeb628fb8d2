import type { OutcomeKind } from "../../src/gateway/outcome.ts";
import type { Answer } from "../support/http-gateway.ts";
import type { Seed } from "./seed.ts";

/** One way in which the gateway answers. */
export interface GatewayAnswer {
  readonly name: string;
  readonly weight: number;
  /** Will the gateway deliver the message, whatever it says of it? */
  readonly taken: boolean;
  /** Can whoever reads it know what it says? */
  readonly clean: boolean;
  /** What an attempt with it may be recorded as. */
  readonly shows: readonly OutcomeKind[];
  readonly give: (messageId: string, seed: Seed) => Answer;
}

const receipt = (messageId: string) => ({ message: "Accepted", messageId });
const receiptText = (messageId: string) => JSON.stringify(receipt(messageId));
const HTML = "<!doctype html><html><body><h1>Welcome to nginx</h1></body></html>";
const TEN_MEGABYTES = Buffer.alloc(10_000_000, "x");

export const ACCEPTS: GatewayAnswer = {
  name: "accepts",
  weight: 65,
  taken: true,
  clean: true,
  shows: ["accepted"],
  give: (messageId, seed) => ({ body: receipt(messageId), delayMs: seed.between(0, 120) }),
};
export const HANGS: GatewayAnswer = unclear("hangs", 0.6, false, () => ({ fault: "hang" }));
export const UNAVAILABLE = status(503, "retry", 0.7);

/** What it does in ordinary times: five of six answers are in order. */
export const WEATHER: readonly GatewayAnswer[] = [
  ACCEPTS,
  { ...ACCEPTS, name: "accepts slowly", weight: 15, give: slowly(100, 500) },
  {
    ...ACCEPTS,
    name: "accepts and closes",
    weight: 5,
    give: (messageId) => ({ body: receipt(messageId), thenClose: true }),
  },
  // On a busy machine its answer may be there before anybody looks at the clock.
  { ...unclear("accepts too late", 1, true, slowly(1_200, 2_000)), shows: ["unknown", "accepted"] },
  unclear("takes it and hangs", 0.6, true, () => ({ fault: "hang" })),
  unclear("takes it and resets", 1, true, () => ({ fault: "reset" })),
  unclear("resets in the answer", 1, true, () => ({ fault: "reset-mid-answer" })),
  unclear("drips", 0.5, true, () => ({ fault: "drip" })),
  unclear("stalls", 0.5, true, () => ({ fault: "stall" })),
  unclear("promises a longer body", 1, true, (messageId) => raw(receiptText(messageId), 500, true)),
  HANGS,
  unclear("resets", 1, false, () => ({ fault: "reset" })),
  status(408, "retry", 0.7),
  status(425, "retry", 0.7),
  status(500, "retry", 0.7),
  status(502, "retry", 0.7, HTML),
  UNAVAILABLE,
  status(504, "retry", 0.7, HTML),
  status(500, "retry", 0.1, TEN_MEGABYTES),
  status(400, "rejected", 0.3),
  status(422, "rejected", 0.3),
  status(200, "rejected", 0.2, HTML),
  status(201, "rejected", 0.2),
  status(202, "rejected", 0.2),
  status(202, "rejected", 0.1, TEN_MEGABYTES),
  {
    ...unclear("promises a shorter body", 0.2, true, (messageId) => raw(receiptText(messageId), 10, false)),
    shows: ["rejected", "unknown"],
  },
  ...[429, 503].map((code) => status(code, "throttled", 0.02, "slower", { "retry-after": "1" })),
  {
    ...status(429, "throttled", 0.02),
    name: "429 Retry-After, a date",
    give: () => ({
      status: 429,
      body: "slower",
      headers: { "retry-after": new Date(Date.now() + 1_000).toUTCString() },
    }),
  },
  ...[401, 402, 403, 404, 405, 407, 410].map((code) => status(code, "hold", 0.004)),
  ...[301, 302, 307, 308].map((code) => status(code, "hold", 0.004, "", { location: "/elsewhere" })),
];

function status(
  code: number,
  shows: OutcomeKind,
  weight: number,
  body: string | Buffer = "no",
  headers: Record<string, string> = {},
): GatewayAnswer {
  const suffix = [body === HTML ? " HTML" : "", body === TEN_MEGABYTES ? " 10 MB" : ""].join("");
  const asked = "retry-after" in headers ? " Retry-After" : "";
  return {
    name: `${code}${suffix}${asked}`,
    weight,
    taken: false,
    clean: true,
    shows: [shows],
    give: () => ({ status: code, body, headers }),
  };
}

function unclear(name: string, weight: number, taken: boolean, give: GatewayAnswer["give"]): GatewayAnswer {
  return { name, weight, taken, clean: false, shows: ["unknown"], give };
}

function slowly(least: number, most: number): GatewayAnswer["give"] {
  return (messageId, seed) => ({ body: receipt(messageId), delayMs: seed.between(least, most) });
}

function raw(body: string, length: number, end: boolean): Answer {
  const head = `HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: ${length}\r\n\r\n`;
  return { fault: "raw", bytes: head + body, end };
}
