/*
 * npm run chaos -- [--seconds N] [--seed WORD] [--rate N] [--relayers N] [--keep-logs]
 * npm run chaos -- recovery [--times N]
 */
import { randomBytes } from "node:crypto";
import { parseArgs } from "node:util";
import { measureRecovery, recoveryTable } from "./recovery.ts";
import { report } from "./report.ts";
import { runChaos } from "./run.ts";

const USAGE =
  "npm run chaos -- [--seconds N] [--seed WORD] [--rate N] [--relayers N, at least 2] [--keep-logs]\nnpm run chaos -- recovery [--times N]";

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: "string", default: "60" },
    seed: { type: "string", default: randomBytes(4).toString("hex") },
    rate: { type: "string", default: "200" },
    relayers: { type: "string", default: "3" },
    "keep-logs": { type: "boolean", default: false },
    times: { type: "string", default: "50" },
  },
});
const [command = "all", ...rest] = positionals;
const [seconds, rate, relayers, times] = [values.seconds, values.rate, values.relayers, values.times].map(
  Number,
) as [number, number, number, number];
const usable = [seconds, rate, relayers - 1, times].every(
  (number) => Number.isInteger(number) && number >= 1,
);
if (!["all", "recovery"].includes(command) || rest.length > 0 || !usable) {
  console.error(USAGE);
  process.exit(1);
}

const started = performance.now();
const say = (line: string) =>
  console.log(`${((performance.now() - started) / 1_000).toFixed(1).padStart(6)} s  ${line}`);

if (command === "recovery") {
  const recoveries = await measureRecovery({ times, say });
  console.log(recoveryTable(recoveries));
  if (!recoveries.every((tookMs) => tookMs <= 2_000)) process.exitCode = 1;
} else {
  console.log(
    `npm run chaos -- --seed ${values.seed} --seconds ${seconds} --rate ${rate} --relayers ${relayers}`,
  );
  const result = await runChaos({
    seed: values.seed,
    seconds,
    rate,
    relayers,
    keepLogs: values["keep-logs"],
    say,
  });
  console.log(`\n${report(result)}`);
  if (result.violations.length > 0) process.exitCode = 1;
}
