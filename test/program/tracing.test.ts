import { expect, it } from "vitest";
import { settled } from "../relay/messages.ts";
import { useDatabase } from "../support/database.ts";
import { startHttpGateway } from "../support/http-gateway.ts";
import { startCollector } from "../support/otlp-collector.ts";
import { freePort } from "../support/redis.ts";
import { startProgram } from "./program.ts";

const database = useDatabase();
const TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const INSERT = `
  insert into outbox.messages (recipient, content, traceparent)
  values ('+905551234567', 'hi', '${TRACE}') returning id::int`;

it("sends its spans where OpenTelemetry's variables say, the last ones when it is stopped", async () => {
  await using gateway = await startHttpGateway();
  await using collector = await startCollector();
  const program = startProgram({
    env: {
      DATABASE_URL: database.url,
      WEBHOOK_URL: gateway.url,
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
      OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20secret-of-the-collector",
      OTEL_EXPORTER_OTLP_COMPRESSION: "gzip",
      OTEL_SERVICE_NAME: "sms",
    },
  });
  await program.ready();
  const { rows } = await database.pool.query<{ id: number }>(INSERT);
  const id = rows[0]?.id ?? 0;
  await settled(database.pool, id, "sent");
  program.kill("SIGTERM");
  expect(await program.end).toEqual({ code: 0, signal: null });

  const attempts = collector.spans.filter(({ name }) => name === "outbox.attempt");
  expect(attempts).toMatchObject([
    {
      parentSpanId: "00f067aa0ba902b7",
      attributes: { "outbox.message_id": id },
      resource: { "service.name": "sms", "service.instance.id": expect.stringContaining(`:${program.pid}`) },
    },
  ]);
  for (const { headers } of collector.requests)
    expect(headers).toMatchObject({
      authorization: "Bearer secret-of-the-collector",
      "content-encoding": "gzip",
    });
  expect(program.output).not.toContain("secret-of-the-collector");
});

it("relays, and ends in time with 0, when the collector is away", async () => {
  await using gateway = await startHttpGateway();
  const collector = `http://127.0.0.1:${await freePort()}`;
  const program = startProgram({
    env: {
      DATABASE_URL: database.url,
      WEBHOOK_URL: gateway.url,
      OTEL_EXPORTER_OTLP_ENDPOINT: collector,
    },
  });
  await program.ready();
  const { rows } = await database.pool.query<{ id: number }>(INSERT);
  await settled(database.pool, rows[0]?.id ?? 0, "sent");
  program.kill("SIGTERM");
  await program.logged(/^(stopped before the collector had taken the last spans|spans were lost)/);
  expect(await program.end).toEqual({ code: 0, signal: null });
});
