import fc from "fast-check";
import type { Contract, Media, Operation, Parameter } from "./document.ts";
import { editsOf } from "./edits.ts";
import { wantedBy } from "./facts.ts";
import { ODD_BODIES, ODD_ESCAPES, ODD_JSON, ODD_TEXTS, ODD_TYPES, spellings } from "./odd.ts";
import { isEventId, OPAQUE } from "./opaque.ts";
import { MANY, valuesOf } from "./values.ts";

/** What a parameter is sent as. */
export type Choice =
  /** More than one text: an array, or the parameter given again. */
  | { readonly texts: readonly string[] }
  /** Something that an answer gave; these texts when there is nothing yet. */
  | { readonly fact: number; readonly texts: readonly string[] }
  /** Escaped already, and wrongly. */
  | { readonly escaped: string };

export type BodyPlan =
  /** `facts` says which of its properties are to be things that answers told of; 0 for none. */
  | { readonly type: string; readonly value: unknown; readonly facts: number }
  | { readonly type: string | undefined; readonly bytes: Buffer };

export const CREDENTIALS = ["right", "no key", "wrong key", "key without the scope"] as const;
export type Credential = (typeof CREDENTIALS)[number];

/** A request, but for what only the answers before it can tell. */
export interface Plan {
  readonly operation: Operation;
  readonly choices: ReadonlyMap<Parameter, Choice>;
  readonly body: BodyPlan | undefined;
  readonly headers: readonly (readonly [string, string])[];
  readonly credential: Credential;
  /** Go on where an answer left off, with its cursor. */
  readonly goOn: number | undefined;
}

export interface Plans {
  /** As the document wants it. */
  readonly good: fc.Arbitrary<Plan>;
  /** That, with one thing about it changed, or nothing. */
  readonly any: fc.Arbitrary<Plan>;
}

export function plansFor(operation: Operation, { resolve }: Contract): Plans {
  const parameters = operation.parameters.map((parameter) => parameterPlans(operation, parameter, resolve));
  const body = bodyPlans(operation, resolve);
  const canGoOn = operation.parameters.some(
    ({ name, schema }) => schema.format === OPAQUE && !isEventId(name),
  );

  const good = fc
    .record({
      choices: fc.tuple(...parameters.map(({ good }) => good)),
      body: body.good,
      goOn: canGoOn ? fc.option(fc.nat({ max: 20 }), { nil: undefined }) : fc.constant(undefined),
    })
    .map(({ choices, ...rest }): Plan => {
      const sent = operation.parameters.flatMap((parameter, at) => {
        const choice = choices[at];
        return choice === undefined ? [] : [[parameter, choice] as const];
      });
      return { operation, choices: new Map(sent), headers: [], credential: "right", ...rest };
    });

  const changed = <Value>(arbitrary: fc.Arbitrary<Value>, change: (plan: Plan, value: Value) => Plan) =>
    fc.tuple(good, arbitrary).map(([plan, value]) => change(plan, value));
  const changes = [
    ...operation.parameters.map((parameter, at) =>
      changed(parameters[at]?.changed ?? fc.constant(undefined), (plan, choice) =>
        withChoice(plan, parameter, choice),
      ),
    ),
    ...(body.changed === undefined ? [] : [body.changed, body.changed, body.changed]).map((one) =>
      changed(one, (plan, body) => ({ ...plan, body })),
    ),
  ];
  const any = fc.oneof({ weight: 2, arbitrary: good }, { weight: 4, arbitrary: fc.oneof(...changes) });
  return { good, any };
}

/** The plan with one thing about it changed, in every way that is a likely slip. */
export function slipsOf(plan: Plan, { resolve }: Contract): Plan[] {
  const { operation, body } = plan;
  const inParameters = operation.parameters.flatMap((parameter) => {
    const { schema, in: place, json } = parameter;
    const choice = plan.choices.get(parameter);
    const texts = choice !== undefined && "texts" in choice ? choice.texts : [json ? "{}" : "x"];
    const value = json ? JSON.parse(texts[0] ?? "{}") : texts[0];
    const edits = editsOf(schema, value, resolve).map((edit) => textsOf(edit, parameter));
    const twice = place === "query" ? [[...texts, ...texts]] : [];
    return [...edits, ...twice, []].map((texts) => withChoice(plan, parameter, { texts }));
  });
  if (body === undefined || !("value" in body)) return inParameters;
  const { type, value } = body;
  const schema = operation.body?.content.get(type)?.schema ?? {};
  const bytes = Buffer.from(JSON.stringify(value));
  const bodies = [
    ...editsOf(schema, value, resolve).map((edit) => ({ ...body, value: edit })),
    ...ODD_BODIES.map((one) => ({ type, bytes: Buffer.from(one) })),
    ...[...ODD_TYPES, ...spellings(type)].map((label) => ({ type: label, bytes })),
    undefined,
  ];
  return [...inParameters, ...bodies.map((body) => ({ ...plan, body }))];
}

function withChoice(plan: Plan, parameter: Parameter, choice: Choice | undefined): Plan {
  const choices = new Map(plan.choices);
  choices.delete(parameter);
  if (choice !== undefined) choices.set(parameter, choice);
  return { ...plan, choices, goOn: undefined };
}

interface PartPlans<Part> {
  readonly good: fc.Arbitrary<Part | undefined>;
  readonly changed?: fc.Arbitrary<Part | undefined>;
}

function parameterPlans(
  operation: Operation,
  parameter: Parameter,
  resolve: Contract["resolve"],
): PartPlans<Choice> {
  const { schema, required, in: place, examples } = parameter;
  const shown = examples.map((one) => fc.constant<unknown>(one));
  const value = fc.oneof(valuesOf(schema, resolve), ...shown);
  const texts = value.map((one) => ({ texts: textsOf(one, parameter) }));
  const fact = fc.record({ fact: fc.nat({ max: 49 }), texts: texts.map((one) => one.texts) });
  // Anyone's id is worth a try, whatever the parameter's name; a header or a filter has few facts to choose from.
  const known =
    wantedBy(operation, parameter).length > 0 ? [{ weight: place === "path" ? 6 : 2, arbitrary: fact }] : [];
  const sent = fc.oneof({ weight: 2, arbitrary: texts }, ...known);
  const opaque = schema.format === OPAQUE;
  const given = fact.map(({ fact }) => ({ fact, texts: [] as string[] }));
  const sure: fc.Arbitrary<Choice> | undefined = opaque
    ? isEventId(parameter.name)
      ? given
      : undefined
    : sent;
  const good =
    sure === undefined ? fc.constant(undefined) : required ? sure : fc.option(sure, { nil: undefined });

  const edited = fc.tuple(value, fc.nat()).map(([one, nth]) => {
    const edits = editsOf(schema, one, resolve);
    return { texts: textsOf(edits[nth % edits.length], parameter) };
  });
  const odd = fc.constantFrom(...ODD_TEXTS).map((text) => ({ texts: [text] }));
  const escaped = fc.constantFrom(...ODD_ESCAPES).map((one) => ({ escaped: one }));
  const twice = fc.tuple(texts, texts).map(([one, other]) => ({ texts: [...one.texts, ...other.texts] }));
  const changed = fc.oneof<fc.MaybeWeightedArbitrary<Choice | undefined>[]>(
    { weight: 3, arbitrary: edited },
    { weight: 2, arbitrary: odd },
    ...(opaque
      ? [
          { weight: 3, arbitrary: fact },
          { weight: 2, arbitrary: texts },
        ]
      : []),
    ...(place === "header" ? [] : [{ weight: 1, arbitrary: escaped }]),
    ...(place === "query" ? [{ weight: 1, arbitrary: twice }] : []),
    ...(required && place !== "path" ? [{ weight: 1, arbitrary: fc.constant(undefined) }] : []),
  );
  return { good, changed };
}

function textsOf(value: unknown, { in: place, explode, json }: Parameter): string[] {
  if (json) return [JSON.stringify(value)];
  const text = (one: unknown) => (typeof one === "string" ? one : JSON.stringify(one));
  if (!Array.isArray(value)) return [text(value)];
  return place === "query" && explode ? value.map(text) : [value.map(text).join(",")];
}

function bodyPlans({ body }: Operation, resolve: Contract["resolve"]): PartPlans<BodyPlan> {
  if (body === undefined) {
    const unasked = fc
      .constantFrom(...ODD_BODIES)
      .map((one) => ({ type: "application/json", bytes: Buffer.from(one) }));
    return { good: fc.constant(undefined), changed: unasked };
  }
  const plans = [...body.content].map(([type, media]) => mediaPlans(type, media, resolve));
  const good = fc.oneof(...plans.map((one) => one.good));
  const none = fc.constant(undefined);
  return {
    good: body.required ? good : fc.oneof({ weight: 4, arbitrary: good }, { weight: 1, arbitrary: none }),
    changed: fc.oneof(
      { weight: 12, arbitrary: fc.oneof(...plans.flatMap(({ changed = none }) => changed)) },
      { weight: 1, arbitrary: none },
    ),
  };
}

function mediaPlans(type: string, media: Media, resolve: Contract["resolve"]): PartPlans<BodyPlan> {
  if (!/[/+]json$/.test(type)) throw new Error(`this harness cannot make a body of ${type}`);
  const shown = media.examples.map((one) => fc.constant<unknown>(one));
  const generated = valuesOf(media.schema, resolve);
  const value = shown.length === 0 ? generated : fc.oneof({ weight: 6, arbitrary: generated }, ...shown);
  const facts = fc.nat({ max: 2 ** 20 });
  const good = fc.record({ type: fc.constant(type), value, facts });

  const edited = fc.tuple(value, fc.nat(), facts).map(([one, nth, facts]) => {
    const edits = editsOf(media.schema, one, resolve);
    return { type, value: edits[nth % edits.length], facts };
  });
  const strange = fc.tuple(value, fc.nat(), fc.constantFrom(...ODD_JSON)).map(([one, nth, json]) => {
    // In the place of one of its values, whichever.
    const text = JSON.stringify(one);
    const places = [...text.matchAll(/(?<=[:[,])(?:"(?:[^"\\]|\\.)*"|[-\w.+]+)(?=[,\]}])/g)];
    const place = places[nth % Math.max(places.length, 1)];
    const from = place?.index ?? 0;
    const to = place === undefined ? text.length : from + place[0].length;
    return { type, bytes: Buffer.from(text.slice(0, from) + json + text.slice(to)) };
  });
  const raw = fc.constantFrom(...ODD_BODIES).map((one) => ({ type, bytes: Buffer.from(one) }));
  const cut = fc.tuple(value, fc.nat()).map(([one, nth]) => {
    const bytes = Buffer.from(JSON.stringify(one));
    return { type, bytes: bytes.subarray(0, nth % Math.max(bytes.length, 1)) };
  });
  const labelled = fc
    .tuple(fc.constantFrom(...ODD_TYPES, ...spellings(type)), value)
    .map(([label, one]) => ({ type: label, bytes: Buffer.from(JSON.stringify(one)) }));
  const large = value.map((one) => ({ type, bytes: Buffer.from(JSON.stringify(one).padEnd(MANY * 10)) }));
  const changed = fc.oneof<fc.MaybeWeightedArbitrary<BodyPlan>[]>(
    { weight: 8, arbitrary: edited },
    { weight: 3, arbitrary: strange },
    { weight: 2, arbitrary: raw },
    { weight: 1, arbitrary: cut },
    { weight: 2, arbitrary: labelled },
    { weight: 1, arbitrary: large },
  );
  return { good, changed };
}
