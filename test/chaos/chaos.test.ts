import { randomBytes } from "node:crypto";
import { expect, it } from "vitest";
import { report } from "./report.ts";
import { runChaos } from "./run.ts";

it("loses nothing and sends nothing twice without a reason, whatever breaks", async () => {
  const seed = randomBytes(4).toString("hex");
  const [seconds, rate, relayers] = [10, 200, 3];
  console.log(`npm run chaos -- --seed ${seed} --seconds ${seconds} --rate ${rate} --relayers ${relayers}`);
  const result = await runChaos({ seed, seconds, rate, relayers, say: () => {} });
  if (result.violations.length > 0) console.log(report(result));
  expect(result.violations).toEqual([]);
  // A SIGSTOP or a frozen Postgres may take up most of the time; four lanes of faults have each had their turn.
  expect(result.facts.faults.spans.length).toBeGreaterThanOrEqual(3);
  expect(result.facts.places.length).toBeGreaterThan(200);
}, 120_000);
