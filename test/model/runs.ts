import fc from "fast-check";
import { OUTCOMES, type OutcomeKind } from "../../src/gateway/outcome.ts";
import { NEVER_BY_A_RUN, type Policy } from "./rules/gateway.ts";
import { FORGETFUL } from "./rules/world.ts";
import type { Do, Run, Step, Target, Told } from "./step.ts";

/** As often as not. */
const maybe = <Value>(arbitrary: fc.Arbitrary<Value>) => fc.option(arbitrary, { nil: null, freq: 2 });

/** Left as it is more often than not. */
const perhaps = <Value>(arbitrary: fc.Arbitrary<Value>) =>
  fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, { weight: 2, arbitrary });

function step<Name extends Step["do"]>(
  name: Name,
  fields: { [Field in keyof Omit<Do<Name>, "do">]: fc.Arbitrary<Do<Name>[Field]> },
): fc.Arbitrary<Do<Name>> {
  return fc.record({ do: fc.constant(name), ...fields }) as unknown as fc.Arbitrary<Do<Name>>;
}

const target = (...places: Target["among"][]): fc.Arbitrary<Target> =>
  fc.record({ among: fc.constantFrom(...places), nth: fc.constantFrom(0, 0, 1, 2, 7) });

const gateway = fc.constantFrom("first", FORGETFUL);
const slot = fc.nat({ max: 1 });
const from = fc.nat({ max: 3 });
const priority = fc.nat({ max: 2 });
const schedule = fc.nat({ max: 16 });
const later = fc.integer({ min: 1, max: 24 });
const many = fc.oneof(
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 4 }) },
  { weight: 1, arbitrary: fc.constantFrom(12, 24) },
);
const text = {
  recipient: perhaps(fc.constantFrom("+905551234567", "+905557654321")),
  content: perhaps(fc.constantFrom("hi", "hello")),
};
const end = perhaps(fc.oneof(later, fc.constantFrom<(number | "never")[]>("never", 200, -4)));

const outcome = fc.constantFrom<OutcomeKind[]>(
  ...(["accepted", "accepted", "accepted", "retry", "retry", "retry", "unknown", "throttled"] as const),
  ...OUTCOMES,
);
const told: fc.Arbitrary<Told> = fc
  .tuple(outcome, maybe(fc.constantFrom(0, 2_000, 9_000, 9_000)), fc.nat({ max: 5 }))
  .map(([outcome, wait, sixth]) => ({
    outcome,
    retryAfter: outcome === "throttled" || outcome === "retry" ? wait : null,
    moot: (outcome === "retry" || outcome === "unknown") && sixth === 5,
  }));

const ACCEPTED: Told = { outcome: "accepted", retryAfter: null, moot: false };

const enqueue = step("enqueue", {
  how: fc.constantFrom("enqueue", "enqueue", "insert", "rolled back"),
  gateway,
  many: fc.integer({ min: 1, max: 4 }),
  key: maybe(fc.constantFrom("a", "a", "b")),
  priority,
  schedule: maybe(schedule),
  end: maybe(later),
}).map((one) => (one.key === null ? one : { ...one, many: 1 }));

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 12, arbitrary: enqueue },
  { weight: 20, arbitrary: step("claim", { slot, gateway, batch: many }) },
  {
    weight: 22,
    arbitrary: step("settle", {
      from,
      many,
      told: fc.array(told, { minLength: 1, maxLength: 4 }),
      fenced: fc.boolean(),
      again: fc.constantFrom(false, false, true),
    }),
  },
  { weight: 3, arbitrary: step("release", { from, many }) },
  { weight: 3, arbitrary: step("crash", { slot, how: fc.constantFrom("process", "host") }) },
  { weight: 4, arbitrary: step("rescue", {}) },
  { weight: 1, arbitrary: step("pause", { gateway: maybe(gateway) }) },
  { weight: 4, arbitrary: step("resume", { gateway: maybe(gateway) }) },
  { weight: 1, arbitrary: step("toggle", {}) },
  { weight: 16, arbitrary: step("wait", { ticks: fc.constantFrom(1, 4, 8, 16, 32, 48, 80) }) },
  { weight: 2, arbitrary: step("expire", { gateway, limit: fc.integer({ min: 1, max: 3 }) }) },
  { weight: 3, arbitrary: step("maintain", {}) },
  {
    weight: 5,
    arbitrary: step("cancel", {
      target: target("messages", "messages", "messages", "sent", "dead_letters", "nowhere"),
    }),
  },
  {
    weight: 7,
    arbitrary: step("edit", {
      target: target("messages", "messages", "dead_letters", "dead_letters", "sent", "nowhere"),
      wish: fc.record({ ...text, priority: perhaps(priority), schedule: perhaps(schedule), end }),
    }),
  },
  {
    weight: 10,
    arbitrary: step("replay", {
      target: target("dead_letters", "dead_letters", "dead_letters", "sent", "messages", "nowhere"),
      wish: fc.record({ ...text, end }),
      force: fc.boolean(),
    }),
  },
);

const policy = (rate: fc.Arbitrary<number | null>): fc.Arbitrary<Policy> =>
  fc.record({
    max_attempts: fc.integer({ min: 1, max: 3 }),
    on_unknown: fc.constantFrom("retry", "retry", "park"),
    keep_attempts: fc.constantFrom("failed", "all"),
    rate_per_second: rate,
    circuit_failures: fc.constantFrom(2, 3, NEVER_BY_A_RUN, NEVER_BY_A_RUN),
    circuit_probes: fc.constantFrom(1, 3, 4),
  });

/** What has happened already: some states take many steps to reach. */
type Beginning = Pick<Run, "atFault" | "steps">;

const NEW: Beginning = { atFault: null, steps: [] };

/** Message 1 led to a hold, and then others passed. */
const PROVED: Beginning = {
  atFault: 1,
  steps: [
    { do: "claim", slot: 0, gateway: "first", batch: 1 },
    { do: "settle", from: 0, many: 1, told: [{ ...ACCEPTED, outcome: "hold" }], fenced: true, again: false },
    { do: "wait", ticks: 32 },
    { do: "claim", slot: 0, gateway: "first", batch: 3 },
    { do: "settle", from: 0, many: 3, told: [ACCEPTED], fenced: true, again: false },
  ],
};

/** Failures have opened the circuit, and a probe is under way, as are some claims from before. */
const PROBING: Beginning = {
  atFault: null,
  steps: [
    { do: "claim", slot: 0, gateway: "first", batch: 6 },
    { do: "settle", from: 0, many: 3, told: [{ ...ACCEPTED, outcome: "retry" }], fenced: true, again: false },
    { do: "wait", ticks: 16 },
    { do: "claim", slot: 1, gateway: "first", batch: 4 },
  ],
};

export const runs: fc.Arbitrary<Run> = fc
  .record({
    policies: fc.record({
      first: policy(fc.constant(null)),
      [FORGETFUL]: policy(fc.constantFrom(2, 2, null)),
    }),
    backlog: fc.constantFrom(1, 6, 24),
    beginning: fc.constantFrom(NEW, NEW, NEW, PROVED, PROBING, PROBING),
    steps: fc.array(anyStep, { maxLength: 60, size: "max" }),
  })
  .map(({ beginning, ...run }) => ({ ...run, ...beginning, steps: [...beginning.steps, ...run.steps] }));
