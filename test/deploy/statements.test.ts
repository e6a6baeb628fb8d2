import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { readCases } from "./rules.ts";

const database = useDatabase();
const page = readFileSync(new URL("../../docs/monitoring.md", import.meta.url), "utf8");

/** As they are told: with the names of gateways and reasons in them. */
const looks = readCases().tests.flatMap(({ alert_rule_test }) =>
  alert_rule_test.flatMap(({ exp_alerts }) => exp_alerts.map((one) => one.exp_annotations.look as string)),
);
const blocks = [...page.matchAll(/```sql\n(.*?)```/gs)].map(([, sql]) =>
  (sql as string).replace(/--.*/g, ""),
);
const inline = [...page.matchAll(/`((?:select|update) [^`]*)`/g)].map(([, sql]) => sql as string);

const statements = [...new Set([...looks, ...blocks, ...inline].flatMap((text) => text.split(";")))]
  .map((text) => /\b(?:select|update) .*/s.exec(text)?.[0])
  .filter((sql) => sql !== undefined);

test("statements are found", () => {
  expect(statements).toContain("select * from outbox.failures");
  expect(statements).toContain("select outbox.resume('default')");
  expect(statements.length).toBeGreaterThan(15);
});

test.each(statements)("%s", async (sql) => {
  await database.pool.query(`explain ${sql}`);
});
