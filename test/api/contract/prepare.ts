import type { Contract, Operation, Parameter } from "./document.ts";
import { type Continuation, type Facts, type Sent, wantedBy, wantedByName } from "./facts.ts";
import { isEventId } from "./opaque.ts";
import type { BodyPlan, Choice, Credential, Plan } from "./plan.ts";
import type { Check, Schemas } from "./schemas.ts";
import { branches } from "./values.ts";
import { type Parts, type Verdict, verdictOn } from "./verdict.ts";
import type { Request } from "./wire.ts";

/** Keys for a server that wants some. The document says which scheme and scopes an operation needs. */
export interface Credentials {
  readonly right: (scopes: readonly string[]) => string;
  /** A good key that lacks one of these; nothing where there is none. */
  readonly without: (scopes: readonly string[]) => string | undefined;
}

export interface Prepared {
  readonly operation: Operation;
  readonly request: Request;
  readonly sent: Sent;
  readonly verdict: Verdict;
  readonly credential: Credential;
  /** It has the cursor of an answer before it. */
  readonly goesOn: boolean;
}

export interface Known {
  readonly contract: Contract;
  readonly schemas: Schemas;
  readonly credentials: Credentials | undefined;
}

/** The plan as a request, with what answers have told by now; nothing when no request can say it. */
export function prepare(
  plan: Plan,
  facts: Facts,
  { contract, schemas, credentials }: Known,
): Prepared | undefined {
  const { operation } = plan;
  const { resolve } = contract;
  const goOn = plan.goOn === undefined ? undefined : nth(facts.continuations(operation), plan.goOn);
  const escaped = new Map<Parameter, readonly string[]>();
  const texts = new Map<Parameter, readonly string[] | undefined>();
  const given = new Set<Parameter>();

  function put(parameter: Parameter, choice: Choice, path: string): void {
    if ("escaped" in choice) {
      escaped.set(parameter, [choice.escaped]);
      texts.set(parameter, undefined);
      return;
    }
    const found = "fact" in choice ? factFor(operation, parameter, choice.fact, facts, path) : undefined;
    if (found !== undefined && isEventId(parameter.name)) given.add(parameter);
    const chosen: readonly string[] = (found === undefined ? choice.texts : [found]).map((text) =>
      text.toWellFormed(),
    );
    if (chosen.length === 0) return; // an array without items
    texts.set(parameter, chosen);
    escaped.set(parameter, chosen.map(encodeURIComponent));
  }

  let path = operation.path;
  for (const [parameter, choice] of plan.choices) {
    if (parameter.in !== "path") continue;
    put(parameter, choice, path);
    const [text = ""] = escaped.get(parameter) ?? [];
    // These would make another path of it.
    if (["", ".", ".."].includes(text)) return undefined;
    path = path.replace(`{${parameter.name}}`, () => text);
  }
  for (const [parameter, choice] of plan.choices) {
    const replaced = goOn !== undefined && parameter.in === "query";
    if (parameter.in !== "path" && !replaced) put(parameter, choice, path);
  }
  if (goOn !== undefined)
    for (const [parameter, all] of continued(operation, goOn)) {
      put(parameter, { texts: all }, path);
      given.add(parameter);
    }

  const query = [...texts].flatMap(([parameter, all]) =>
    parameter.in === "query" ? (all ?? []).map((text) => [parameter.name, text] as const) : [],
  );
  const search = [...escaped].flatMap(([{ name, in: place }, all]) =>
    place === "query" ? all.map((text) => `${encodeURIComponent(name)}=${text}`) : [],
  );
  const headers = [...texts].flatMap(([{ name, in: place }, all]) =>
    place === "header" ? (all ?? []).map((text) => [name, text] as const) : [],
  );
  if (headers.some(([, value]) => !SENDABLE.test(value))) return undefined;
  const body = plan.body && bodyOf(plan.body, operation, facts, schemas.request, resolve);
  const credential = credentialOf(plan, credentials, contract);
  if (credential === undefined) return undefined;

  const parts: Parts = {
    operation,
    texts,
    // What a client accepts decides about the answer, not whether the request is valid.
    otherHeaders: plan.headers.map(([name]) => name).filter((name) => name !== "Accept"),
    body,
    given,
  };
  return {
    operation,
    request: {
      method: operation.method,
      target: search.length === 0 ? path : `${path}?${search.join("&")}`,
      headers: [
        ...[
          ...headers,
          ...credential,
          ...(body?.type === undefined ? [] : [["Content-Type", body.type] as const]),
        ].filter(([name]) => plan.headers.every(([other]) => other.toLowerCase() !== name.toLowerCase())),
        ...plan.headers,
      ],
      ...(body && { body: body.bytes }),
    },
    sent: { path, query },
    verdict: verdictOn(parts, schemas, resolve),
    credential: plan.credential,
    goesOn: goOn !== undefined,
  };
}

/** What Node lets into a header: anything else could not even be sent. */
const SENDABLE = /^[\t\x20-\x7e\x80-\xff]*$/;

function nth<Value>(values: readonly Value[], n: number): Value | undefined {
  return values[n % Math.max(values.length, 1)];
}

function factFor(
  operation: Operation,
  parameter: Parameter,
  n: number,
  facts: Facts,
  path: string,
): string | undefined {
  const name = parameter.name.toLowerCase();
  if (parameter.in === "header" && /^if-(none-)?match$/.test(name)) return facts.etag(path);
  const found = nth(facts.of(wantedBy(operation, parameter), n % 5 !== 4), n);
  return found === undefined ? undefined : `${found}`;
}

function continued(operation: Operation, { query, parameter, text }: Continuation): [Parameter, string[]][] {
  return operation.parameters.flatMap((one): [Parameter, string[]][] => {
    if (one.in !== "query") return [];
    const texts =
      one.name === parameter ? [text] : query.filter(([name]) => name === one.name).map(([, own]) => own);
    return texts.length === 0 ? [] : [[one, texts]];
  });
}

function bodyOf(
  plan: BodyPlan,
  { body }: Operation,
  facts: Facts,
  check: Check,
  resolve: Contract["resolve"],
): { type: string | undefined; bytes: Buffer } {
  if ("bytes" in plan) return plan;
  const schema = body?.content.get(plan.type)?.schema ?? {};
  const own = branches(schema, resolve);
  const ofItems = own.flatMap(({ items }) => (items === undefined ? [] : branches(items, resolve)));
  const properties = Object.assign({}, ...[...ofItems, ...own].map((one) => one.properties ?? {}));

  let choices = plan.facts;
  const told = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.length > 20 ? value : value.map(told);
    if (typeof value !== "object" || value === null) return value;
    const fields = Object.entries(value).map(([name, given]) => {
      const chosen = choices % 2 === 1;
      choices = Math.floor(choices / 2);
      // Only what is a reference to something else; a text may be any text.
      const references = wantedByName(name).filter((fact) => fact.includes("."));
      const known = chosen && name in properties ? facts.of(references) : [];
      const fact = nth(known, choices);
      const fits = fact !== undefined && check(properties[name], fact).length === 0;
      return [name, fits ? fact : given];
    });
    return Object.fromEntries(fields);
  };
  return { type: plan.type, bytes: Buffer.from(JSON.stringify(told(plan.value)) ?? "") };
}

type Headers = readonly (readonly [string, string])[];

/** Nothing when there is no key of that kind. */
function credentialOf(
  plan: Plan,
  credentials: Credentials | undefined,
  { schemes }: Contract,
): Headers | undefined {
  const [needed] = plan.operation.security;
  const [scheme] = Object.entries(needed ?? {});
  if (credentials === undefined || scheme === undefined) return plan.credential === "right" ? [] : undefined;
  const [name, scopes] = scheme;
  const { type, scheme: kind } = (schemes[name] ?? {}) as Record<string, unknown>;
  if (type !== "http" || `${kind}`.toLowerCase() !== "bearer")
    throw new Error(`this harness cannot authorise by ${name} (${type}, ${kind})`);
  const bearer = (key: string): Headers => [["Authorization", `Bearer ${key}`]];
  switch (plan.credential) {
    case "right":
      return bearer(credentials.right(scopes));
    case "no key":
      return [];
    case "wrong key":
      return bearer("no-such-key");
    case "key without the scope": {
      const key = credentials.without(scopes);
      return key === undefined ? undefined : bearer(key);
    }
  }
}
