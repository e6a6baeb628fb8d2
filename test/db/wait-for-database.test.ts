import { once } from "node:events";
import { createServer } from "node:net";
import { Client } from "pg";
import { describe, expect, it, onTestFinished } from "vitest";
import {
  DatabaseUnusableError,
  describeDatabase,
  throughOutages,
  waitForDatabase,
} from "../../src/db/wait-for-database.ts";
import { queryOnce, usePrivatePostgres } from "../support/private-postgres.ts";
import { logLines } from "./log-lines.ts";

const postgres = usePrivatePostgres();
const never = new AbortController().signal;

const failure = (work: Promise<unknown>): Promise<Error> =>
  work.then(
    () => expect.fail("it succeeded"),
    (error: Error) => error,
  );

describe("waitForDatabase", () => {
  it("says nothing when the database is there", async () => {
    const { log, lines } = logLines();
    await waitForDatabase({ connectionString: await postgres.createDatabase(), log, signal: never });
    expect(lines).toEqual([]);
  });

  it("says at once what it waits for and why, and when it came; never the password", async () => {
    const connectionString = await postgres.createDatabase();
    const where = new URL(connectionString);
    await postgres.stop();
    const { log, lines, line } = logLines();
    const wait = waitForDatabase({ connectionString, log, signal: never });
    await line(/^Waiting for Postgres at /);
    await postgres.start();
    await wait;
    expect(lines).toEqual([
      `Waiting for Postgres at ${where.host}${where.pathname}: connect ECONNREFUSED ${where.host}`,
      expect.stringMatching(/^Postgres at \S+ answers, after \d+\.\d s$/),
    ]);
    expect(lines.join()).not.toContain("secret");
  });

  it("gives the reason also where Node has two addresses and no message", async () => {
    const gone = new AbortController();
    const { log, line } = logLines();
    const wait = failure(
      waitForDatabase({ connectionString: "postgres://x@localhost:1/x", log, signal: gone.signal }),
    );
    expect(await line(/Waiting/)).toMatch(/localhost:1\/x: .*ECONNREFUSED/);
    gone.abort();
    await wait;
  });

  it.each([
    [
      "password",
      (url: URL) => Object.assign(url, { password: "wrong" }),
      /password authentication failed.*Correct the user/,
    ],
    [
      "database",
      (url: URL) => Object.assign(url, { pathname: "/nowhere" }),
      /"nowhere" does not exist.*Create the database/,
    ],
    ["TLS", (url: URL) => url.searchParams.set("ssl", "true"), /does not support SSL/],
  ] as const)("gives up on a refusal at once: %s", async (_what, change, sentence) => {
    const url = new URL(await postgres.createDatabase());
    change(url);
    const { log, lines } = logLines();
    const error = await failure(waitForDatabase({ connectionString: url.href, log, signal: never }));
    expect(error).toBeInstanceOf(DatabaseUnusableError);
    expect(error.message).toMatch(/^Postgres at 127\.0\.0\.1:\d+\/\w+ cannot be used: /);
    expect(error.message).toMatch(sentence);
    expect(lines).toEqual([]);
  });

  it("ends at once when aborted, in a pause and while a silent server keeps it waiting", async () => {
    const paused = new AbortController();
    const { log, line } = logLines();
    const wait = failure(
      waitForDatabase({ connectionString: "postgres://x@127.0.0.1:1/x", log, signal: paused.signal }),
    );
    await line(/Waiting/);
    paused.abort(new Error("we are stopping"));
    expect((await wait).message).toBe("we are stopping");

    const silent = createServer().listen(0, "127.0.0.1");
    await once(silent, "listening");
    onTestFinished(() => void silent.close());
    const { port } = silent.address() as { port: number };
    const connecting = new AbortController();
    const start = performance.now();
    const stuck = failure(
      waitForDatabase({
        connectionString: `postgres://x@127.0.0.1:${port}/x`,
        log,
        signal: connecting.signal,
      }),
    );
    const [socket] = await once(silent, "connection");
    onTestFinished(() => socket.destroy());
    connecting.abort(new Error("we are stopping"));
    expect((await stuck).message).toBe("we are stopping");
    expect(performance.now() - start).toBeLessThan(4_000); // its own timeout is 5 s

    expect(
      (
        await failure(
          waitForDatabase({
            connectionString: "postgres://x@127.0.0.1:1/x",
            log,
            signal: AbortSignal.abort(),
          }),
        )
      ).name,
    ).toBe("AbortError");
  });
});

describe("describeDatabase", () => {
  it("is where node-postgres would connect, without the login", () => {
    expect(describeDatabase("postgres://me:secret@db.example:6432/app?sslmode=disable")).toBe(
      "db.example:6432/app",
    );
    expect(describeDatabase("postgres://me:secret@db.example")).toBe("db.example:5432/me");
  });
});

describe("throughOutages", () => {
  it("begins the work again when an outage cut it off, as often as that takes", async () => {
    const connectionString = await postgres.createDatabase();
    const { log, lines } = logLines();
    let rounds = 0;
    const done = await throughOutages({ connectionString, log, signal: never }, async () => {
      rounds += 1;
      const client = new Client({ connectionString });
      client.on("error", () => {});
      await client.connect();
      try {
        if (rounds < 3) {
          await postgres.stop("immediate");
          void postgres.start();
        }
        return (await client.query("select 7 as seven")).rows[0].seven;
      } finally {
        void client.end().catch(() => {});
      }
    });
    expect([done, rounds]).toEqual([7, 3]);
    expect(lines.filter((line) => /^Postgres went away: .*; trying again$/.test(line))).toHaveLength(2);
    expect(await queryOnce(connectionString, "select 1 as one")).toEqual([{ one: 1 }]);
  });

  it("throws what is no outage, and what its signal says", async () => {
    const connectionString = await postgres.createDatabase();
    const { log } = logLines();
    const fault = new Error("no outage");
    const options = { connectionString, log, signal: never };
    expect(await failure(throughOutages(options, () => Promise.reject(fault)))).toBe(fault);
    const stopping = new AbortController();
    const stopped = throughOutages({ ...options, signal: stopping.signal }, async () => {
      stopping.abort(fault);
      throw Object.assign(new Error("gone"), { code: "57P01" });
    });
    expect(await failure(stopped)).toBe(fault);
  });
});
