import type { HttpBindings } from "@hono/node-server";
import { Hono } from "hono";
import { readContract, type Schema } from "../document.ts";
import { createSchemas } from "../schemas.ts";
import { CHANGE, DOCUMENT, ETAG, LIST, METHODS, NEW } from "./document.ts";
import type { Fault } from "./faults.ts";

type Env = { Bindings: HttpBindings };

/**
 * A server that keeps its contract, to plant faults in: it holds parcels, which are posted, looked up, changed and sent. `planted` is
 * asked at each place where a fault can be.
 */
export function parcelServer(planted: (fault: Fault) => boolean): Hono<Env> {
  const app = new Hono<Env>();
  const check = createSchemas(readContract(DOCUMENT)).request;
  const valid = (schema: Schema, value: unknown) => check(schema, value).length === 0;
  const parcels = new Map<number, Parcel>();
  const keep = (parcel: Partial<Parcel>) => {
    const kept = { ...EMPTY, ...parcel, id: parcels.size + 1 };
    parcels.set(kept.id, kept);
    return kept;
  };
  for (const name of ["lamp", "chair", "book", "cup", "clock"]) keep({ name });

  const problem = (status: number, type = "application/problem+json", headers = {}) =>
    new Response(JSON.stringify({ status, title: `${status}` }), {
      status,
      headers: { "Content-Type": type, ...headers },
    });

  function shown(parcel: Parcel, status = 200, headers: Record<string, string> = {}): Response {
    const body: Record<string, unknown> = { ...parcel };
    if (planted("a number as a text")) body.weight = `${parcel.weight}`;
    if (planted("a property too many")) body.secret = "x";
    if (planted("a property too few")) delete body.tags;
    if (planted("null where none may be")) body.tags = null;
    if (planted("no date") && parcel.due !== null) body.due = "soon";
    if (planted("off schema once it was changed") && parcel.version > 1) body.name = 7;
    return Response.json(body, { status, headers: { ETag: `"${parcel.version}"`, ...headers } });
  }

  function refusalOf(header: string | undefined, scope: string): Response | undefined {
    if (header === undefined && planted("open without a key")) return undefined;
    const key = /^Bearer key((?: \w+)*)$/.exec(header ?? "")?.[1];
    if (key === undefined) return planted("403 instead of 401") ? problem(403) : problem(401);
    return key.split(" ").includes(scope) || planted("no scopes") ? undefined : problem(403);
  }

  /** The body, or the answer that refuses it. */
  async function bodyOf(
    request: Request,
    schema: Schema,
  ): Promise<Partial<Parcel> | Partial<Parcel>[] | Response> {
    const type = (request.headers.get("Content-Type") ?? "").split(";")[0]?.trim().toLowerCase();
    if (type !== "application/json" && !planted("any media type")) return problem(415);
    const text = await request.text();
    let value: Partial<Parcel> | null;
    try {
      value = JSON.parse(text);
    } catch {
      return planted("malformed JSON") ? { name: "x", weight: 1 } : problem(400);
    }
    if (planted("500 for a NUL") && text.includes("\\u0000")) throw new Error();
    if (planted("500 for a lone surrogate") && /\\ud[89a-f]/.test(text)) throw new Error();
    if (planted("characters counted as UTF-16") && (value?.name?.length ?? 0) > 20) return problem(400);
    if (planted("the maximum refused") && value?.weight === 100) return problem(400);
    const accepted =
      planted("any body") ||
      (planted("more than the maximum") && value?.weight === 101) ||
      (planted("one too many at once") && Array.isArray(value) && value.length === 101) ||
      (planted("a map with odd names") && /[A-Z]/.test(Object.keys(value?.labels ?? {}).join()));
    return accepted || valid(schema, value) ? (value ?? {}) : problem(400);
  }

  const idOf = (text: string) => (/^[1-9]\d{0,8}$/.test(text) ? Number(text) : undefined);

  app.onError(() => problem(500));
  app.get("/openapi.json", (c) => c.json(DOCUMENT));

  app.get("/parcels", (c) => {
    if (planted("no answer at all")) c.env.incoming.socket.destroy();
    if (planted("500 for a header") && c.req.header("Range")) throw new Error();
    const query = c.req.queries();
    for (const [name, texts] of Object.entries(query)) {
      const schema = (LIST as Record<string, Schema>)[name];
      const [text = ""] = texts;
      if (schema === undefined || (texts.length > 1 && !planted("the first of two"))) return problem(400);
      const value = name === "limit" && /^\d+$/.test(text) ? Number(text) : text;
      if (!valid(schema, value) && !(name === "limit" && planted("any limit"))) return problem(400);
      const strange = name === "cursor" && !/^\d+$/.test(text);
      if (strange && planted("500 for a strange cursor")) throw new Error();
      if (strange) return problem(400);
    }
    if (planted("its own cursor refused") && query.cursor) return problem(400);
    const limit = Number(query.limit?.[0] ?? 2);
    const from = Number(query.cursor?.[0] ?? 0);
    const rest = [...parcels.values()].filter(({ id }) => id > from);
    const page = rest.slice(0, limit);
    const more = rest.length > page.length && !planted("no way on");
    return c.json({ parcels: page, next_cursor: more ? `${page.at(-1)?.id}` : null });
  });

  app.post("/parcels", async (c) => {
    const refusal = refusalOf(c.req.header("Authorization"), "write");
    if (refusal !== undefined) return refusal;
    const body = await bodyOf(c.req.raw, NEW);
    if (body instanceof Response) return body;
    if (Array.isArray(body)) return c.json({ ids: body.map((one) => keep(one).id) });
    const parcel = keep(body);
    return shown(parcel, 201, planted("a header too few") ? {} : { Location: `/parcels/${parcel.id}` });
  });

  app.get("/parcels/:id", (c) => {
    const id = idOf(c.req.param("id"));
    if (id === undefined) return planted("a page for an error") ? c.html("<p>no", 400) : problem(400);
    const parcel = planted("nothing is ever found") ? undefined : parcels.get(id);
    if (parcel === undefined) return problem(planted("an undocumented status") ? 410 : 404);
    return planted("HEAD is refused") && c.req.raw.method === "HEAD" ? problem(404) : shown(parcel);
  });

  app.patch("/parcels/:id", async (c) => {
    const refusal = refusalOf(c.req.header("Authorization"), "write");
    if (refusal !== undefined) return refusal;
    const id = idOf(c.req.param("id"));
    const body = await bodyOf(c.req.raw, CHANGE);
    if (body instanceof Response) return body;
    const parcel = parcels.get(id ?? 0);
    const wanted = c.req.header("If-Match");
    if (id === undefined || (wanted !== undefined && !valid(ETAG, wanted))) return problem(400);
    if (parcel === undefined) return problem(404);
    const etag = `"${parcel.version}"`;
    if (wanted === etag && planted("500 where ETags match")) throw new Error();
    if (wanted !== undefined && wanted !== etag) return problem(412);
    const changed = { ...parcel, ...body, version: parcel.version + 1 };
    parcels.set(id, changed);
    return shown(changed);
  });

  app.post("/parcels/:id/send", (c) => {
    const refusal = refusalOf(c.req.header("Authorization"), "operate");
    if (refusal !== undefined) return refusal;
    const id = idOf(c.req.param("id"));
    const parcel = parcels.get(id ?? 0);
    if (id === undefined) return problem(400);
    if (parcel === undefined) return problem(404);
    if (parcel.sent && planted("500 the second time")) throw new Error();
    if (parcel.sent) return problem(409);
    parcels.set(id, { ...parcel, sent: true });
    return c.body(null, 204);
  });

  app.get("/events", (c) => {
    const data = planted("an event off schema") ? '{"id":"1"}' : '{"id":1}';
    const event = planted("a broken stream")
      ? `event: x\n${data}\n\n`
      : `id: 7\nevent: sent\ndata: ${data}\n\n`;
    const stream = new ReadableStream({ start: (out) => out.enqueue(new TextEncoder().encode(event)) });
    return c.body(stream, 200, { "Content-Type": "text/event-stream" });
  });

  app.notFound((c) => {
    const methods = Object.entries(METHODS).find(([path]) => new RegExp(`^${path}$`).test(c.req.path))?.[1];
    if (methods === undefined || planted("404 for another method")) return problem(404);
    if (planted("everything may be asked") && c.req.method === "OPTIONS") return c.body(null, 204);
    const named = planted("405 for one method too few") ? methods.slice(0, 1) : methods;
    return problem(405, undefined, planted("405 without Allow") ? {} : { Allow: named.join(", ") });
  });
  return app;
}

interface Parcel {
  readonly id: number;
  readonly version: number;
  readonly sent: boolean;
  readonly name: string;
  readonly weight: number;
  readonly note: string | null;
  readonly tags: readonly string[];
  readonly due: string | null;
  readonly labels: Readonly<Record<string, string>>;
}

const EMPTY = { version: 1, sent: false, name: "", weight: 1, note: null, tags: [], due: null, labels: {} };
