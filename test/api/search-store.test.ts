import { expect, onTestFinished, test } from "vitest";
import type { ApiDependencies } from "../../src/api/dependencies.ts";
import { eventually } from "../support/eventually.ts";
import { useStandIn } from "./store-under-test.ts";

const standIn = useStandIn();
const PROBLEM = "urn:outbox-relayer:problem:";

const search = (q: string) => `/api/v1/messages?q=${encodeURIComponent(q)}`;

/** With the indexes while the test runs, in one of the two databases. */
async function searchable(place: "store" | "primary"): Promise<void> {
  const pool = standIn[place];
  await pool.query("select outbox.create_search_indexes()");
  onTestFinished(async () => {
    for (const table of ["messages", "sent", "dead_letters"])
      await pool.query(`drop index outbox.${table}_search, outbox.${table}_metadata`);
  });
}

async function serve(overrides: Partial<ApiDependencies> = {}) {
  const served = await standIn.serve({}, overrides);
  await served.becomes("usable");
  return served;
}

test("where the store has no indexes for it, that is said, and how to get them; also if it loses them", async () => {
  const { request, queryStore } = await serve();
  const refused = await request(search("parcel"));
  expect([refused.status, await refused.json()]).toEqual([
    501,
    expect.objectContaining({
      type: `${PROBLEM}search-unavailable`,
      detail: expect.stringContaining("npm run query-store -- init"),
    }),
  ]);
  // Nobody asks the database for each of them.
  const becomes = (wanted: boolean) =>
    eventually(
      async () => queryStore.condition().searchable,
      (searchable) => searchable === wanted,
    );
  await standIn.store.query("select outbox.create_search_indexes()");
  await becomes(true);
  expect((await request(search("parcel"))).status).toBe(200);
  for (const table of ["messages", "sent", "dead_letters"])
    await standIn.store.query(`drop index outbox.${table}_search, outbox.${table}_metadata`);
  await becomes(false);
  expect((await request(search("parcel"))).status).toBe(501);
});

test("without a store the primary is searched, once it has the indexes", async () => {
  const { request } = await serve({ queryStore: undefined });
  const refused = await request(search("parcel"));
  expect([refused.status, await refused.json()]).toEqual([
    501,
    expect.objectContaining({ detail: expect.stringContaining("select outbox.create_search_indexes()") }),
  ]);
  await searchable("primary");
  const answer = await eventually(
    async () => await request(search("parcel")),
    ({ status }) => status !== 501,
  );
  expect([answer.status, await answer.json()]).toEqual([200, { messages: [], next_cursor: null }]);
});

test("while the store is away, what only it can do is to be asked again", async () => {
  const served = await serve();
  await served.queryStore.stop();
  served.queryStore.doubt(new Error("gone"));
  const refused = await served.request(search("parcel"));
  expect([refused.status, refused.headers.get("Retry-After"), await refused.json()]).toEqual([
    503,
    "2",
    expect.objectContaining({ type: `${PROBLEM}query-store-unavailable` }),
  ]);
  await searchable("primary");
  const answer = await eventually(
    async () => await served.request(search("parcel")),
    ({ status }) => status !== 503,
  );
  expect(answer.status).toBe(200);
});
