import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { findPromtool, type Promtool } from "../support/promtool.ts";
import { RULES, RULES_TEST, readCases, readRules } from "./rules.ts";

const CONFIG = new URL("../../deploy/prometheus/prometheus.yml", import.meta.url);
const PAGE = new URL("../../docs/monitoring.md", import.meta.url);

const { groups, alerts } = readRules();
const { group_eval_order, tests } = readCases();
const promtool = await findPromtool();

describe.skipIf(promtool === undefined)("promtool", () => {
  const passes = promtool as Promtool;

  test("finds no fault in the rules, nor in the example of a configuration", async () => {
    await passes("check", "rules", fileURLToPath(RULES));
    await passes("check", "config", fileURLToPath(CONFIG));
  });

  test("sees each alert fire when it should, and not when it should not", async () => {
    await passes("test", "rules", fileURLToPath(RULES_TEST));
  }, 120_000);
});

test("the cases evaluate all groups, in the order of the file", () => {
  expect(group_eval_order).toEqual(groups);
});

const outcomes = tests.flatMap((one) => one.alert_rule_test);

describe.each(alerts.map(({ alert, labels }) => [alert, labels.severity] as const))(
  "%s (%s)",
  (alert, severity) => {
    test("has a case in which it fires, and one in which it does not", () => {
      const itsOwn = outcomes.filter((outcome) => outcome.alertname === alert);
      const fired = itsOwn.flatMap((outcome) => outcome.exp_alerts.map((one) => one.exp_labels.severity));
      expect(fired).toContain(severity);
      expect(itsOwn.filter((outcome) => outcome.exp_alerts.length === 0)).not.toHaveLength(0);
    });
  },
);

test("no case is of an alert that is not there: it would pass for ever", () => {
  const known = new Set(alerts.map(({ alert }) => alert));
  expect(outcomes.map((outcome) => outcome.alertname).filter((name) => !known.has(name))).toEqual([]);
});

test("each alert has a part of docs/monitoring.md, and its runbook is there", () => {
  const headings = [...readFileSync(PAGE, "utf8").matchAll(/^### (Outbox\w+)$/gm)].map(([, name]) => name);
  expect(headings).toEqual([...new Set(alerts.map(({ alert }) => alert))]);
  for (const { alert, annotations } of alerts)
    expect(annotations.runbook).toBe(`docs/monitoring.md#${alert.toLowerCase()}`);
});
