import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { ERRORS_PAGE, errorsPage } from "../../docs/errors.ts";

test("docs/errors.md documents every problem as it is (npm run docs:errors writes it anew)", () => {
  expect(readFileSync(ERRORS_PAGE, "utf8")).toBe(errorsPage());
});
