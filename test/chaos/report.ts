import type { Facts } from "./facts.ts";
import { duplicates } from "./invariants/duplicates.ts";
import { fairRecoveries } from "./invariants/recovery.ts";
import type { Violation } from "./invariants/violation.ts";
import type { Recovery } from "./recovery-watch.ts";
import type { ChaosResult } from "./run.ts";
import { largest, median } from "./statistics.ts";

const SHOWN = 10;
const TIMELINES = 3;

/** What a run was, as text. */
export function report({ facts, violations, logFolder }: ChaosResult): string {
  const sections = [
    table("faults", tally(facts.faults.spans.map(({ fault }) => fault))),
    table("messages", messageFigures(facts)),
    table("gateway", tally(facts.posts.map(({ answer }) => answer))),
    table("recovery", recoveryFigures(facts)),
    table("errors that relayers logged", tally(facts.processes.flatMap(({ errors }) => errors))),
    ...violations.map((violation) => describe(violation, facts)),
    violations.length === 0 ? "every invariant holds" : `${violations.length} invariants are violated`,
    ...(logFolder === undefined ? [] : [`what the relayers said is in ${logFolder}`]),
  ];
  return sections.join("\n\n");
}

function messageFigures(facts: Facts): [string, string | number][] {
  const { book, posts, places, pauses } = facts;
  const fates = tally([...book.entries.values()].map(({ fate }) => `inserts ${fate}`));
  const ends = tally(places.map(({ place, reason }) => (reason === null ? place : `${place}: ${reason}`)));
  return [
    ...fates,
    ...ends,
    ["posts", posts.length],
    ["taken more than once by the gateway", duplicates(facts).length],
    ["pauses", pauses.length],
  ];
}

function recoveryFigures(facts: Facts): [string, string | number][] {
  const fair = fairRecoveries(facts);
  const figures = (fault: Recovery["fault"]): [string, string] => {
    const times = fair.filter((recovery) => recovery.fault === fault).map(({ tookMs }) => tookMs);
    const all = facts.recoveries.filter((recovery) => recovery.fault === fault);
    return [`claims free after ${fault}`, `${inShort(times)}, of ${all.length} with claims`];
  };
  const stops = facts.shutdowns.map(({ tookMs }) => tookMs);
  return [figures("kill -9"), figures("SIGSTOP"), ["exit after SIGTERM", inShort(stops)]];
}

function inShort(times: readonly number[]): string {
  if (times.length === 0) return "not measured";
  return `median ${median(times).toFixed(0)} ms, max ${largest(times).toFixed(0)} ms (${times.length} times)`;
}

function tally(words: readonly string[]): [string, number][] {
  const groups = [...Map.groupBy(words, (word) => word)];
  return groups.map(([word, all]): [string, number] => [word, all.length]).sort(([, a], [, b]) => b - a);
}

function table(title: string, rows: readonly (readonly [string, string | number])[]): string {
  if (rows.length === 0) return `${title}\n  none`;
  const width = Math.max(...rows.map(([name]) => name.length));
  return [title, ...rows.map(([name, value]) => `  ${name.padEnd(width)}  ${value}`)].join("\n");
}

/** The violation, and the whole story of the first messages it was seen on. */
export function describe({ invariant, seen, contents }: Violation, facts: Facts): string {
  const more = seen.length > SHOWN ? [`  … and ${seen.length - SHOWN} more`] : [];
  const stories = [...new Set(contents)].slice(0, TIMELINES).map((content) => story(content, facts));
  return [
    `VIOLATED ${invariant}`,
    ...seen.slice(0, SHOWN).map((line) => `  ${line}`),
    ...more,
    ...stories,
  ].join("\n");
}

/** All that is known of a message, in the order of time. */
function story(content: string, facts: Facts): string {
  const entry = facts.book.entries.get(content);
  const posts = facts.postsOf(content);
  const places = facts.placesOf(content);
  const tries = places.flatMap(({ id }) => facts.triesOf(id));
  const events: [number, string][] = [
    ...posts.map((post): [number, string] => [
      post.at,
      `post ${post.nth} by ${post.by}: ${post.answer}${post.clean ? "" : " (unclear)"}, ${post.messageId ?? "not taken"}`,
    ]),
    ...tries.map((one): [number, string] => [
      one.ended_at,
      `attempt ${one.attempt} of relayer ${one.relayer}: ${one.outcome}, ${one.error ?? ""}`,
    ]),
    ...places.map((place): [number, string] => [
      place.ended_at ?? Number.POSITIVE_INFINITY,
      `in ${place.place} ${place.id} ${place.reason ?? ""}: ${place.attempts} attempts, claimed by ${place.claimed_by} at ${time(place.claimed_at ?? Number.NaN)}, expires ${time(place.expires_at ?? Number.NaN)}, ${place.gateway_message_id ?? ""}`,
    ]),
  ];
  const times = events.map(([at]) => at).filter(Number.isFinite);
  for (const { fault, relayer, from, to } of facts.faults.during(Math.min(...times), Math.max(...times))) {
    const whom = relayer && ` of ${relayer.name} (number ${[...relayer.numbers.keys()].join(", ")})`;
    events.push([from, `fault: ${fault}${whom ?? ""}, until ${time(to)}`]);
  }
  const lines = events.sort(([a], [b]) => a - b).map(([at, what]) => `    ${time(at)} ${what}`);
  return [`  the story of "${content}": ${entry?.fate} (${entry?.note}), id ${entry?.id}`, ...lines].join(
    "\n",
  );
}

function time(at: number): string {
  return Number.isFinite(at) ? new Date(at).toISOString().slice(11, 23) : "never";
}
