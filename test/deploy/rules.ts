import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { z } from "zod";

export const RULES = new URL("../../deploy/prometheus/rules.yml", import.meta.url);
export const RULES_TEST = new URL("../../deploy/prometheus/rules.test.yml", import.meta.url);

const labels = z.record(z.string(), z.string());

const Recording = z.strictObject({ record: z.string(), expr: z.string(), labels: labels.optional() });
const Alert = z.strictObject({
  alert: z.string(),
  expr: z.string(),
  for: z.string().optional(),
  labels: z.strictObject({ severity: z.enum(["critical", "warning"]) }),
  annotations: z.strictObject({
    summary: z.string().min(1),
    description: z.string().min(1),
    look: z.string().min(1),
    runbook: z.string().min(1),
  }),
});
const Rules = z.strictObject({
  groups: z.array(z.strictObject({ name: z.string(), rules: z.array(z.union([Recording, Alert])) })),
});

const Cases = z.object({
  group_eval_order: z.array(z.string()),
  tests: z.array(
    z.object({
      name: z.string(),
      alert_rule_test: z
        .array(
          z.strictObject({
            eval_time: z.string(),
            alertname: z.string(),
            exp_alerts: z.array(z.strictObject({ exp_labels: labels, exp_annotations: labels })).default([]),
          }),
        )
        .default([]),
    }),
  ),
});

export type Recording = z.infer<typeof Recording>;
export type Alert = z.infer<typeof Alert>;

/** The file holds nothing but what these shapes allow: an alert without a look or a runbook is a fault. */
export function readRules(): { groups: string[]; recordings: Recording[]; alerts: Alert[] } {
  const { groups } = Rules.parse(parse(readFileSync(RULES, "utf8")));
  const rules = groups.flatMap((group) => group.rules);
  return {
    groups: groups.map((group) => group.name),
    recordings: rules.filter((rule) => "record" in rule),
    alerts: rules.filter((rule) => "alert" in rule),
  };
}

export function readCases(): z.infer<typeof Cases> {
  return Cases.parse(parse(readFileSync(RULES_TEST, "utf8")));
}
