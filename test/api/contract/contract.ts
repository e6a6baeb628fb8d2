import fc from "fast-check";
import { type Operation, readContract } from "./document.ts";
import { createFacts, type Facts } from "./facts.ts";
import { faultsOf } from "./judge.ts";
import { methodFaults } from "./methods.ts";
import { type Plan, type Plans, plansFor } from "./plan.ts";
import { type Credentials, type Known, type Prepared, prepare } from "./prepare.ts";
import { createSchemas } from "./schemas.ts";
import { type Step, storiesOf } from "./stories.ts";
import { shown } from "./transcript.ts";
import { type Answer, EVENT_STREAM, NoAnswerError, openWire, type Wire } from "./wire.ts";

export interface ContractOptions {
  /** Where the document is; its paths are of the same server. */
  readonly url: string;
  readonly seed: number;
  /** Stories for each operation. */
  readonly runs: number;
  /** Without, everything is asked for without a key. */
  readonly credentials?: Credentials;
}

export interface Examined {
  /** One for each way in which an operation breaks the contract, with commands to repeat it. */
  readonly faults: readonly string[];
  /** How often each operation answered with which status. */
  readonly statuses: Readonly<Record<string, Readonly<Record<number, number>>>>;
}

/** Asks a running server for whatever its document allows, and does not, and holds every answer against the document. */
export async function examine({ url, seed, runs, credentials }: ContractOptions): Promise<Examined> {
  const { origin, pathname } = new URL(url);
  const wire = openWire(origin);
  try {
    const { status, body } = await wire.send({ method: "GET", target: pathname, headers: [] });
    if (status !== 200) throw new Error(`${url}: ${status}`);
    const contract = readContract(JSON.parse(body.toString()));
    return await examineAll(wire, { contract, schemas: createSchemas(contract), credentials }, seed, runs);
  } finally {
    wire.close();
  }
}

/** The contract is broken, and this is how. */
class Broken extends Error {}

interface Exchange {
  readonly prepared: Prepared;
  readonly answer: Answer | NoAnswerError;
  readonly faults: readonly string[];
}

async function examineAll(wire: Wire, known: Known, seed: number, runs: number): Promise<Examined> {
  const { contract, schemas, credentials } = known;
  const { operations } = contract;
  const all = new Map(operations.map((one) => [one, plansFor(one, contract, credentials !== undefined)]));
  const plansOf = (operation: Operation) => all.get(operation) as Plans;
  const statuses: Record<string, Record<number, number>> = Object.fromEntries(
    operations.map(({ id }) => [id, {}]),
  );

  async function exchange(prepared: Prepared, facts: Facts): Promise<Exchange> {
    const { operation, request, sent } = prepared;
    try {
      const answer = await wire.send(request);
      const counts = statuses[operation.id] ?? {};
      counts[answer.status] = (counts[answer.status] ?? 0) + 1;
      facts.learn(operation, sent, answer);
      return { prepared, answer, faults: faultsOf(prepared, answer, schemas.answer) };
    } catch (error) {
      if (!(error instanceof NoAnswerError)) throw error;
      return { prepared, answer: error, faults: [error.message] };
    }
  }

  /** What there is before a story begins: everything that can be read without knowing anything. */
  async function look(): Promise<Facts> {
    const facts = createFacts();
    for (const operation of operations) {
      if (operation.method !== "GET" || streams(operation)) continue;
      const prepared = prepare(bare(operation), facts, known);
      if (prepared?.verdict.kind === "valid") await exchange(prepared, facts);
    }
    return facts;
  }

  /** Throws at the first fault. The facts of a story are its own, so that it can be told again, and shorter. */
  async function tell(story: readonly Step[], before: Facts): Promise<void> {
    const facts = createFacts(before);
    const told: Exchange[] = [];
    for (const step of story) {
      const prepared = step === "again" ? told.at(-1)?.prepared : prepare(step, facts, known);
      if (prepared === undefined) continue;
      told.push(await exchange(prepared, facts));
      const faults = told.at(-1)?.faults ?? [];
      if (faults.length === 0) continue;
      const lines = told.map(({ prepared, answer }) => shown(wire.origin, prepared.request, answer));
      throw new Broken(`${faults.join("; ")}\n${lines.join("\n")}`);
    }
  }

  async function faultsIn(operation: Operation): Promise<string[]> {
    const before = await look();
    const { errorInstance: error } = await fc.check(
      fc.asyncProperty(storiesOf(operation, plansOf, contract), (story) => tell(story, before)),
      // A stream is waited for.
      { seed, numRuns: streams(operation) ? Math.ceil(runs / 10) : runs },
    );
    if (error && !(error instanceof Broken)) throw error;

    const some = fc.sample(plansOf(operation).good, { seed, numRuns: 20 });
    const [sound] = some.flatMap((plan) => prepare(plan, before, known) ?? []);
    const byMethod =
      sound && (await methodFaults(sound, operations, wire.send, (...one) => shown(wire.origin, ...one)));

    const answered = Object.keys(statuses[operation.id] ?? {});
    const succeeded = answered.some((status) => status.startsWith("2"));
    const never = `never succeeded (${answered.join(", ")}): there was nothing that it could be asked about`;
    return [
      ...(error ? [`${operation.id}: ${(error as Broken).message}`] : []),
      ...(byMethod ?? []),
      ...(succeeded ? [] : [`${operation.id}: ${never}`]),
    ];
  }

  const faults: string[] = [];
  for (const operation of operations) faults.push(...(await faultsIn(operation)));
  return { faults, statuses };
}

function bare(operation: Operation): Plan {
  const nothing = { choices: new Map(), body: undefined, headers: [], goOn: undefined };
  return { operation, credential: "right", ...nothing };
}

function streams({ answers }: Operation): boolean {
  return [...answers.values()].some(({ content }) => content.has(EVENT_STREAM));
}
