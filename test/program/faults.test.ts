import fs from "node:fs";
import { createServer } from "node:http";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { expect, it, onTestFinished } from "vitest";
import { startHttpGateway } from "../support/http-gateway.ts";
import { queryOnce, usePrivatePostgres } from "../support/private-postgres.ts";
import { freePort } from "../support/redis.ts";
import { embeddedHome, openFolder, probe, startProgram } from "./program.ts";

const postgres = usePrivatePostgres();
const NOWHERE = { DATABASE_URL: "postgres://outbox@127.0.0.1:1/outbox", WEBHOOK_URL: "http://127.0.0.1:1/" };

/** Runs it to its end. */
async function run(env: Record<string, string>, command: readonly string[] = [], uid?: number) {
  const program = startProgram({ env, command, ...(uid === undefined ? {} : { uid }) });
  return { ...(await program.end), output: program.output };
}

function file(text: string): string {
  const at = path.join(openFolder("outbox-settings-"), "settings");
  fs.writeFileSync(at, text);
  return at;
}

const faults = (count: string, ...lines: readonly string[]) =>
  `The configuration has ${count}:\n${lines.map((line) => `  - ${line}\n`).join("")}`;

it("tells all faults of the configuration at once, and nothing else", async () => {
  const { code, output } = await run({ RELAY_BATCH_SIZE: "0", LOG_LEVEL: "loud", WEBHOOK_TIMEOUT: "5" });
  expect(output).toBe(
    faults(
      "3 faults",
      'RELAY_BATCH_SIZE (environment): "0" is not a whole number from 1 to 10000',
      'WEBHOOK_TIMEOUT (environment): "5" is not a duration from 100ms to 10m, such as 500ms, 2s, 5m, 24h or 30d',
      'LOG_LEVEL (environment): "loud" is not one of trace, debug, info, warn, error, fatal',
    ),
  );
  expect(code).toBe(1);
});

it("refuses to stand in for a database and a gateway in production, and makes no folder", async () => {
  const { env } = await embeddedHome();
  const { code, output } = await run({ ...env, NODE_ENV: "production" });
  expect(output).toMatch(
    /^The configuration has 2 faults:\n {2}- No database is .*\n {2}- No gateway has .*\n$/,
  );
  expect(code).toBe(1);
  expect(fs.existsSync(env.EMBEDDED_POSTGRES_DATA_DIR)).toBe(false);
});

it.each([
  [
    { CONFIG_FILE: "/nowhere/config.yaml" },
    faults("a fault", "CONFIG_FILE: there is no file /nowhere/config.yaml"),
  ],
  [
    { CRONTAB_FILE: "/nowhere/crontab" },
    faults("a fault", "CRONTAB_FILE: there is no file /nowhere/crontab"),
  ],
  [
    { CONFIG_FILE: "/" },
    faults("a fault", "CONFIG_FILE: / cannot be read: EISDIR: illegal operation on a directory, read"),
  ],
])("says which of its files it cannot read: %o", async (env, said) => {
  expect(await run({ ...NOWHERE, ...env })).toEqual({ code: 1, signal: null, output: said });
});

it("makes an API key with which a relayer can be reached from elsewhere, and refuses to be without", async () => {
  const { code, output } = await run({}, ["api-key", "desk", "read+read_pii"]);
  expect(code).toBe(0);
  const [key] = /obx_[\w-]{43}/.exec(output) ?? [];
  const [setting] = /^ {2}desk:read\+read_pii:[0-9a-f]{64}$/m.exec(output) ?? [];

  const closed = await run({ ...NOWHERE, HOST: "0.0.0.0", PORT: "0" });
  expect(closed.code).toBe(1);
  expect(closed.output).toContain("the API has no keys");

  const database = await postgres.createDatabase();
  const program = startProgram({
    env: { ...NOWHERE, DATABASE_URL: database, HOST: "0.0.0.0", API_KEYS: (setting ?? "").trim() },
  });
  const { api } = await program.ready();
  expect((await fetch(`${api}/scheduler`)).status).toBe(401);
  const headers = { Authorization: `Bearer ${key}` };
  expect((await fetch(`${api}/scheduler`, { headers })).status).toBe(200);
});

it.each([
  [["desk"], "api-key takes NAME SCOPES [EXPIRES], such as: api-key support read+read_pii 2027-01-31\n"],
  [["desk", "all"], "SCOPES are some of read, read_pii, write, operate, each once, with + between them\n"],
])("tells what api-key %j lacks", async (args, said) => {
  expect(await run({}, ["api-key", ...args])).toMatchObject({ code: 2, output: said });
});

it.each([["frobnicate"], ["migrate", "now"]])("knows no command %s %s", async (...command) => {
  const { code, output } = await run(NOWHERE, command);
  expect(output).toBe(
    faults(
      "a fault",
      `"${command.join(" ")}" is no command; there are start (the default), migrate, watch, alert:test, query-store and api-key`,
    ),
  );
  expect(code).toBe(1);
});

it.each([
  ["* * * * relay", "Could not process line '1' of crontab: '* * * * relay'"],
  ["* * * * * fly", "there is no task fly; there are relay, maintain, alert."],
])("does not start with the crontab %s", async (line, said) => {
  const crontab = file(`${line}\n`);
  const { code, output } = await run({ ...NOWHERE, CRONTAB_FILE: crontab });
  expect(output.trim()).toBe(`${crontab}: ${said}`);
  expect(code).toBe(1);
});

it("says that its port is taken, or that the address is not this machine's, and leaves no server behind", async () => {
  const other = createServer().listen(0, "127.0.0.1");
  onTestFinished(() => void other.close());
  await new Promise((resolve) => other.once("listening", resolve));
  const { port } = other.address() as { port: number };
  const { env } = await embeddedHome();

  const taken = await run({ ...env, PORT: String(port) });
  expect(taken.output).toContain(
    `"msg":"Port ${port} on 127.0.0.1 is taken by another program: stop it, or set PORT to another."`,
  );
  expect(taken.code).toBe(1);
  expect(fs.existsSync(env.EMBEDDED_POSTGRES_DATA_DIR)).toBe(true);
  expect(fs.existsSync(path.join(env.EMBEDDED_POSTGRES_DATA_DIR, "postmaster.pid"))).toBe(false);

  const foreign = await run({
    ...NOWHERE,
    HOST: "192.0.2.1",
    API_KEYS: `desk:read:${"ab".repeat(32)}`,
  });
  expect(foreign.output).toContain("This machine has no address 192.0.2.1: set HOST to one it has");
  expect(foreign.code).toBe(1);

  // The port of its PostgreSQL.
  const clash = await run({ ...env, EMBEDDED_POSTGRES_PORT: String(port) });
  expect(clash.output).toContain(
    `Port ${port} on 127.0.0.1 is taken by another program, so the built-in PostgreSQL`,
  );
  expect(clash.code).toBe(1);
});

it("says that it cannot write to the data folder", async () => {
  const closed = path.join(openFolder("outbox-closed-"), "closed");
  fs.mkdirSync(closed, { mode: 0o555 });
  // Root may write anywhere.
  const uid = process.getuid?.() === 0 ? 65_534 : undefined;
  const dataDir = path.join(closed, "data");
  const { code, output } = await run({ EMBEDDED_POSTGRES_DATA_DIR: dataDir }, [], uid);
  expect(output).toMatch(
    /The data folder .* cannot be made \(EACCES: permission denied.*\)\. Make .* writable/,
  );
  expect(output).not.toContain('"stack"');
  expect(code).toBe(1);
});

it("takes a wrong password or a missing database for an answer", async () => {
  const url = await postgres.createDatabase();
  const wrong = await run({
    ...NOWHERE,
    DATABASE_URL: url.replace("secret-of-the-test", "not-the-password"),
  });
  expect(wrong.output).toMatch(
    /Postgres at 127\.0\.0\.1:\d+\/db_\w+ cannot be used: password authentication failed/,
  );
  expect(wrong.output).toContain("Correct the user or the password");
  expect(wrong.output).not.toContain("not-the-password");
  expect(wrong.code).toBe(1);

  const missing = await run({ ...NOWHERE, DATABASE_URL: `${url}_missing` }, ["migrate"]);
  expect(missing.output).toContain("Create the database, or correct its name.");
  expect(missing.code).toBe(1);
});

it("waits for a database that is away, says so, answers probes meanwhile, and goes on when it comes", async () => {
  const url = await postgres.createDatabase();
  await postgres.stop();
  const port = await freePort();
  const program = startProgram({ env: { DATABASE_URL: url, PORT: String(port) } });
  const { msg } = await program.logged(/^Waiting for Postgres/);
  expect(msg).toMatch(/^Waiting for Postgres at 127\.0\.0\.1:\d+\/db_\w+: connect ECONNREFUSED/);
  const api = `http://127.0.0.1:${port}/`;
  expect((await probe(api, "livez")).status).toBe(200);
  expect((await probe(api, "readyz")).status).toBe(503);
  await postgres.start();
  await program.ready();
  expect(program.output).toMatch(/Postgres at .* answers, after \d/);
  expect((await probe(api, "readyz")).status).toBe(200);
  expect(program.lines.filter(({ level }) => level === "error" || level === "fatal")).toEqual([]);
});

it("never prints a secret, whatever goes wrong", async () => {
  const gateway = await startHttpGateway({
    // A gateway that sends back what it got, as some do in their errors.
    answer: ({ headers }) => ({ status: 400, body: { received: headers } }),
  });
  onTestFinished(() => gateway.close());
  const url = await postgres.createDatabase();
  const secrets = {
    WEBHOOK_AUTH_KEY: "key-3f9a",
    WEBHOOK_SECRET: `whsec_${Buffer.alloc(32, "s3cr3t").toString("base64")}`,
  };
  const webhook = `${gateway.url}?token=t0ken-in-url`;
  const env = { DATABASE_URL: url, WEBHOOK_URL: webhook, LOG_LEVEL: "trace", ...secrets };
  const program = startProgram({ env: { ...env, REDIS_URL: "redis://:r3dis-p4ss@127.0.0.1:1/0" } });
  const { psql, gateway: address } = await program.ready();
  expect(address).toBe(`${gateway.url}?***`);
  expect(psql).toBe(url.replace(":secret-of-the-test", ""));
  const insert = "insert into outbox.messages (recipient, content) values ('+905551234567', 'hello')";
  await queryOnce(url, insert);
  expect(JSON.stringify(await program.logged(/dead letters/))).toContain("HTTP 400");
  expect(gateway.requests[0]?.headers["api-key"]).toBe(secrets.WEBHOOK_AUTH_KEY);
  program.kill("SIGTERM");
  expect((await program.end).code).toBe(0);

  const byQuery = url.replace(":secret-of-the-test", "").concat("?password=secret-of-the-test");
  const other = startProgram({
    env: { ...env, DATABASE_URL: byQuery },
    terminal: fs.existsSync("/usr/bin/script"),
  });
  await Promise.race([other.printed(/It goes to/), other.printed(/"ready"/)]);
  const refused = await run({
    ...env,
    DATABASE_URL: "postgres://outbox:100%25-s3cr3t%@127.0.0.1:1/outbox",
    PORT: "1",
    HOST: "192.0.2.1",
  });
  expect(refused.output).toContain("192.0.2.1");
  for (const secret of [
    "secret-of-the-test",
    "key-3f9a",
    secrets.WEBHOOK_SECRET.slice(6),
    "r3dis-p4ss",
    "s3cr3t",
    "t0ken-in-url",
  ]) {
    expect(program.output + other.output + refused.output).not.toContain(secret);
  }
});

it.each([
  ["7200000", /^this host's clock is 2h ahead of Postgres': /],
  ["-7200000", /^this host's clock is 2h behind Postgres': /],
])("tells a clock that is wrong by %s ms, and relays all the same", async (CLOCK_SHIFT_MS, told) => {
  await using gateway = await startHttpGateway();
  const url = await postgres.createDatabase();
  const shifted = pathToFileURL(path.resolve(import.meta.dirname, "../chaos/shifted-clock.ts"));
  const env = {
    DATABASE_URL: url,
    WEBHOOK_URL: gateway.url,
    NODE_OPTIONS: `--import ${shifted}`,
    CLOCK_SHIFT_MS,
  };
  const program = startProgram({ env });
  expect((await program.logged(/^this host's clock/)).msg).toMatch(told);
  await program.ready();
  await queryOnce(url, "insert into outbox.messages (recipient, content) values ('+905551234567', 'hi')");
  await gateway.received(1);
  program.kill("SIGTERM");
  expect((await program.end).code).toBe(0);
});
