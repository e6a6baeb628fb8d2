import { type Contract, operationFor } from "./document.ts";
import type { Prepared } from "./prepare.ts";
import { type Answer, NoAnswerError, type Request } from "./wire.ts";

type Send = (request: Request) => Promise<Answer>;

const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "PROPFIND"];

/** A sound request for a path, with every method that the document does not have for it: 405, with those that it has; HEAD as GET. */
export async function methodFaults(
  { request, sent }: Prepared,
  contract: Contract,
  send: Send,
  describe: (request: Request, answer: Answer | NoAnswerError) => string,
): Promise<string[]> {
  // `PATCH /messages/sent` is `PATCH /messages/{id}`, if that exists.
  const here = METHODS.filter((method) => operationFor(contract, method, sent.path) !== undefined);
  const allowed = here.includes("GET") ? [...here, "HEAD"] : here;
  const faults: string[] = [];
  for (const method of METHODS) {
    if (here.includes(method)) continue;
    const asked = { ...request, method };
    const answer = await send(asked).catch(noAnswer);
    const fault =
      answer instanceof NoAnswerError
        ? answer.message
        : allowed.includes(method)
          ? headFault(answer, await send({ ...request, method: "GET" }))
          : refusalFault(answer, allowed);
    if (fault !== undefined) faults.push(`${method}: ${fault}\n${describe(asked, answer)}`);
  }
  return faults;
}

function noAnswer(error: unknown): NoAnswerError {
  if (error instanceof NoAnswerError) return error;
  throw error;
}

function headFault(head: Answer, get: Answer): string | undefined {
  if (head.status !== get.status) return `${head.status}, and GET gives ${get.status}`;
  if (head.body.length > 0) return "an answer with a body";
  const type = head.headers["content-type"];
  return type === get.headers["content-type"]
    ? undefined
    : `${type}, and GET gives ${get.headers["content-type"]}`;
}

function refusalFault({ status, headers }: Answer, allowed: readonly string[]): string | undefined {
  if (status !== 405) return `${status} instead of 405`;
  const named = (headers.allow ?? "").split(",").map((method) => method.trim());
  const rest = named.filter((method) => method !== "OPTIONS");
  return rest.toSorted().join() === allowed.toSorted().join()
    ? undefined
    : `405 with Allow: ${headers.allow}, and the document has ${allowed.join(", ")}`;
}
