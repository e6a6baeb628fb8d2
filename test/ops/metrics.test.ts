import { expect, test } from "vitest";
import { createMetrics } from "../../src/ops/metrics.ts";

async function linesOf(metrics: ReturnType<typeof createMetrics>): Promise<string[]> {
  return (await metrics.render()).body.split("\n");
}

test("renders the Prometheus text format, with the build and the process", async () => {
  const { contentType, body } = await createMetrics({ version: "1.2.3" }).render();
  expect(contentType).toBe("text/plain; version=0.0.4; charset=utf-8");
  expect(body).toContain(`outbox_build_info{version="1.2.3",node="${process.version}"} 1\n`);
  expect(body).toContain("process_cpu_seconds_total");
  expect(body).toContain("nodejs_eventloop_lag_seconds");
});

test("a gateway's series are there from the start, at zero", async () => {
  const metrics = createMetrics({ version: "1" });
  metrics.gateway("default");
  const lines = await linesOf(metrics);
  for (const outcome of ["accepted", "rejected", "retry", "throttled", "unknown", "hold"])
    expect(lines).toContain(`outbox_attempts_total{gateway="default",outcome="${outcome}"} 0`);
  for (const reason of ["rejected", "exhausted", "expired", "cancelled"])
    expect(lines).toContain(`outbox_dead_letters_total{gateway="default",reason="${reason}"} 0`);
  for (const source of ["notify", "timer", "cron", "poll"])
    expect(lines).toContain(`outbox_wakeups_total{source="${source}"} 0`);
  expect(lines).toContain('outbox_inflight{gateway="default"} 0');
});

test("counts what it is told, by gateway", async () => {
  const metrics = createMetrics({ version: "1" });
  const gateway = metrics.gateway("default");
  gateway.attempt("accepted", 0.02);
  gateway.attempt("accepted", 29);
  gateway.attempt("retry", 31);
  gateway.deadLetters("exhausted", 4);
  gateway.inflight(12);
  metrics.gateway("bulk").attempt("accepted", 1);
  expect(await linesOf(metrics)).toEqual(
    expect.arrayContaining([
      'outbox_attempts_total{gateway="default",outcome="accepted"} 2',
      'outbox_attempts_total{gateway="default",outcome="retry"} 1',
      'outbox_attempts_total{gateway="bulk",outcome="accepted"} 1',
      'outbox_attempt_duration_seconds_bucket{le="0.025",gateway="default"} 1',
      'outbox_attempt_duration_seconds_bucket{le="30",gateway="default"} 2',
      'outbox_attempt_duration_seconds_bucket{le="+Inf",gateway="default"} 3',
      'outbox_attempt_duration_seconds_count{gateway="bulk"} 1',
      'outbox_dead_letters_total{gateway="default",reason="exhausted"} 4',
      'outbox_inflight{gateway="default"} 12',
    ]),
  );
});

test("counts claims, settles, wake-ups and the rest", async () => {
  const metrics = createMetrics({ version: "1" });
  metrics.claim(0.004);
  metrics.settle(0.004, 500);
  metrics.staleSettles(2);
  metrics.rescuedClaims(3);
  metrics.wakeup("notify");
  metrics.redisError();
  metrics.schedulerRunning(true);
  expect(await linesOf(metrics)).toEqual(
    expect.arrayContaining([
      'outbox_claim_duration_seconds_bucket{le="0.005"} 1',
      'outbox_settle_duration_seconds_bucket{le="0.005"} 1',
      'outbox_settle_batch_size_bucket{le="250"} 0',
      'outbox_settle_batch_size_bucket{le="500"} 1',
      "outbox_stale_settles_total 2",
      "outbox_rescued_claims_total 3",
      'outbox_wakeups_total{source="notify"} 1',
      "outbox_redis_errors_total 1",
      "outbox_scheduler_running 1",
    ]),
  );
  metrics.schedulerRunning(false);
  expect(await linesOf(metrics)).toContain("outbox_scheduler_running 0");
});

test("a gateway's handle is made once, and registries share nothing", async () => {
  const one = createMetrics({ version: "1" });
  expect(one.gateway("default")).toBe(one.gateway("default"));
  one.redisError();
  expect(await linesOf(createMetrics({ version: "2" }))).toContain("outbox_redis_errors_total 0");
});

test("how long messages had been due is counted by gateway and priority, up to an hour", async () => {
  const metrics = createMetrics({ version: "1" });
  metrics.gateway("default").delivered(0, 0.004);
  metrics.gateway("default").delivered(0, 3_599);
  metrics.gateway("default").delivered(2, 7_200);
  expect(await linesOf(metrics)).toEqual(
    expect.arrayContaining([
      'outbox_delivery_latency_seconds_bucket{le="0.005",gateway="default",priority="0"} 1',
      'outbox_delivery_latency_seconds_bucket{le="1800",gateway="default",priority="0"} 1',
      'outbox_delivery_latency_seconds_bucket{le="3600",gateway="default",priority="0"} 2',
      'outbox_delivery_latency_seconds_bucket{le="3600",gateway="default",priority="2"} 0',
      'outbox_delivery_latency_seconds_bucket{le="+Inf",gateway="default",priority="2"} 1',
      'outbox_delivery_latency_seconds_sum{gateway="default",priority="0"} 3599.004',
      'outbox_delivery_latency_seconds_count{gateway="default",priority="1"} 0',
    ]),
  );
});

test("each gateway that there is has its series, and one that is gone has none, until it is back at zero", async () => {
  const metrics = createMetrics({ version: "1" });
  const of = async (name: string) => (await linesOf(metrics)).filter((line) => line.includes(`"${name}"`));
  metrics.gateways(["default", "bulk"]);
  expect((await of("bulk")).length).toBeGreaterThan(50);
  metrics.gateway("bulk").attempt("accepted", 1);
  metrics.gateway("bulk").inflight(1);
  metrics.gateways(["default"]);
  expect(await of("bulk")).toEqual([]);
  expect((await of("default")).length).toBeGreaterThan(50);
  metrics.gateways(["default", "bulk"]);
  expect(await of("bulk")).toContain('outbox_attempts_total{gateway="bulk",outcome="accepted"} 0');
});

test("what is not known is absent: no 0 that nobody has measured", async () => {
  const metrics = createMetrics({ version: "1" });
  const shown = async () =>
    (await linesOf(metrics)).filter((line) => /^outbox_(query_store|scheduler|postgres)/.test(line));
  expect(await shown()).toEqual([]);
  metrics.queryStoreLag(1.5);
  expect(await shown()).toEqual(["outbox_query_store_lag_seconds 1.5"]);
  metrics.queryStoreLag(undefined);
  expect(await shown()).toEqual([]);
});

test("a NOTIFY that was not needed is counted, and each reason to look", async () => {
  const metrics = createMetrics({ version: "1" });
  metrics.notifySkipped();
  for (const source of ["timer", "poll", "poll"] as const) metrics.wakeup(source);
  expect(await linesOf(metrics)).toEqual(
    expect.arrayContaining([
      "outbox_notify_skipped_total 1",
      'outbox_wakeups_total{source="timer"} 1',
      'outbox_wakeups_total{source="poll"} 2',
      'outbox_wakeups_total{source="cron"} 0',
    ]),
  );
});

test("scrapes at once share one rendering, and so do those that come while it rests", async () => {
  let asked = 0;
  const figures = async () => {
    asked++;
    return { up: true, queue: undefined, server: undefined };
  };
  const metrics = createMetrics({ version: "1", figures, rest: 1e9 });
  const all = await Promise.all([metrics.render(), metrics.render(), metrics.render()]);
  expect(new Set(all.map(({ body }) => body)).size).toBe(1);
  metrics.redisError();
  expect(await metrics.render()).toEqual(all[0]);
  expect(asked).toBe(1);
});

test("a rendering that fails is not remembered", async () => {
  let asked = 0;
  const figures = async () => {
    if (asked++ === 0) throw new Error("no");
    return { up: true, queue: undefined, server: undefined };
  };
  const metrics = createMetrics({ version: "1", figures, rest: 1e9 });
  await expect(metrics.render()).rejects.toThrow("no");
  expect((await metrics.render()).body).toContain("outbox_postgres_up 1\n");
});
