import { randomBytes } from "node:crypto";
import { expect, it } from "vitest";
import { report } from "./report.ts";
import { runChaos } from "./run.ts";

it("loses nothing and sends nothing twice without a reason, whatever breaks", async () => {
  const seed = randomBytes(4).toString("hex");
  // A SIGSTOP and a frozen Postgres may take eight seconds each, and are not all there is to see.
  const [seconds, rate, relayers] = [20, 200, 3];
  console.log(`npm run chaos -- --seed ${seed} --seconds ${seconds} --rate ${rate} --relayers ${relayers}`);
  const result = await runChaos({ seed, seconds, rate, relayers, say: () => {} });
  if (result.violations.length > 0) console.log(report(result));
  expect(result.violations).toEqual([]);
  expect(result.facts.faults.spans.length).toBeGreaterThan(5);
  expect(result.facts.places.length).toBeGreaterThan(200);
}, 120_000);
