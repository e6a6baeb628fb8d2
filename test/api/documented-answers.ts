import { operationFor, readContract } from "./contract/document.ts";
import { faultsByDocument } from "./contract/judge.ts";
import { createSchemas } from "./contract/schemas.ts";
import { EVENT_STREAM } from "./contract/wire.ts";

export interface OpenApiDocument {
  openapi: string;
  paths: Record<string, Record<string, object>>;
  components: { schemas: Record<string, unknown> };
}

/** Throws unless the answer is one that the document announces: its status, its headers, its media type and its schema. */
export type ExpectDocumented = (method: string, url: string, answer: Response) => Promise<void>;

export function expectingDocumented(document: OpenApiDocument): ExpectDocumented {
  const contract = readContract(document);
  const check = createSchemas(contract).answer;
  return async (method, url, answer) => {
    const { status } = answer;
    const headers = Object.fromEntries(answer.headers);
    // A stream does not end.
    const streams = headers["content-type"]?.startsWith(EVENT_STREAM) === true;
    const body = streams ? Buffer.alloc(0) : Buffer.from(await answer.arrayBuffer());
    const operation = operationFor(contract, method, new URL(url, "http://localhost").pathname);
    const faults =
      operation !== undefined
        ? faultsByDocument(operation, { status, headers, body }, check)
        : // A page, an asset, or a problem, which looks the same everywhere.
          status < 400
          ? []
          : check({ $ref: "#/components/schemas/Problem" }, JSON.parse(body.toString()));
    if (faults.length > 0) throw new Error(`${method} ${url}: ${faults.join("; ")}\n${body}`);
  };
}
