import { beforeAll, expect, it, onTestFinished } from "vitest";
import { createDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { type HttpGateway, startHttpGateway } from "../support/http-gateway.ts";
import { queryOnce } from "../support/private-postgres.ts";
import { startSmtpServer } from "../support/smtp-server.ts";
import { startProgram } from "./program.ts";

let hook: HttpGateway;
const KEY = "T00000000/B00000000/hunter2";

beforeAll(async () => {
  hook = await startHttpGateway();
  return () => hook.close();
});

const slack = () => ({ ALERTS_SLACK_URL: `http://127.0.0.1:${hook.port}/services/${KEY}` });

async function alertTest(env: Readonly<Record<string, string>>) {
  const program = startProgram({ env, command: ["alert:test"] });
  const { code } = await program.end;
  return { code, output: program.output };
}

it("alert:test sends a notice by every channel, and says what became of each", async () => {
  await using smtp = await startSmtpServer({
    authOptional: false,
    allowInsecureAuth: true,
    onAuth: ({ password, username }, _session, done) =>
      password === "hunter2" ? done(null, { user: username }) : done(new Error("no")),
  });
  const email = {
    ALERTS_SMTP_URL: `smtp://relayer@127.0.0.1:${smtp.port}`,
    ALERTS_EMAIL_FROM: "outbox@example.com",
    ALERTS_EMAIL_TO: "ops@example.com",
  };
  const all = await alertTest({
    ...slack(),
    ...email,
    ALERTS_SMTP_PASSWORD: "hunter2",
    ALERTS_NAME: "staging",
  });
  expect(all.code).toBe(0);
  expect(all.output.trimEnd().split("\n").sort()).toEqual(["email: sent", "slack: sent"]);
  expect(smtp.letters[0]?.headers.get("subject")).toMatch(/^\[staging\] warning: this is a test/);
  expect(hook.requests[0]?.text).toContain("this is a test");

  const some = await alertTest({ ...slack(), ...email, ALERTS_SMTP_PASSWORD: "hunter3" });
  expect(some.code).toBe(1);
  expect(some.output).toMatch(/^slack: sent$/m);
  expect(some.output).toMatch(/^email: not sent: Invalid login: 535 .*\(check alerts\.smtp_url/m);
  expect(some.output).not.toContain("hunter");

  const none = await alertTest({});
  expect(none.code).toBe(2);
  expect(none.output).toMatch(/^There is no channel to test: set ALERTS_SLACK_URL.*\n$/);
});

it("when the last relayer is killed a watcher tells, sends what it was sending, and tells when one is back", async () => {
  const database = await createDatabase();
  onTestFinished(() => database.drop());
  const { url } = database;
  const gateway = await startHttpGateway();
  onTestFinished(() => gateway.close());
  const relaying = { DATABASE_URL: url, WEBHOOK_URL: gateway.url };
  const before = hook.requests.length;
  const told = () => hook.requests.slice(before).map(({ text }) => text);

  const relayer = startProgram({ env: { ...relaying, ...slack() } });
  await relayer.ready();
  await queryOnce(
    url,
    `insert into outbox.dead_letters (id, gateway, priority, recipient, content, metadata, available_at, attempts, created_at, died_at, reason)
     values (0, 'default', 1, '+905551234567', 'hi', '{}', now(), 5, now(), now(), 'rejected')`,
  );
  hook.answerWith(() => ({ fault: "hang" }));
  await queryOnce(url, "select outbox_worker.add_job('alert')");
  await hook.received(before + 1);
  relayer.kill("SIGKILL");
  await relayer.end;
  hook.answerWith(() => ({ body: "ok" }));
  // As if some seconds had passed.
  await queryOnce(
    url,
    `update outbox.relayers set heartbeat_at = heartbeat_at - interval '10 s';
     update outbox_worker._private_jobs set locked_at = locked_at - interval '10 s'`,
  );

  const watch = startProgram({
    env: { DATABASE_URL: url, ALERTS_NO_RELAYER: "1s", ...slack() },
    command: ["watch"],
  });
  expect(await watch.logged(/^watching$/)).toMatchObject({ channels: ["slack"] });
  expect(await watch.logged(/^freed the jobs/)).toMatchObject({ workers: 1 });
  await hook.received(before + 2);
  expect(told()[1]).toBe(told()[0]);

  // What only a relayer does waits for one.
  await queryOnce(url, "select outbox_worker.add_job('maintain', job_key => 'theirs')");
  await queryOnce(url, "insert into outbox.messages (recipient, content) values ('+905551234567', 'hi')");
  /** The crontab's line comes each minute; here each time that the last look found nothing to tell. */
  const look = (words: RegExp) =>
    eventually(
      async () => {
        await queryOnce(url, "select outbox_worker.add_job('alert', job_key => 'look')");
        return told();
      },
      (texts) => texts.some((text) => words.test(text)),
    );
  await look(/\*critical\*: no relayer is alive: nothing is sent anywhere/);
  expect(await queryOnce(url, "select kind, severity from outbox.open_alerts")).toEqual([
    { kind: "no_relayer", severity: "critical" },
    { kind: "new_dead_letters", severity: "warning" },
  ]);
  expect(
    await queryOnce(url, "select locked_at, attempts from outbox_worker.jobs where key = 'theirs'"),
  ).toEqual([{ locked_at: null, attempts: 0 }]);
  expect(gateway.requests).toEqual([]);
  expect(await queryOnce(url, "select count(*)::int from outbox.watchers")).toEqual([{ count: 1 }]);

  // Without a channel, so that only the watcher can tell.
  const next = startProgram({ env: relaying });
  await next.ready();
  await gateway.received(1);
  await queryOnce(
    url,
    "update outbox.alerts set last_seen_at = last_seen_at - interval '10 minutes' where kind = 'no_relayer'",
  );
  await look(/\*over\*: no relayer is alive.*It lasted/);
  expect(told()).toHaveLength(4);

  for (const program of [watch, next]) {
    program.kill("SIGTERM");
    expect((await program.end).code).toBe(0);
    expect(program.output).not.toContain("hunter2");
  }
});

it("watch wants the relayers' database, and a line of the crontab", async () => {
  const program = startProgram({ command: ["watch"] });
  expect((await program.end).code).toBe(1);
  expect(program.output).toContain("watch works on the database of the relayers: set DATABASE_URL");
});
