import type { AddJobFunction, JobHelpers, Task, TaskSpec } from "graphile-worker";
import { describe, expect, test } from "vitest";
import type { Finding, Notice } from "../../../src/db/alerts.ts";
import type { Channel, Delivery } from "../../../src/ops/alerts/channel.ts";
import { queryStoreLag } from "../../../src/ops/alerts/query-store-lag.ts";
import { createAlertTask } from "../../../tasks/alert.ts";
import { createNotifyTask } from "../../../tasks/notify.ts";
import { notice } from "./notices.ts";

type Line = readonly [level: string, fields: Record<string, unknown>, message: string];

/** Runs a task as Graphile Worker would, on this attempt; the jobs that it adds are returned. */
async function run(task: Task, payload: unknown, attempts = 1, abortSignal = new AbortController().signal) {
  const added: { name: string; payload: unknown; spec: TaskSpec | undefined }[] = [];
  const addJob = (async (name: string, its: unknown, spec?: TaskSpec) => {
    added.push({ name, payload: its, spec });
  }) as unknown as AddJobFunction;
  const job = { task_identifier: "notify_slack", attempts, max_attempts: 10 };
  await task(payload as never, { job, addJob, abortSignal } as unknown as JobHelpers);
  return added;
}

describe("notify", () => {
  function notifying(delivery: Delivery) {
    const lines: Line[] = [];
    const channel: Channel = { name: "slack", send: async () => delivery };
    return { lines, task: createNotifyTask({ channel, log: (...line) => void lines.push(line) }) };
  }

  test("logs what was sent, and who did not get it", async () => {
    const whole = notifying({ sent: true });
    expect(await run(whole.task, notice())).toEqual([]);
    expect(whole.lines).toEqual([
      ["info", { channel: "slack", notice: notice().id, alerts: 1 }, "notice sent"],
    ]);
    const part = notifying({ sent: true, remark: "x refused" });
    await run(part.task, notice());
    expect(part.lines).toMatchObject([["warn", { reason: "x refused" }, "notice sent, but not to all"]]);
  });

  test("what is not sent fails, for Graphile Worker to try again; the last time it is given up, and said so", async () => {
    const { task, lines } = notifying({ sent: false, reason: "HTTP 500" });
    await expect(run(task, notice(), 9)).rejects.toThrow("the notice was not sent: HTTP 500");
    expect(lines).toEqual([]);
    expect(await run(task, notice(), 10)).toEqual([]);
    expect(lines).toMatchObject([["error", { reason: "HTTP 500", attempts: 10 }, "notice given up"]]);
  });

  test("what asks for patience gets it, as a job of its own, but not for ever", async () => {
    const { task } = notifying({ sent: false, reason: "HTTP 429", retryAfterMs: 60_000 });
    const before = Date.now();
    const [job, ...others] = await run(task, notice());
    expect(others).toEqual([]);
    expect(job).toMatchObject({
      name: "notify_slack",
      payload: { ...notice(), deferrals: 1 },
      spec: { queueName: "notices", maxAttempts: 10 },
    });
    expect(Number(job?.spec?.runAt) - before).toBeGreaterThanOrEqual(60_000);
    expect(await run(task, { ...notice(), deferrals: 23 })).toHaveLength(1);
    await expect(run(task, { ...notice(), deferrals: 24 })).rejects.toThrow("HTTP 429");
  });

  test("what the end of the program cuts off is a new job, also on the last attempt", async () => {
    const { task, lines } = notifying({ sent: false, reason: "given up, for the program ends" });
    const added = await run(task, notice(), 10, AbortSignal.abort());
    expect(added).toMatchObject([{ name: "notify_slack", payload: { ...notice(), deferrals: 1 } }]);
    expect(lines).toMatchObject([["warn", { retry_after_ms: 0 }, "notice put off"]]);
  });

  test("what has waited for more than a day is no news any more", async () => {
    const { task, lines } = notifying({ sent: true });
    for (const hours of [23, 25]) {
      const at = new Date(Date.now() - hours * 3_600_000).toISOString();
      await run(task, { ...notice(), at: `${at.slice(0, 19).replace("T", " ")} UTC` });
    }
    expect(lines).toMatchObject([
      ["info", {}, "notice sent"],
      ["warn", { alerts: 1 }, "notice left out: it is more than a day old"],
    ]);
  });

  test("a job of a person's making is told what it lacks", async () => {
    const { task } = notifying({ sent: true });
    for (const payload of [null, {}, { id: "x" }])
      await expect(run(task, payload)).rejects.toThrow("wants what outbox.note_alerts() gives it");
  });
});

describe("alert", () => {
  const LAG: Finding = {
    kind: "query_store_lag",
    key: "query_store_lag",
    severity: "warning",
    summary: "behind",
  };

  function alerting(find?: () => Promise<readonly Finding[]>, told: Notice | null = null) {
    const lines: Line[] = [];
    const noted: unknown[] = [];
    const task = createAlertTask({
      async note(findings, unseen) {
        noted.push({ findings, unseen });
        return told;
      },
      further: find && { kinds: ["query_store_lag"], find },
      log: (...line) => void lines.push(line),
    });
    return { task, lines, noted };
  }

  test("brings what the process has found besides, and says what it has not looked for", async () => {
    const blind = alerting();
    await run(blind.task, {});
    expect(blind.noted).toEqual([{ findings: [], unseen: ["query_store_lag"] }]);
    const seeing = alerting(async () => [LAG]);
    await run(seeing.task, {});
    expect(seeing.noted).toEqual([{ findings: [LAG], unseen: [] }]);
    const failing = alerting(() => Promise.reject(new Error("no")));
    await run(failing.task, {});
    expect(failing.noted).toEqual([{ findings: [], unseen: ["query_store_lag"] }]);
    expect(failing.lines).toMatchObject([["warn", {}, "could not look for query_store_lag"]]);
  });

  test("logs each thing that is told, once, without any channel", async () => {
    const { task, lines } = alerting(
      undefined,
      notice({}, { event: "recovered" }, { count: null, help: null }),
    );
    await run(task, {});
    expect(lines).toMatchObject([
      [
        "warn",
        {
          kind: "gateway_held",
          severity: "critical",
          count: 12,
          message_ids: [41, 42],
          help: expect.any(String),
        },
        "alert: gateway default fails, and its circuit is open",
      ],
      ["info", { lasted: "7 min" }, "alert over: gateway default fails, and its circuit is open"],
      ["warn", {}, "alert: gateway default fails, and its circuit is open"],
    ]);
    expect(Object.keys(lines[2]?.[1] ?? {})).toEqual(["kind", "severity", "event", "since", "lasted"]);
  });
});

test("the query store's lag is found when it is too long, or cannot be known", async () => {
  const found = (now: { lagMs: number } | { away: string }, thresholdMs: number | null = 60_000) =>
    queryStoreLag({ thresholdMs, lag: async () => now }).find();
  expect(await found({ lagMs: 60_000 })).toEqual([]);
  expect(await found({ lagMs: 90_400 })).toMatchObject([
    { kind: "query_store_lag", severity: "warning", summary: "the query store is 90 s behind" },
  ]);
  expect(await found({ away: "connection refused" })).toMatchObject([
    { summary: "the query store does not answer: connection refused", lastingMs: 60_000 },
  ]);
  expect(await found({ away: "connection refused" }, null)).toEqual([]);
});
