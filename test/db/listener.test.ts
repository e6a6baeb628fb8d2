import { describe, expect, it, onTestFinished } from "vitest";
import { createListener, type Listener } from "../../src/db/listener.ts";
import { backends, queryOnce, terminate, usePrivatePostgres } from "../support/private-postgres.ts";
import { eventually } from "./eventually.ts";
import { logLines } from "./log-lines.ts";

const postgres = usePrivatePostgres();
const CHANNEL = 'Odd "channel"';

/** A listener whose calls a test can wait on: they are written to a log of their own. */
function listen(connectionString: string) {
  const messages = logLines();
  const calls = logLines();
  let connections = 0;
  const listener: Listener = createListener({
    connectionString,
    channel: CHANNEL,
    log: messages.log,
    onNotification: (payload) => calls.log(`notification ${payload}`),
    onConnected: () => {
      connections += 1;
      calls.log(`connected ${connections}`);
    },
  });
  onTestFinished(() => listener.stop());
  return { listener, messages, calls };
}

const notify = (url: string, payload: string) =>
  queryOnce(url, "select pg_notify($1, $2)", [CHANNEL, payload]);

describe("createListener", () => {
  it("passes on every payload as it is, from the moment that it says it is connected", async () => {
    const url = await postgres.createDatabase();
    const { listener, calls, messages } = listen(url);
    await listener.start();
    expect(calls.lines).toEqual(["connected 1"]);
    await notify(url, "not json");
    await notify(url, "");
    await notify(url, "last");
    await calls.line(/last/);
    expect(calls.lines).toEqual([
      "connected 1",
      "notification not json",
      "notification ",
      "notification last",
    ]);
    expect(messages.lines).toEqual([]);
  });

  it("is told of a lost connection, again and again, and says so once each", async () => {
    const url = await postgres.createDatabase();
    const { listener, calls, messages } = listen(url);
    await listener.start();
    for (const round of [1, 2, 3]) {
      await terminate(url, "outbox-listen");
      await calls.line(new RegExp(`connected ${round + 1}`));
      await notify(url, `after ${round}`);
      await calls.line(new RegExp(`after ${round}`));
      expect(messages.lines).toHaveLength(round * 2);
    }
    expect(messages.lines.slice(0, 2)).toEqual([
      `Not listening on ${CHANNEL}: the connection was lost; trying until it works`,
      `Listening on ${CHANNEL} again`,
    ]);
    expect(await backends(url, "outbox-listen")).toHaveLength(1);
  });

  it("starts while the database is away, and listens when it comes", async () => {
    const url = await postgres.createDatabase();
    await postgres.stop();
    const { listener, calls, messages } = listen(url);
    await listener.start();
    expect(calls.lines).toEqual([]);
    expect(messages.lines).toEqual([expect.stringMatching(/^Not listening on .*: connect ECONNREFUSED/)]);
    await postgres.start();
    await calls.line(/connected 1/);
    await notify(url, "here");
    await calls.line(/here/);
    expect(messages.lines).toEqual([expect.stringMatching(/^Not/), expect.stringMatching(/^Listening/)]);
  });

  it.each(["fast", "immediate"] as const)("survives a restart of the server (%s)", async (mode) => {
    const url = await postgres.createDatabase();
    const { listener, calls, messages } = listen(url);
    await listener.start();
    await postgres.stop(mode);
    await messages.line(/^Not listening/);
    await postgres.start();
    await calls.line(/connected 2/);
    await notify(url, "again");
    await calls.line(/again/);
    expect(messages.lines).toHaveLength(2);
  });

  it("stops in an outage too, and stays stopped when the database comes back", async () => {
    const url = await postgres.createDatabase();
    const { listener, calls, messages } = listen(url);
    await listener.start();
    await postgres.stop();
    await messages.line(/^Not listening/);
    await listener.stop();
    await postgres.start();
    await notify(url, "nobody hears this");
    expect(await backends(url, "outbox-listen")).toEqual([]);
    expect(calls.lines).toEqual(["connected 1"]);
  });

  it("stops twice, without having started, and closes its connection", async () => {
    const url = await postgres.createDatabase();
    const { listener } = listen(url);
    await listener.start();
    await listener.stop();
    await listener.stop();
    await eventually(() => backends(url, "outbox-listen")).toEqual([]);
    await listen(url).listener.stop();
  });
});
