import fc from "fast-check";
import { type Asking, createAsking, type Exchange, isPaged, isStream, type Statuses } from "./asking.ts";
import { type Operation, readContract } from "./document.ts";
import { createFacts, type Facts } from "./facts.ts";
import { methodFaults } from "./methods.ts";
import { ODD_HEADERS } from "./odd.ts";
import { isEventId } from "./opaque.ts";
import { CREDENTIALS, type Plan, type Plans, plansFor, slipsOf } from "./plan.ts";
import { type Credentials, type Known, type Prepared, prepare } from "./prepare.ts";
import { createSchemas } from "./schemas.ts";
import { type Step, storiesOf } from "./stories.ts";
import { shown } from "./transcript.ts";
import { MANY } from "./values.ts";
import { openWire, type Wire } from "./wire.ts";

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
  readonly statuses: Statuses;
}

/** Asks a running server for whatever its document allows, and does not, and holds every answer against the document. */
export async function examine({ url, seed, runs, credentials }: ContractOptions): Promise<Examined> {
  const { origin, pathname } = new URL(url);
  const wire = openWire(origin);
  try {
    const { status, body } = await wire.send({ method: "GET", target: pathname, headers: [] });
    if (status !== 200) throw new Error(`${url}: ${status}`);
    const contract = readContract(JSON.parse(body.toString()));
    const known: Known = { contract, schemas: createSchemas(contract), credentials };
    const asking = createAsking(wire, known);
    const examined = { wire, known, asking, plansOf: allPlans(known) };
    const faults: Fault[] = [];
    for (const [n, operation] of contract.operations.entries()) {
      const choices = { seed: seed + n, runs: isStream(operation) ? Math.ceil(runs / 10) : runs };
      faults.push(...(await faultsIn(operation, examined, choices)));
    }
    return { faults: shortestOfEach(faults), statuses: asking.statuses };
  } finally {
    wire.close();
  }
}

interface Context {
  readonly wire: Wire;
  readonly known: Known;
  readonly asking: Asking;
  readonly plansOf: (operation: Operation) => Plans;
}

interface Choices {
  readonly seed: number;
  readonly runs: number;
}

function allPlans({ contract }: Known): Context["plansOf"] {
  const all = new Map(contract.operations.map((one) => [one, plansFor(one, contract)]));
  return (operation) => all.get(operation) as Plans;
}

interface Fault {
  readonly operation: Operation;
  readonly said: string;
}

/** One operation often fails in the stories of many, and in many ways for one reason: the one that takes the least to read is enough. */
function shortestOfEach(faults: readonly Fault[]): string[] {
  const shortest = new Map<string, string>();
  for (const { operation, said } of faults) {
    const [first = ""] = said.split("\n");
    const kind = `${operation.id} ${first.split(": ", 2)}`;
    const known = shortest.get(kind);
    const line = `${operation.id}: ${said}`;
    if (known === undefined || line.length < known.length) shortest.set(kind, line);
  }
  return [...shortest.values()];
}

async function faultsIn(operation: Operation, context: Context, choices: Choices): Promise<Fault[]> {
  const { asking } = context;
  const before = await asking.look();
  const faults = [
    ...(await faultsInStories(operation, context, choices, before)),
    ...(await faultsAround(operation, context, choices, before)),
  ];
  const lacking = (said: string) => faults.push({ operation, said });
  if (!(await succeeds(operation, context, choices)))
    lacking(
      `never succeeded (${statusesOf(operation, asking)}): there was nothing that it could be asked about`,
    );
  else if (isPaged(operation) && !asking.wentOn.has(operation))
    lacking("never went on with a cursor: no answer had a next page");
  return faults;
}

function statusesOf({ id }: Operation, { statuses }: Asking): string[] {
  return Object.keys(statuses[id] ?? {});
}

/** Did it ever? If not by chance, then by trying. */
async function succeeds(
  operation: Operation,
  { known, asking, plansOf }: Context,
  { seed }: Choices,
): Promise<boolean> {
  const has = () => statusesOf(operation, asking).some((status) => status.startsWith("2"));
  if (has()) return true;
  const facts = await asking.look();
  for (const plan of fc.sample(plansOf(operation).good, { seed, numRuns: 500 })) {
    const prepared = prepare(plan, facts, known);
    if (prepared !== undefined) await asking.ask(prepared, facts);
    if (has()) return true;
  }
  return false;
}

/** The contract is broken, and this is how. */
class Broken extends Error {
  readonly operation: Operation;

  constructor(operation: Operation, said: string) {
    super(said);
    this.operation = operation;
  }
}

async function faultsInStories(
  operation: Operation,
  { wire, known, asking, plansOf }: Context,
  { seed, runs }: Choices,
  before: Facts,
): Promise<Fault[]> {
  /** Throws at the first fault. The facts of a story are its own, so that it can be told again, and shorter. */
  async function tell(story: readonly Step[]): Promise<void> {
    const facts = createFacts(before);
    const told: Exchange[] = [];
    for (const step of story) {
      const prepared = step === "again" ? told.at(-1)?.prepared : prepare(step, facts, known);
      if (prepared === undefined) continue;
      const exchange = await asking.ask(prepared, facts);
      told.push(exchange);
      if (exchange.faults.length === 0) continue;
      const lines = told.map((one) => shown(wire.origin, one.prepared.request, one.answer));
      throw new Broken(prepared.operation, `${exchange.faults.join("; ")}\n${lines.join("\n")}`);
    }
  }

  const { errorInstance: error } = await fc.check(
    fc.asyncProperty(storiesOf(operation, plansOf, known.contract), tell),
    { seed, numRuns: runs },
  );
  if (error && !(error instanceof Broken)) throw error;
  return error instanceof Broken ? [{ operation: error.operation, said: error.message }] : [];
}

/** What is not left to chance: sound requests that go on, with one slip, with the wrong keys, with odd headers, and by other methods. */
async function faultsAround(
  operation: Operation,
  { wire, known, asking, plansOf }: Context,
  { seed, runs }: Choices,
  before: Facts,
): Promise<Fault[]> {
  const sound = fc
    .sample(plansOf(operation).good, { seed, numRuns: 50 })
    .map((plan) => ({ plan, prepared: prepare(plan, before, known) }))
    .filter(({ prepared }) => prepared?.verdict.kind === "valid");
  // What is sent some hundred times is not as large as it can be: that would take minutes.
  const handy = sound.filter(({ prepared }) => sizeOf(prepared) < MANY);
  const [first] = handy;
  const [largest] = sound.toSorted((one, other) => sizeOf(other.prepared) - sizeOf(one.prepared));
  if (first === undefined || largest?.prepared === undefined)
    return [{ operation, said: "no request could be made that is surely valid" }];
  const others = handy.filter(({ plan }) => shapeOf(plan) !== shapeOf(first.plan)).slice(0, 1);

  const eventIds = operation.parameters.filter(({ name }) => isEventId(name));
  const most = isStream(operation) ? runs : Number.POSITIVE_INFINITY;
  const slips = [first, ...others].flatMap(({ plan }) => slipsOf(plan, known.contract));
  const plans: Plan[] = [
    ...CREDENTIALS.map((credential) => ({ ...first.plan, credential })),
    ...[0, 1, 2].map((goOn) => ({ ...first.plan, goOn })),
    ...eventIds.map((parameter) => ({
      ...first.plan,
      choices: new Map([[parameter, { fact: 0, texts: [] }]]),
    })),
    ...ODD_HEADERS.slice(0, most).map((header) => ({ ...first.plan, headers: [header] })),
    ...slips.slice(0, most),
  ];
  const found: string[] = [];
  for (const plan of plans) {
    const prepared = prepare(plan, before, known);
    if (prepared === undefined) continue;
    const { answer, faults } = await asking.ask(prepared, before);
    if (faults.length > 0)
      found.push(`${faults.join("; ")}\n${shown(wire.origin, prepared.request, answer)}`);
  }
  const byMethod = await methodFaults(largest.prepared, known.contract, wire.send, (...one) =>
    shown(wire.origin, ...one),
  );
  return [...found, ...byMethod].map((said) => ({ operation, said }));
}

function sizeOf(prepared: Prepared | undefined): number {
  return prepared?.request.body?.length ?? 0;
}

/** A body may be one thing or many. */
function shapeOf({ body }: Plan): string {
  return body !== undefined && "value" in body && Array.isArray(body.value) ? "many" : "one";
}
