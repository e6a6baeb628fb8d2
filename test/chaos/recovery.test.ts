import { expect, it } from "vitest";
import { measureRecovery, recoveryTable } from "./recovery.ts";

it("frees the claims of a killed relayer within 2 s, each time", async () => {
  const recoveries = await measureRecovery({ times: 10, say: () => {} });
  console.log(recoveryTable(recoveries));
  expect(recoveries).toHaveLength(10);
  expect(Math.max(...recoveries)).toBeLessThanOrEqual(2_000);
}, 120_000);
