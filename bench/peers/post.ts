import { createDeadlineWheel } from "../../src/gateway/deadline-wheel.ts";
import { createWebhook } from "../../src/gateway/webhook.ts";
import type { Post } from "./peer.ts";

/** With the relayer's own HTTP client, so that no peer loses by a slower one. */
export function createPost(url: string, concurrency: number): Post {
  const webhook = createWebhook({
    url,
    timeoutMs: 10_000,
    concurrency,
    installation: "0123456789ab",
    userAgent: "outbox-relayer/0.0.0",
    deadlines: createDeadlineWheel(),
  });
  return (message) =>
    new Promise((resolve, reject) => {
      const sendable = { ...message, traceparent: null, revision: 0, expiresAtMs: Number.POSITIVE_INFINITY };
      webhook.send(sendable, ({ gatewayMessageId, error }) => {
        if (gatewayMessageId === null) reject(new Error(error ?? "not accepted"));
        else resolve(gatewayMessageId);
      });
    });
}
