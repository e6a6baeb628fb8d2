import { once } from "node:events";
import { createServer } from "node:net";
import { describe, expect, it, onTestFinished } from "vitest";
import { DatabaseUnusableError, describeDatabase, waitForDatabase } from "../../src/db/wait-for-database.ts";
import { usePrivatePostgres } from "../support/private-postgres.ts";
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
