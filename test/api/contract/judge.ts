import type { AnswerDescription, Operation, Schema } from "./document.ts";
import type { Credential } from "./plan.ts";
import type { Prepared } from "./prepare.ts";
import type { Check } from "./schemas.ts";
import { type Answer, EVENT_STREAM } from "./wire.ts";

/** Everything that is wrong with an answer. */
export function faultsOf(
  { operation, verdict, credential }: Prepared,
  answer: Answer,
  check: Check,
): string[] {
  const { status } = answer;
  const faults = faultsByDocument(operation, answer, check);
  if (status >= 500) faults.unshift(`${status}: the server failed`);
  const refusals = REFUSALS[credential];
  if (refusals !== undefined) {
    if (!refusals.includes(status))
      faults.push(`${status} instead of ${refusals.join(" or ")}: ${credential}`);
  } else if (verdict.kind === "valid" && REFUSES_THE_FORM.has(status)) {
    faults.push(`${status}, and by the document the request is valid`);
  } else if (verdict.kind === "broken" && status < 400) {
    faults.push(`${status}, and by the document the request is not valid: ${verdict.why}`);
  }
  return faults;
}

/** Whoever fails to name himself too often may be told to wait. */
const REFUSALS: Partial<Record<Credential, readonly number[]>> = {
  "no key": [401, 429],
  "wrong key": [401, 429],
  "key without the scope": [403],
};

/** Of a valid request. Not among them: what depends on more than its form, as 404, 406, 409, 413 and 422. */
const REFUSES_THE_FORM = new Set([400, 405, 414, 415, 431]);

/** What the document does not announce of an answer, no matter what was asked. */
export function faultsByDocument(operation: Operation, answer: Answer, check: Check): string[] {
  const { status } = answer;
  const described =
    operation.answers.get(`${status}`) ??
    operation.answers.get(`${`${status}`[0]}XX`) ??
    operation.answers.get("default");
  if (described === undefined) return [`${status} is not documented`];
  return [...headerFaults(described, answer, check), ...contentFaults(described, answer, check)];
}

function headerFaults({ headers }: AnswerDescription, answer: Answer, check: Check): string[] {
  return headers.flatMap(({ name, required, schema }) => {
    const value = answer.headers[name.toLowerCase()];
    if (value === undefined) return required ? [`${answer.status} without its header ${name}`] : [];
    const numeric = schema.type === "integer" || schema.type === "number";
    const read = numeric && /^-?\d+(\.\d+)?$/.test(`${value}`) ? Number(value) : value;
    return check(schema, read).map((fault) => `the header ${name}: ${value}: ${fault}`);
  });
}

function contentFaults(
  { content }: AnswerDescription,
  { status, headers, body }: Answer,
  check: Check,
): string[] {
  const type = (headers["content-type"] ?? "").split(";")[0]?.trim().toLowerCase() ?? "";
  if (content.size === 0)
    return body.length === 0 ? [] : [`${status} with a body (${type}) that is not documented`];
  const media = content.get(type) ?? content.get(`${type.split("/")[0]}/*`) ?? content.get("*/*");
  if (media === undefined) return [`${status} as ${type || "nothing"}, which is not documented`];
  const text = body.toString();
  if (!Buffer.from(text).equals(body)) return [`${status}: the body is not UTF-8`];
  if (type === EVENT_STREAM) return streamFaults(text, media.schema.contentSchema ?? {}, check);
  if (!/[/+]json$/.test(type)) return check(media.schema, text).map((fault) => `${status}: ${fault}`);
  const value = parsed(text);
  if (value === undefined) return [`${status}: the body is not JSON`];
  return check(media.schema, value).map((fault) => `${status}: ${fault}`);
}

/** Each line is a field that the standard knows, or a comment; each event's data is as described. The last one may be cut off. */
function streamFaults(text: string, ofData: Schema, check: Check): string[] {
  const events = text.split(/(?:\r\n|\n|\r){2}/).slice(0, -1);
  return events.flatMap((event) => {
    const lines = event.split(/\r\n|\n|\r/);
    const strange = lines.filter((line) => !/^:|^(event|data|id|retry)(:|$)/.test(line));
    const data = lines.flatMap((line) => /^data: ?(.*)$/.exec(line)?.[1] ?? []).join("\n");
    return [
      ...strange.map((line) => `the event stream has the line ${JSON.stringify(line)}`),
      ...(data === "" ? [] : dataFaults(data, ofData, check)),
    ];
  });
}

function dataFaults(data: string, schema: Schema, check: Check): string[] {
  const value = parsed(data);
  if (value === undefined) return ["the data of an event are not JSON"];
  return check(schema, value).map((fault) => `the data of an event: ${fault}`);
}

/** Undefined is no JSON. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
