import { expect, onTestFinished, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { startHttpGateway } from "../support/http-gateway.ts";
import { startRelayer } from "../support/relayer.ts";

const database = useDatabase();

test("what a gateway quotes of a message is in no line of the log, and what else it says is", async () => {
  const statuses = [500, 503, 429, 401];
  await using gateway = await startHttpGateway({
    answer: ({ body }) => ({
      status: statuses.shift() ?? 400,
      body: { error: "sender not allowed", received: body },
    }),
  });
  const relayer = await startRelayer({ databaseUrl: database.url, webhookUrl: gateway.url });
  onTestFinished(() => relayer.stop());
  await database.pool.query(
    "insert into outbox.messages (recipient, content) values ('+905551234567', 'Your code is 482913')",
  );
  await relayer.logged(({ reason }) => reason === "throttled");
  await database.pool.query("select outbox.resume('default')");
  const said = '{"error":"sender not allowed","received":{"to":"+90******4567","content":"[content]"}}';
  expect(await relayer.logged(({ reason }) => reason === "hold")).toMatchObject({
    error: `HTTP 401: ${said}`,
  });
  await database.pool.query("select outbox.resume('default')");
  expect(await relayer.logged(({ msg }) => msg === "messages ended as dead letters")).toMatchObject({
    error: `HTTP 400: ${said}`,
  });
  const lines = JSON.stringify(relayer.logs);
  expect(lines).not.toMatch(/482913|Your code|5551234567/);
  expect(lines).toContain("HTTP 500: ");
});
