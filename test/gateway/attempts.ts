import { onTestFinished } from "vitest";
import { createDeadlineWheel, type DeadlineWheel } from "../../src/gateway/deadline-wheel.ts";
import type { Outcome } from "../../src/gateway/outcome.ts";
import {
  createWebhook,
  type Sendable,
  type Webhook,
  type WebhookOptions,
} from "../../src/gateway/webhook.ts";

export function anyMessage(id: number): Sendable {
  return {
    id,
    recipient: "+905551234567",
    content: "hi",
    traceparent: null,
    revision: 0,
    expiresAtMs: Number.POSITIVE_INFINITY,
  };
}

/** A webhook whose every attempt is a promise, and every attempt that ends twice, or inside send(), an error. */
export interface Attempts {
  readonly webhook: Webhook;
  readonly deadlines: DeadlineWheel;
  post(message?: Partial<Sendable>): Promise<Outcome>;
}

export function attemptsAt(url: string, options: Partial<WebhookOptions> = {}): Attempts {
  const deadlines = createDeadlineWheel();
  const webhook = createWebhook({
    url,
    timeoutMs: 10_000,
    concurrency: 4,
    installation: "test",
    userAgent: "outbox-relayer/test",
    deadlines,
    ...options,
  });
  const faults: string[] = [];
  let lastId = 0;
  onTestFinished(async () => {
    webhook.abort("the test is over");
    await webhook.close();
    if (deadlines.size > 0) faults.push(`${deadlines.size} deadlines were left`);
    if (faults.length > 0) throw new Error(faults.join("\n"));
  });
  return {
    webhook,
    deadlines,
    post(message = {}) {
      lastId += 1;
      const whole = { ...anyMessage(lastId), ...message };
      return new Promise((resolve) => {
        let ends = 0;
        let returned = false;
        webhook.send(whole, (outcome) => {
          ends += 1;
          if (ends > 1) faults.push(`message ${whole.id} ended ${ends} times`);
          if (!returned) faults.push(`message ${whole.id} ended inside send()`);
          resolve(outcome);
        });
        returned = true;
      });
    },
  };
}
