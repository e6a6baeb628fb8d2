import type { Hook } from "@hono/zod-openapi";
import type { z } from "zod";
import type { ApiEnv } from "./dependencies.ts";
import { type Fault, ProblemError } from "./problem.ts";

/** Given to the router: what the schemas find becomes one problem with every fault in it. */
export const refuseInvalid: Hook<unknown, ApiEnv, string, undefined> = (result) => {
  if (result.success) return undefined;
  const place = result.target === "json" ? atPointer : atParameter;
  const errors = result.error.issues.flatMap((issue) => faults(issue, place));
  throw new ProblemError("invalid-request", undefined, errors);
};

type Place = (path: PropertyKey[]) => Partial<Fault>;

const atParameter: Place = (path) => ({ parameter: path.map(String).join(".") });

/** RFC 6901, in its URI fragment form, which is how RFC 9457 writes it. */
const atPointer: Place = (path) => {
  const steps = path.map((step) =>
    // A name in JSON may hold half a surrogate pair, which has no form in UTF-8.
    encodeURIComponent(String(step).toWellFormed().replaceAll("~", "~0").replaceAll("/", "~1")),
  );
  return { pointer: `#${steps.map((step) => `/${step}`).join("")}` };
};

function faults(issue: z.core.$ZodIssue, place: Place): Fault[] {
  if (issue.code === "unrecognized_keys")
    return issue.keys.map((key) => ({ detail: "is not known here", ...place([...issue.path, key]) }));
  if (issue.code === "invalid_union") {
    // Of the kinds that it may be, it is told what is wrong with the one it is.
    const itsKind = issue.errors.find((issues) => !issues.some(isOfAnotherKind));
    if (itsKind !== undefined)
      return itsKind.flatMap((inner) => faults({ ...inner, path: [...issue.path, ...inner.path] }, place));
  }
  // Parameters are strings: one that came as an array was given several times.
  const repeated = issue.code === "invalid_type" && place === atParameter && issue.message.includes("array");
  return [{ detail: repeated ? "may be given only once" : issue.message, ...place(issue.path) }];
}

function isOfAnotherKind({ code, path }: z.core.$ZodIssue): boolean {
  return code === "invalid_type" && path.length === 0;
}
