import { connect } from "node:net";
import { expect, test } from "vitest";
import { startServer } from "../../src/api/server.ts";
import { apiUnderTest, type LogLine, noPool } from "./api-under-test.ts";

const MESSAGES = "/api/v1/messages";

test("a body in Latin-1 is refused: its letters would be lost", async () => {
  const body = Buffer.from('{"recipient": "+905551234567", "content": "für"}', "latin1");
  const answer = await apiUnderTest(noPool).request(MESSAGES, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body,
  });
  expect(answer.status).toBe(400);
  expect(await answer.json()).toMatchObject({
    type: "urn:outbox-relayer:problem:malformed-request",
    detail: "The body is not in UTF-8.",
  });
});

test.each([
  ["Content-Length: 500", '{"recip'],
  ["Transfer-Encoding: chunked", '5\r\n{"rec'],
])("a client that goes amid its body (%s) is no outage of the database", async (length, start) => {
  const lines: LogLine[] = [];
  const { promise: answered, resolve } = Promise.withResolvers<void>();
  const { app } = apiUnderTest(noPool, {
    log: (level, fields, message) => {
      lines.push({ level, fields, message });
      if (message === "request answered") resolve();
    },
  });
  const server = await startServer({ app, host: "127.0.0.1", port: 0, graceMs: 1_000 });
  const client = connect(Number(new URL(server.url).port), "127.0.0.1");
  const head = ["Host: 127.0.0.1", "Content-Type: application/json", length].join("\r\n");
  client.write(`POST ${MESSAGES} HTTP/1.1\r\n${head}\r\n\r\n${start}`, () => client.destroy());
  await answered;
  expect(lines).toMatchObject([{ level: "debug", fields: { path: MESSAGES, status: 400 } }]);
  await server.stop();
});
