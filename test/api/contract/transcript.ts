import { curl } from "./curl.ts";
import { type Answer, NoAnswerError, type Request } from "./wire.ts";

/** A request and its answer, for a person to repeat. */
export function shown(origin: string, request: Request, answer: Answer | NoAnswerError): string {
  if (answer instanceof NoAnswerError) return `  ${curl(origin, request)}\n    → ${answer.message}`;
  const { status, headers, body } = answer;
  const text = body.subarray(0, 500).toString();
  return `  ${curl(origin, request)}\n    → ${status} ${headers["content-type"] ?? ""} ${text}`.trimEnd();
}
