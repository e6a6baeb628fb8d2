import type { Operation } from "./document.ts";
import { createFacts, type Facts } from "./facts.ts";
import { faultsOf } from "./judge.ts";
import { isEventId, OPAQUE } from "./opaque.ts";
import type { Plan } from "./plan.ts";
import { type Known, type Prepared, prepare } from "./prepare.ts";
import { type Answer, EVENT_STREAM, NoAnswerError, type Wire } from "./wire.ts";

export interface Exchange {
  readonly prepared: Prepared;
  readonly answer: Answer | NoAnswerError;
  readonly faults: readonly string[];
}

/** How often each operation answered with which status. */
export type Statuses = Readonly<Record<string, Readonly<Record<number, number>>>>;

export interface Asking {
  /** Sends it, judges the answer, and learns from it. */
  readonly ask: (prepared: Prepared, facts: Facts) => Promise<Exchange>;
  /** What can be read by now without knowing anything. */
  readonly look: () => Promise<Facts>;
  readonly statuses: Statuses;
  /** The operations that took up a cursor of their own. */
  readonly wentOn: ReadonlySet<Operation>;
}

export function createAsking(wire: Wire, known: Known): Asking {
  const { operations } = known.contract;
  const counts = new Map(operations.map(({ id }) => [id, {} as Record<number, number>]));
  const wentOn = new Set<Operation>();

  async function ask(prepared: Prepared, facts: Facts): Promise<Exchange> {
    const { operation, request, sent, goesOn } = prepared;
    try {
      const answer = await wire.send(request);
      const { status } = answer;
      const own = counts.get(operation.id) ?? {};
      own[status] = (own[status] ?? 0) + 1;
      if (goesOn && status === 200) wentOn.add(operation);
      facts.learn(operation, sent, answer);
      return { prepared, answer, faults: faultsOf(prepared, answer, known.schemas.answer) };
    } catch (error) {
      if (!(error instanceof NoAnswerError)) throw error;
      return { prepared, answer: error, faults: [error.message] };
    }
  }

  async function look(): Promise<Facts> {
    const facts = createFacts();
    for (const operation of operations) {
      if (operation.method !== "GET" || isStream(operation)) continue;
      for (const plan of barePlans(operation)) {
        const prepared = prepare(plan, facts, known);
        if (prepared?.verdict.kind === "valid") await ask(prepared, facts);
      }
    }
    return facts;
  }

  return { ask, look, statuses: Object.fromEntries(counts), wentOn };
}

/** Asked for with nothing; a list also for as little as it gives, so that there is more to go on with. */
function barePlans(operation: Operation): Plan[] {
  const { parameters } = operation;
  const nothing = { choices: new Map(), body: undefined, headers: [], goOn: undefined };
  const bare: Plan = { operation, credential: "right", ...nothing };
  if (!isPaged(operation)) return [bare];
  const least = parameters.flatMap((parameter) => {
    const { type, minimum } = parameter.schema;
    if (type !== "integer" || minimum === undefined) return [];
    return [{ ...bare, choices: new Map([[parameter, { texts: [`${minimum}`] }]]) }];
  });
  return [bare, ...least];
}

export function isPaged({ parameters }: Operation): boolean {
  return parameters.some(({ name, schema }) => schema.format === OPAQUE && !isEventId(name));
}

/** Its answer does not end by itself, so each one takes time. */
export function isStream({ answers }: Operation): boolean {
  return [...answers.values()].some(({ content }) => content.has(EVENT_STREAM));
}
