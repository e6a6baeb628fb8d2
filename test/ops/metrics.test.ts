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
