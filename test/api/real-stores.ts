import pg from "pg";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type HttpGateway, startHttpGateway } from "../support/http-gateway.ts";
import { startRelayer, type TestRelayer } from "../support/relayer.ts";
import { pathsReadInStore } from "./store-reads.ts";

/** A primary and a query store of a real kind. */
export interface RealStore {
  readonly primaryUrl: string;
  readonly storeUrl: string;
  /** Nothing comes to the store any more, or it goes on. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  stop(): Promise<void>;
  start(): Promise<void>;
}

interface Answer {
  readonly status: number;
  readonly lag: string | null;
  readonly lsn: string | null;
  // biome-ignore lint/suspicious/noExplicitAny: what a body holds depends on what was asked
  readonly body: any;
}

const LAG = /^\d+\.\d{3}$/;
const MESSAGES = 1_000;

/** The whole program with a query store of this kind. */
export function testReads(kind: "physical" | "logical", store: RealStore): void {
  let gateway: HttpGateway;
  let relayer: TestRelayer;
  let primary: pg.Pool;

  beforeAll(async () => {
    gateway = await startHttpGateway();
    primary = new pg.Pool({ connectionString: store.primaryUrl, max: 2 });
    relayer = await start();
  });
  afterAll(async () => {
    await relayer?.stop();
    await primary?.end();
    await gateway?.close();
  });
  beforeEach(() => ready(true));

  const start = (env: Record<string, string> = {}) =>
    startRelayer({
      databaseUrl: store.primaryUrl,
      webhookUrl: gateway.url,
      env: { QUERY_DATABASE_URL: store.storeUrl, ...env },
    });

  async function ask(path: string, init: RequestInit = {}, at = relayer): Promise<Answer> {
    const answer = await fetch(`${at.api}${path}`, init);
    const { headers } = answer;
    return {
      status: answer.status,
      lag: headers.get("X-Query-Store-Lag"),
      lsn: headers.get("X-Outbox-LSN"),
      body: await answer.json(),
    };
  }

  const post = (content: string) =>
    ask("/messages", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ recipient: "+905551234567", content, available_at: "2090-01-01T00:00:00Z" }),
    });

  const ready = (usable: boolean) =>
    eventually(
      async () => (await ask("/scheduler")).lag !== null,
      (answered) => answered === usable,
    );

  const withToken = (lsn: string | null): RequestInit => ({ headers: { "X-Outbox-LSN": lsn ?? "" } });

  test("every read of the API is answered there, on connections of its own", async () => {
    const { body, lsn } = await post("read me");
    await ask("/dead-letters/replay", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ dry_run: false }),
    });
    await eventually(
      async () => (await ask(`/messages/${body.id}`, withToken(lsn))).lag !== null,
      (there) => there,
    );
    const { body: replays } = await ask("/replays");
    const { body: document } = await ask("/openapi.json");
    for (const path of pathsReadInStore(document)) {
      const id = path.includes("replays") ? replays.replays[0].id : body.id;
      const url = path.replace("/api/v1", "").replace("{id}", id).replace("{name}", "default");
      expect([path, await ask(url)]).toEqual([
        path,
        expect.objectContaining({ status: 200, lag: expect.stringMatching(LAG) }),
      ]);
    }
    const { body: message } = await ask(`/messages/${body.id}`);
    expect(message).toMatchObject({ status: "pending", content: "read me" });
    // This relayer, by its heartbeat: its lock is not seen there.
    const { body: relayers } = await ask("/relayers");
    expect(relayers.relayers).toContainEqual(expect.objectContaining({ alive: true }));

    const metrics = await (await fetch(relayer.api.replace("/api/v1", "/metrics"))).text();
    expect(metrics).toMatch(/^outbox_query_store_lag_seconds \d/m);
    const client = new pg.Client(store.storeUrl);
    await client.connect();
    const { rows } = await client.query(
      "select count(*)::int as count from pg_stat_activity where application_name = 'outbox-query'",
    );
    await client.end();
    expect(rows[0].count).toBeGreaterThan(0);
    expect(relayer.logs).toContainEqual(
      expect.objectContaining({ msg: "the query store answers the reads of the API", kind }),
    );
  });

  test("a write is seen by who sends its token, also while the store gets nothing", async () => {
    await store.pause();
    const { body, lsn } = await post("see me");
    expect(await ask(`/messages/${body.id}`)).toMatchObject({ status: 404, lag: expect.stringMatching(LAG) });
    expect(await ask(`/messages/${body.id}`, withToken(lsn))).toMatchObject({ status: 200, lag: null });
    await store.resume();
    const answer = await eventually(
      () => ask(`/messages/${body.id}`, withToken(lsn)),
      ({ lag }) => lag !== null,
    );
    expect(answer.body).toMatchObject({ content: "see me" });
  });

  test("a store that gets nothing is left alone once it lags too much, or reads are refused", async () => {
    const strict = await start({
      QUERY_STORE_MAX_LAG: "1500ms",
      QUERY_STORE_WHEN_AWAY: "unavailable",
    });
    onTestFinished(() => strict.stop());
    const asked = () => ask("/scheduler", {}, strict);
    await eventually(asked, ({ status }) => status === 200);
    await store.pause();
    const refused = await eventually(asked, ({ status }) => status === 503);
    expect(refused.body).toMatchObject({ type: "urn:outbox-relayer:problem:query-store-unavailable" });
    const readyz = await (await fetch(strict.api.replace("/api/v1", "/readyz"))).json();
    expect(readyz).toMatchObject({
      ready: true,
      parts: { query_store: { ok: true, detail: expect.stringMatching(/^It is \d+\.\d s behind/) } },
    });
    await store.resume();
    await eventually(asked, ({ status }) => status === 200);
  });

  test("who follows the feed of sent messages there sees each once, in order, while they are settled", async () => {
    const before = (await primary.query("select count(*)::int as sent from outbox.sent")).rows[0].sent;
    for (let n = 0; n < MESSAGES / 100; n++)
      void primary.query(
        "insert into outbox.messages (recipient, content) select '+905551234567', 'hi' from generate_series(1, 100)",
      );
    const seen: number[] = [];
    let cursor: string | null = null;
    while (seen.length < before + MESSAGES) {
      const more: string = cursor === null ? "" : `&cursor=${cursor}`;
      const { body, lag } = await ask(`/messages/sent?order=asc&limit=200${more}`);
      expect(lag).toMatch(LAG);
      seen.push(...body.messages.map(({ id }: { id: number }) => id));
      cursor = body.next_cursor;
    }
    const { rows } = await primary.query("select id::int from outbox.sent order by sent_at, id");
    expect(seen).toEqual(rows.map(({ id }) => id));
  });

  test("while the store is down the primary answers, and then it does again", async () => {
    await store.stop();
    onTestFinished(() => store.start());
    const answers = new Set<number>();
    const answered = async () => {
      const answer = await ask("/scheduler");
      answers.add(answer.status);
      return answer.lag !== null;
    };
    await eventually(answered, (inStore) => !inStore);
    await store.start();
    await eventually(answered, (inStore) => inStore);
    expect(answers).toEqual(new Set([200]));
  });

  test("messages are searched there once it has the indexes", async () => {
    const refused = await ask("/messages?q=parcel");
    if (kind === "physical") {
      expect([refused.status, refused.body.detail]).toEqual([
        501,
        expect.stringContaining("a physical standby"),
      ]);
      await primary.query("select outbox.create_search_indexes()");
    }
    const { body, lsn } = await post("A parcel for you");
    const found = await eventually(
      () => ask("/messages?q=parcel", withToken(lsn)),
      ({ status, lag }) => status === 200 && lag !== null,
    );
    expect(found.body.messages.map(({ id }: { id: number }) => id)).toEqual([body.id]);
  });
}
