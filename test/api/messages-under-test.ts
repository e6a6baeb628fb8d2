import { beforeEach, expect } from "vitest";
import type { Message, MessageWithHistory } from "../../src/api/whole-message.ts";
import type { OutcomeKind } from "../../src/gateway/outcome.ts";
import type { Row, useOutbox } from "../sql/outbox-under-test.ts";
import { type ApiUnderTest, apiUnderTest } from "./api-under-test.ts";
import { callerWith } from "./caller.ts";

export const MESSAGES = "/api/v1/messages";

export interface ProblemAnswer {
  readonly type: string;
  readonly status: number;
  readonly detail?: string;
  readonly errors?: readonly { detail: string; parameter?: string; pointer?: string }[];
}

const WHO = {
  all: callerWith("read+read_pii+write+operate", "ali"),
  read: callerWith("read", "reader"),
  write: callerWith("write", "writer"),
  operate: callerWith("operate", "operator"),
};

export type Who = keyof typeof WHO;

interface Asked {
  readonly method?: string;
  readonly who?: Who;
  readonly headers?: Record<string, string>;
  /** Sent as JSON; a text as it is. */
  readonly body?: unknown;
}

/** The API over the file's database, with a key for each of WHO; and ways to bring messages as far as a test wants them. */
export function useMessages(outbox: ReturnType<typeof useOutbox>) {
  let api: ApiUnderTest;
  beforeEach(() => {
    api = apiUnderTest(outbox.pool, { keys: Object.values(WHO).map(({ key }) => key) });
  });

  /** What `path` is appended to is /api/v1/messages. */
  function ask(path: string, { method = "GET", who = "all", headers = {}, body }: Asked = {}) {
    return api.request(`${MESSAGES}${path}`, {
      method,
      headers: {
        ...WHO[who].headers,
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
  }

  async function answered<Body>(status: number, answer: Promise<Response>): Promise<Body> {
    const got = await answer;
    const body = (await got.json()) as Body;
    expect(got.status, JSON.stringify(body)).toBe(status);
    return body;
  }

  const problem = async (slug: string, status: number, answer: Promise<Response>) => {
    const body = await answered<ProblemAnswer>(status, answer);
    expect(body.type).toBe(`urn:outbox-relayer:problem:${slug}`);
    return body;
  };

  /** The one relayer of these tests. */
  async function register(): Promise<number> {
    return outbox.value("select outbox.register_relayer('test', '1.0')");
  }

  /** Has all that waits claimed, and of these messages the attempts end like this. */
  async function settle(relayer: number, outcomes: ReadonlyMap<number, OutcomeKind>): Promise<void> {
    await outbox.pool.query("update outbox.messages set available_at = created_at where claimed_by is null");
    await outbox.pool.query("select outbox.resume('default')");
    const claimed = await outbox.claim(relayer, 10_000);
    const done = claimed.filter(({ id }) => outcomes.has(id)).toSorted((a, b) => a.id - b.id);
    await outbox.settle(
      relayer,
      done.map(({ id, attempt }) => {
        const outcome = outcomes.get(id) ?? "accepted";
        return outcome === "accepted"
          ? { id, attempt, outcome }
          : { id, attempt, outcome, http_status: 400, error: "HTTP 400: +905551234567 is barred" };
      }),
    );
    const rest = claimed.filter(({ id }) => !outcomes.has(id)).map(({ id }) => id);
    await outbox.pool.query("select outbox.release($1, $2)", [relayer, rest.toSorted((a, b) => a - b)]);
  }

  /** A message that has come as far as that. */
  async function messageThat(
    state: "waits" | "is being sent" | "was sent" | "was rejected" | "may have been sent" | "expired",
    columns: Row = {},
  ): Promise<number> {
    const id = await outbox.insert(columns);
    if (state === "waits") return id;
    const relayer = await register();
    if (state === "is being sent") await outbox.claim(relayer, 1);
    else if (state === "was sent") await settle(relayer, new Map([[id, "accepted"]]));
    else if (state === "was rejected") await settle(relayer, new Map([[id, "rejected"]]));
    else if (state === "may have been sent") {
      await outbox.pool.query("update outbox.gateways set on_unknown = 'park' where name = 'default'");
      await settle(relayer, new Map([[id, "unknown"]]));
    } else {
      await outbox.pool.query(
        "update outbox.messages set expires_at = created_at + interval '1 microsecond' where id = $1",
        [id],
      );
      await outbox.claim(relayer, 1);
    }
    return id;
  }

  const get = async (id: number) => answered<MessageWithHistory>(200, ask(`/${id}`));
  const tagOf = async (id: number, who: Who = "all") =>
    (await ask(`/${id}`, { who })).headers.get("ETag") ?? "no ETag";

  return {
    get api() {
      return api;
    },
    ask,
    answered,
    problem,
    register,
    settleAs: settle,
    messageThat,
    get,
    tagOf,
  };
}

export type MessagePage = { readonly messages: Message[]; readonly next_cursor: string | null };
