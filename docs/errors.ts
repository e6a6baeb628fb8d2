/*
 * npm run docs:errors
 *
 * Writes docs/errors.md, the page of every problem that the API answers with, from where they are defined.
 */
import { writeFileSync } from "node:fs";
import { PROBLEMS, type ProblemSlug, problemType } from "../src/api/problem.ts";

export const ERRORS_PAGE = new URL("errors.md", import.meta.url);

const HEAD = `# Errors of the REST API

Every error is \`application/problem+json\` ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)):

\`\`\`json
{
  "type": "urn:outbox-relayer:problem:invalid-request",
  "title": "The request is not valid",
  "status": 400,
  "instance": "urn:outbox-relayer:request:7c9e6679-7425-40de-944b-e07fc1f90ae7",
  "errors": [
    { "parameter": "limit", "detail": "must be a whole number from 1 to 200" },
    { "pointer": "#/0/recipient", "detail": "must be a number in E.164 form, such as +905551234567" }
  ]
}
\`\`\`

Go by \`type\`: it never changes. \`detail\` is for people. \`instance\` ends in the request's id, which is in the answer's
\`X-Request-Id\` and in the log. No error shows a stack or a statement. With \`Retry-After\` the same request may be sent again
after so many seconds.
`;

export function errorsPage(): string {
  const slugs = Object.keys(PROBLEMS) as ProblemSlug[];
  const rows = slugs.map(
    (slug) => `| ${PROBLEMS[slug].status} | [\`${slug}\`](#${slug}) | ${PROBLEMS[slug].title} |`,
  );
  const parts = slugs.map(
    (slug) =>
      `## ${slug}\n\n\`${problemType(slug)}\`, ${PROBLEMS[slug].status}: ${PROBLEMS[slug].title}.\n\n${PROBLEMS[slug].help}\n`,
  );
  return [HEAD, `| status | type | |\n|---|---|---|\n${rows.join("\n")}\n`, ...parts].join("\n");
}

if (import.meta.main) writeFileSync(ERRORS_PAGE, errorsPage());
