import { readFile } from "node:fs/promises";
import { Client, type ClientConfig, DatabaseError, Pool } from "pg";
import { describe, expect, it, onTestFinished } from "vitest";
import { isHopeless, isOutage } from "../../src/db/outage.ts";
import { backends, queryOnce, terminate, usePrivatePostgres } from "../support/private-postgres.ts";
import { freePort } from "../support/redis.ts";
import { eventually } from "./eventually.ts";

const postgres = usePrivatePostgres();

async function connected(config: ClientConfig): Promise<Client> {
  const client = new Client(config);
  client.on("error", () => {});
  await client.connect();
  onTestFinished(() => client.end());
  return client;
}

/** What the driver really throws, and whether it is an outage, or hopeless. */
async function verdict(work: Promise<unknown>): Promise<{ outage: boolean; hopeless: boolean }> {
  const error = await work.then(
    () => expect.fail("it succeeded"),
    (reason: unknown) => reason,
  );
  return { outage: isOutage(error), hopeless: isHopeless(error) };
}

const OUTAGE = { outage: true, hopeless: false };
const HOPELESS = { outage: false, hopeless: true };
const OUR_FAULT = { outage: false, hopeless: false };

const withUrl = (url: string, change: (url: URL) => void) => {
  const changed = new URL(url);
  change(changed);
  return changed.href;
};

describe("an outage", () => {
  it("is a port where nobody listens, also by both addresses of localhost", async () => {
    const port = await freePort();
    expect(await verdict(queryOnce(`postgres://x@127.0.0.1:${port}/x`, "select 1"))).toEqual(OUTAGE);
    expect(await verdict(queryOnce(`postgres://x@localhost:${port}/x`, "select 1"))).toEqual(OUTAGE);
    const refused = Object.assign(new Error("refused"), { code: "ECONNREFUSED" });
    expect(isOutage(new AggregateError([refused, refused]))).toBe(true);
    expect(isOutage(new AggregateError([refused, new Error("a bug")]))).toBe(false);
  });

  it("is a name that does not resolve, and a socket that is not there", async () => {
    expect(await verdict(queryOnce("postgres://x@no-such-host.invalid/x", "select 1"))).toEqual(OUTAGE);
    expect(await verdict(queryOnce("postgres:///x?host=/tmp/no-such-folder&user=x", "select 1"))).toEqual(
      OUTAGE,
    );
  });

  it("is a session that was ended, in the query it cut off and in every later one", async () => {
    const url = await postgres.createDatabase();
    const client = await connected({ connectionString: url, application_name: "victim" });
    const query = verdict(client.query("select pg_sleep(60)"));
    await eventually(() => backends(url, "victim")).toHaveLength(1);
    await terminate(url, "victim");
    expect(await query).toEqual(OUTAGE);
    expect(await verdict(client.query("select 1"))).toEqual(OUTAGE);
  });

  it.each(["fast", "immediate"] as const)("is a server that stops (%s)", async (mode) => {
    const url = await postgres.createDatabase();
    const client = await connected({ connectionString: url });
    const query = verdict(client.query("select pg_sleep(60)"));
    await postgres.stop(mode);
    onTestFinished(() => postgres.start());
    expect(await query).toEqual(OUTAGE);
    expect(await verdict(queryOnce(url, "select 1"))).toEqual(OUTAGE);
  });

  it("is an answer that does not come, and a pool without a free place", async () => {
    const connectionString = await postgres.createDatabase();
    const slow = await connected({ connectionString, query_timeout: 50 });
    expect(await verdict(slow.query("select pg_sleep(60)"))).toEqual(OUTAGE);

    const pool = new Pool({ connectionString, max: 1, connectionTimeoutMillis: 50 });
    const taken = await pool.connect();
    expect(await verdict(pool.connect())).toEqual(OUTAGE);
    taken.release();
    await pool.end();
    expect(await verdict(pool.connect())).toEqual(OUR_FAULT); // nobody is away: we ended it
  });

  it("is a server that is full", async () => {
    const url = await postgres.createDatabase();
    const database = new URL(url).pathname.slice(1);
    await queryOnce(url, `create role few_${database} login connection limit 0 password 'x'`);
    const full = withUrl(url, (to) => {
      to.username = `few_${database}`;
      to.password = "x";
    });
    expect(await verdict(queryOnce(full, "select 1"))).toEqual(OUTAGE);
  });

  it.each(["57P01", "57P02", "57P03", "53300", "08000", "08001", "08003", "08006"])(
    "is the code %s",
    (code) => {
      const error = Object.assign(new DatabaseError("away", 0, "error"), { code });
      expect(isOutage(error)).toBe(true);
      expect(isOutage(new Error("wrapped", { cause: error }))).toBe(true);
    },
  );
});

describe("hopeless", () => {
  it("is a wrong password, an unknown user, a missing database", async () => {
    const url = await postgres.createDatabase();
    expect(
      await verdict(
        queryOnce(
          withUrl(url, (to) => (to.password = "wrong")),
          "select 1",
        ),
      ),
    ).toEqual(HOPELESS);
    expect(
      await verdict(
        queryOnce(
          withUrl(url, (to) => (to.username = "nobody")),
          "select 1",
        ),
      ),
    ).toEqual(HOPELESS);
    expect(
      await verdict(
        queryOnce(
          withUrl(url, (to) => (to.pathname = "/nowhere")),
          "select 1",
        ),
      ),
    ).toEqual(HOPELESS);
  });
});

describe("neither", () => {
  it("is a fault in the SQL, a violated constraint, a cancelled statement, a missing file, a bug", async () => {
    const url = await postgres.createDatabase();
    expect(await verdict(queryOnce(url, "selekt"))).toEqual(OUR_FAULT);
    expect(
      await verdict(queryOnce(url, "create temp table t (id int check (id > 1)); insert into t values (0)")),
    ).toEqual(OUR_FAULT);
    expect(await verdict(queryOnce(url, "set statement_timeout = 1; select pg_sleep(60)"))).toEqual(
      OUR_FAULT,
    );
    expect(await verdict(readFile("/no/such/file"))).toEqual(OUR_FAULT);
    expect(isOutage(new TypeError("x is not a function"))).toBe(false);
    expect(isOutage("Connection terminated")).toBe(false);
    expect(isOutage(undefined)).toBe(false);
  });

  it("is a statement whose own words sound like an outage", async () => {
    const url = await postgres.createDatabase();
    expect(
      await verdict(queryOnce(url, "do $$ begin raise 'Connection terminated unexpectedly'; end $$")),
    ).toEqual(OUR_FAULT);
  });
});
