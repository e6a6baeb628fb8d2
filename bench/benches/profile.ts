import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Pool } from "pg";
import type { Bench, Row } from "../support/bench.ts";
import { cpuOfRelaying, taken } from "../support/cpu-of-relaying.ts";
import { type CpuProfile, timeByArea } from "../support/cpu-profile.ts";
import type { CpuTime } from "../support/cpu-time.ts";
import { insertAndRelay, insertMessages, relayPaused } from "../support/messages.ts";
import { KERNEL, NODE, relayerArea } from "../support/relayer-areas.ts";
import type { Stage } from "../support/stage.ts";

const MESSAGES = 100_000;
/** Counts the relayer's statements, and not the bench's own. */
const COUNTED = { PGOPTIONS: "-c pg_stat_statements.track=top" };
const SAMPLE_EVERY_US = 500;

/** What a part of the work took, for all messages together. */
interface Piece {
  readonly part: string;
  readonly case: string;
  readonly us: number;
}

/**
 * Relays twice: with the relayer as it is, for the CPU time of every process, and with the profiler, for where in the relayer it
 * goes. The profiler slows the relayer down, so its areas are shares, of what the relayer takes without it. And it goes by the
 * clock: a write wakes its receiver, which often takes the core, and the wait for it looks like a long write. So the time in
 * system calls is Linux's, and only what remains is shared.
 */
export const profile: Bench = {
  measures:
    "where a message's CPU time goes, by process and by area of the relayer; the time in its statements",
  settings: { shared_preload_libraries: "pg_stat_statements", "pg_stat_statements.track": "none" },
  async run(stage) {
    if (process.platform !== "linux") {
      stage.say("measures nothing here: it reads /proc, which only Linux has");
      return [];
    }
    const gateway = await stage.gateway();
    await stage.pool.query("create extension pg_stat_statements");
    await stage.pool.query("select outbox.pause()");

    stage.say("without the profiler");
    const relayer = await stage.relayer({ webhookUrl: gateway.url, env: COUNTED });
    const look = () => cpuOfRelaying(stage.pool, relayer.pid, gateway.pid);
    const { before: first, after: last } = await relay(stage, async (relaying) => {
      await stage.pool.query("select pg_stat_statements_reset()");
      const before = await look();
      await relaying();
      return { before, after: await look() };
    });
    const statements = await statementTimes(stage.pool);
    await relayer.stop();

    stage.say("with the profiler");
    const areas = await areasOfRelayer(stage, gateway.url);
    areas.delete(KERNEL);

    const cpu = taken(first, last);
    const messages = stage.size(MESSAGES);
    return [
      ...rows(messages, [
        { part: "gateway", case: gateway.kind, us: total(cpu.gateway) },
        ...shared("relayer", cpu.relayer.userUs, areas),
        { part: "relayer", case: KERNEL, us: cpu.relayer.systemUs },
        { part: "postgres", case: "claims and settles", us: total(cpu.sessions) },
        { part: "postgres", case: "in the background", us: total(cpu.background) },
      ]),
      ...rows(messages, statements),
    ];
  },
};

/** Relays once to warm up and once under `watch`, and leaves the outbox paused. */
async function relay<T>(
  { pool, size }: Stage,
  watch: (relaying: () => Promise<number>) => Promise<T>,
): Promise<T> {
  await insertAndRelay(pool, size(MESSAGES / 4));
  await insertMessages(pool, size(MESSAGES));
  const watched = await watch(() => relayPaused(pool, size(MESSAGES)));
  await pool.query("select outbox.pause()");
  return watched;
}

/** Time by area of the code, in microseconds, while the profiler slows it down. */
async function areasOfRelayer(stage: Stage, webhookUrl: string): Promise<Map<string, number>> {
  const folder = mkdtempSync(join(tmpdir(), "outbox-profile-"));
  stage.atEnd(() => rmSync(folder, { recursive: true, force: true }));
  const nodeFlags = ["--cpu-prof", `--cpu-prof-dir=${folder}`, `--cpu-prof-interval=${SAMPLE_EVERY_US}`];
  const relayer = await stage.relayer({ webhookUrl, nodeFlags });
  const between = await relay(stage, async (relaying) => {
    const from = nowUs();
    await relaying();
    return [from, nowUs()] as const;
  });
  await relayer.stop(); // writes the profile
  const [file] = readdirSync(folder);
  const written: CpuProfile = JSON.parse(readFileSync(join(folder, file as string), "utf8"));
  return timeByArea(written, between, relayerArea, NODE);
}

/** Elapsed, not CPU: with what a statement waits for. */
async function statementTimes(pool: Pool): Promise<Piece[]> {
  const { rows } = await pool.query<{ statement: string; us: number }>(
    `select coalesce(substring(query from 'outbox\\.(claim|settle|next_due)\\('), 'others') as statement,
            sum(total_exec_time) * 1000 as us
     from pg_stat_statements
     group by 1
     order by 2 desc`,
  );
  return rows.map(({ statement, us }) => ({ part: "statements", case: statement, us }));
}

/** Shares a total among areas, the largest first. */
function shared(part: string, us: number, areas: ReadonlyMap<string, number>): Piece[] {
  const whole = [...areas.values()].reduce((sum, time) => sum + time, 0);
  return [...areas]
    .sort(([, one], [, other]) => other - one)
    .map(([area, time]) => ({ part, case: area, us: (us * time) / whole }));
}

function rows(messages: number, pieces: readonly Piece[]): Row[] {
  const whole = pieces.reduce((sum, { us }) => sum + us, 0);
  return pieces.map(({ part, case: name, us }) => ({
    case: name,
    part,
    us_per_message: us / messages,
    share: whole === 0 ? 0 : us / whole,
  }));
}

function total({ userUs, systemUs }: CpuTime): number {
  return userUs + systemUs;
}

function nowUs(): number {
  return Number(process.hrtime.bigint() / 1_000n);
}
