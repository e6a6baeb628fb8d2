import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { readRules } from "./rules.ts";

/** The defaults of the built-in alerts. */
const { alerts: settings } = parse(readFileSync(new URL("../../config.yaml", import.meta.url), "utf8")) as {
  alerts: Record<string, unknown>;
};
const rules = readRules().alerts;

describe("who is told by Prometheus is told at the same time as by Slack", () => {
  test.each([
    ["OutboxGatewayHeld", "gateway_held"],
    ["OutboxGatewayThrottled", "gateway_held"],
    ["OutboxCircuitOpen", "gateway_held"],
    ["OutboxSchedulerStopped", "scheduler_stopped"],
    ["OutboxGatewayPaused", "scheduler_stopped"],
    ["OutboxNoRelayerAlive", "no_relayer"],
  ])("%s after %s", (alert, setting) => {
    expect(rules.filter((rule) => rule.alert === alert).map((rule) => rule.for)).toEqual([settings[setting]]);
  });

  test.each([
    ["OutboxNewDeadLetters", "new_dead_letters", 1, ["> 0"]],
    ["OutboxManyDeadLetters", "dead_letters", 100, ["> 100"]],
    ["OutboxMessageWaitsTooLong", "oldest_due_age", "5m", ["> 300", "> 1500"]],
    ["OutboxQueryStoreLags", "query_store_lag", "1m", ["> 60"]],
    ["OutboxSlotRetainsWal", "slot_wal", "1GB", ["> 2 ^ 30", "> 4 * 2 ^ 30"]],
  ])("%s by %s: %s", (alert, setting, value, thresholds) => {
    expect(settings[setting]).toBe(value);
    const found = rules
      .filter((rule) => rule.alert === alert)
      .map(({ expr }) => /> [\d*^ ]*\d/.exec(expr)?.[0]);
    expect(found).toEqual(thresholds);
  });
});
