import { expect, it } from "vitest";
import { eventually } from "../support/eventually.ts";
import { startHttpGateway } from "../support/http-gateway.ts";
import { queryOnce } from "../support/private-postgres.ts";
import { freePort } from "../support/redis.ts";
import { embeddedHome, gone, isRunning, probe, startProgram } from "./program.ts";

const INSERT =
  "insert into outbox.messages (recipient, content) values ('+905551234567', 'hello') returning id::int";

async function insert(url: string): Promise<number> {
  const [row] = await queryOnce<{ id: number }>(url, INSERT);
  return row?.id ?? 0;
}

const sent = (url: string) =>
  queryOnce<{ id: number; gateway_message_id: string }>(
    url,
    "select id::int, gateway_message_id from outbox.sent order by id",
  );

const untilSent = (url: string, count: number) =>
  eventually(
    () => sent(url),
    (rows) => rows.length === count,
  );

it("needs nothing configured: a row goes out, a restart keeps it, a signal leaves nothing behind", async () => {
  const { env, server } = await embeddedHome();
  const began = performance.now();
  const first = startProgram({ env: { ...env, LOG_LEVELS_DEMO: "debug" } });
  const { psql, api, swagger, gateway } = await first.ready();
  const firstMs = performance.now() - began;
  expect(psql).toBe(`postgres://outbox:outbox@127.0.0.1:${env.EMBEDDED_POSTGRES_PORT}/outbox`);
  expect(gateway).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/$/);
  const id = await insert(psql);
  const [row] = await untilSent(psql, 1);
  expect(row).toMatchObject({ id, gateway_message_id: expect.stringMatching(/^[0-9a-f-]{36}$/) });
  const { messages } = (await (await fetch(`${api}/messages/sent`)).json()) as { messages: object[] };
  expect(messages).toMatchObject([{ id, gateway_message_id: row?.gateway_message_id }]);
  expect(await (await fetch(swagger)).text()).toContain("swagger");
  const accepted = await first.logged(/^demo gateway accepted$/);
  expect(accepted).toMatchObject({ part: "demo", to: "+90******4567", content: "hello" });
  const postgres = server();
  first.kill("SIGTERM");
  expect(await first.end).toEqual({ code: 0, signal: null });
  await gone(postgres);

  const againBegan = performance.now();
  const second = startProgram({ env });
  await second.ready();
  console.log(
    `ready after ${firstMs.toFixed(0)} ms, again after ${(performance.now() - againBegan).toFixed(0)} ms`,
  );
  expect(await sent(psql)).toMatchObject([{ id }]);
  expect(second.output).not.toContain("Migration");
  const again = server();
  second.kill("SIGINT");
  expect(await second.end).toEqual({ code: 0, signal: null });
  await gone(again);
});

it("goes on with the server that a kill -9 left behind, and stops it at its end, also by a second signal", async () => {
  const { env, server } = await embeddedHome();
  const first = startProgram({ env });
  const { psql } = await first.ready();
  const postgres = server();
  first.kill("SIGKILL");
  await first.end;
  const id = await insert(psql);
  expect(isRunning(postgres)).toBe(true);

  const hung = await startHttpGateway({ answer: () => ({ fault: "hang" }) });
  const second = startProgram({
    env: { ...env, WEBHOOK_URL: hung.url, SHUTDOWN_GRACE: "1h", WEBHOOK_TIMEOUT: "10m" },
  });
  await hung.requestFor(id);
  expect(server()).toBe(postgres);
  await second.ready();
  second.kill("SIGTERM");
  await second.logged(/^SIGTERM: stopping/);
  await secondSignal(second);
  await gone(postgres);

  hung.answerWith(() => ({}));
  const third = startProgram({ env });
  await third.ready();
  const recovered = server();
  expect(await untilSent(psql, 1)).toMatchObject([{ id }]);
  expect(hung.counts.size).toBe(1);
  third.kill("SIGTERM");
  expect(await third.end).toEqual({ code: 0, signal: null });
  await gone(recovered);
  await hung.close();
});

it("shares its server with a second process: the last to stop stops it, whichever way the other ended", async () => {
  const { env, server } = await embeddedHome();
  const hung = await startHttpGateway({ answer: () => ({ fault: "hang" }) });
  const slow = { ...env, WEBHOOK_URL: hung.url, SHUTDOWN_GRACE: "1h", WEBHOOK_TIMEOUT: "10m" };
  const one = startProgram({ env: slow });
  const { psql } = await one.ready();
  const postgres = server();
  await hung.requestFor(await insert(psql));
  const two = startProgram({ env: slow });
  const { api } = await two.ready();
  expect(server()).toBe(postgres);

  hung.answerWith(() => ({}));
  one.kill("SIGTERM");
  await one.logged(/^SIGTERM: stopping/);
  await secondSignal(one);
  expect(isRunning(postgres)).toBe(true);
  expect((await probe(api, "readyz")).status).toBe(200);
  const id = await insert(psql);
  await hung.requestFor(id);

  // One that cannot even start has no say either.
  const port = new URL(api).port;
  const late = startProgram({ env: { ...env, PORT: port } });
  expect((await late.end).code).toBe(1);
  expect(late.output).toContain(`Port ${port} on 127.0.0.1 is taken by another program`);
  expect(isRunning(postgres)).toBe(true);
  expect((await probe(api, "readyz")).status).toBe(200);

  await hung.close();
  two.kill("SIGTERM");
  await two.logged(/^SIGTERM: stopping/);
  expect(await two.end).toEqual({ code: 0, signal: null });
  await gone(postgres);
}, 40_000);

it("of two that start at once on one port, one runs on, whatever the other stops on its way out", async () => {
  const { env, server } = await embeddedHome();
  const both = { env: { ...env, PORT: String(await freePort()) } };
  const programs = [startProgram(both), startProgram(both)];
  const [loser, code] = await Promise.race(
    programs.map(async (program) => [program, (await program.end).code] as const),
  );
  expect(code).toBe(1);
  expect(loser.output).toContain("is taken by another program");
  const winner = programs.find((program) => program !== loser);
  const { psql } = (await winner?.ready()) ?? { psql: "" };
  await insert(psql);
  await untilSent(psql, 1);
  const postgres = server();
  winner?.kill("SIGTERM");
  expect(await winner?.end).toEqual({ code: 0, signal: null });
  await gone(postgres);
});

it("migrates its own database with `migrate`, and stops it", async () => {
  const { env, server } = await embeddedHome();
  const program = startProgram({ env, command: ["migrate"] });
  await program.logged(/^Migration .* applied/);
  const postgres = server();
  expect(await program.end).toEqual({ code: 0, signal: null });
  expect(program.output).toContain("the database is up to date");
  await gone(postgres);
});

/** A signal that follows another at once is the same one (npm passes Ctrl-C on), so it is given until it is heard. */
async function secondSignal(program: ReturnType<typeof startProgram>): Promise<void> {
  const began = performance.now();
  const again = setInterval(() => program.kill("SIGTERM"), 50);
  const { code } = await program.end.finally(() => clearInterval(again));
  expect(code).toBe(1);
  expect(program.output).toContain("SIGTERM again: exiting at once");
  expect(performance.now() - began).toBeLessThan(3_000);
}
