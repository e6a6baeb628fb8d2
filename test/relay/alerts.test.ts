import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { createDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { type HttpGateway, startHttpGateway } from "../support/http-gateway.ts";
import { queryOnce } from "../support/private-postgres.ts";
import { startRelayer, type TestRelayer } from "../support/relayer.ts";
import { startSmtpServer } from "../support/smtp-server.ts";

let gateway: HttpGateway;

beforeAll(async () => {
  gateway = await startHttpGateway();
});
afterAll(() => gateway.close());

const insert = (url: string) =>
  queryOnce(url, "insert into outbox.messages (recipient, content) values ('+905551234567', 'hi')");

/** Something is wrong: a message that was rejected. */
const wrong = (url: string) =>
  queryOnce(
    url,
    `insert into outbox.dead_letters (id, gateway, priority, recipient, content, metadata, available_at, attempts, created_at, died_at, reason)
     select nextval('outbox.messages_id_seq'), 'default', 1, '+905551234567', 'secret text', '{}', now(), 5, now(), now(), 'rejected'`,
  );

const look = (url: string) => queryOnce(url, "select outbox_worker.add_job('alert')");

/** The notices that could not be sent, when there are so many. */
const unsent = (url: string, count: number) =>
  eventually(
    () =>
      queryOnce(
        url,
        "select task_identifier, last_error from outbox_worker.jobs where task_identifier like 'notify%' and locked_at is null order by 1",
      ),
    (jobs) => jobs.length === count && jobs.every((job) => job.last_error !== null),
  );

const tryAgain = (url: string) =>
  queryOnce(url, "update outbox_worker._private_jobs set run_at = now() where locked_at is null");

async function relayer(env: Readonly<Record<string, string>> = {}): Promise<TestRelayer & { url: string }> {
  const database = await createDatabase();
  const started = await startRelayer({ databaseUrl: database.url, webhookUrl: gateway.url, env });
  onTestFinished(async () => {
    await started.stop();
    await database.drop();
  });
  return { ...started, url: database.url };
}

test("while every notice fails the relay goes on; when they can be sent, each is sent once", async () => {
  const hook = await startHttpGateway({ answer: () => ({ status: 500, body: "server_error" }) });
  onTestFinished(() => hook.close());
  const gone = await startSmtpServer();
  await gone.close();
  const its = await relayer({
    ALERTS_SLACK_URL: `http://127.0.0.1:${hook.port}/hook`,
    ALERTS_SMTP_URL: `smtp://127.0.0.1:${gone.port}`,
    ALERTS_EMAIL_FROM: "outbox@example.com",
    ALERTS_EMAIL_TO: "ops@example.com",
  });
  await wrong(its.url);
  await look(its.url);
  const failed = await unsent(its.url, 2);
  expect(failed).toMatchObject([
    { task_identifier: "notify_email", last_error: expect.stringContaining("ECONNREFUSED") },
    { task_identifier: "notify_slack", last_error: "the notice was not sent: HTTP 500: server_error" },
  ]);

  await insert(its.url);
  await eventually(
    () => queryOnce(its.url, "select from outbox.sent"),
    ({ length }) => length === 1,
  );

  let taken = 0;
  hook.answerWith(() => {
    taken += 1;
    return { body: "ok" };
  });
  await using smtp = await startSmtpServer({}, gone.port);
  await eventually(
    async () => {
      await tryAgain(its.url);
      return await queryOnce(its.url, "select from outbox_worker.jobs where task_identifier like 'notify%'");
    },
    ({ length }) => length === 0,
  );
  expect(taken).toBe(1);
  expect(new Set(hook.requests.map(({ text }) => text)).size).toBe(1);
  expect(smtp.letters).toHaveLength(1);
  expect(smtp.letters[0]?.text).toContain(
    "WARNING: 1 new dead letter within 10 minutes at gateway default: rejected",
  );
  expect(JSON.stringify([hook.requests, smtp.letters])).not.toMatch(/905551234567|secret text/);
});

test("Slack's Retry-After is waited for, and then it is told, once", async () => {
  const hook = await startHttpGateway({
    answer: ({ nth }) =>
      nth === 1 ? { status: 429, body: "", headers: { "retry-after": "3600" } } : { body: "ok" },
  });
  onTestFinished(() => hook.close());
  const its = await relayer({ ALERTS_SLACK_URL: `http://127.0.0.1:${hook.port}/hook` });
  await wrong(its.url);
  await look(its.url);
  expect(await its.logged(({ msg }) => msg === "notice put off")).toMatchObject({
    retry_after_ms: 3_600_000,
  });
  const [job] = await eventually(
    () =>
      queryOnce(
        its.url,
        "select run_at > now() + interval '59 minutes' as later from outbox_worker.jobs where task_identifier = 'notify_slack'",
      ),
    ({ length }) => length === 1,
  );
  expect(job).toEqual({ later: true });
  await tryAgain(its.url);
  await its.logged(({ msg }) => msg === "notice sent");
  expect(hook.requests).toHaveLength(2);
});

test("a relayer that stops does not wait for a notice that hangs, and leaves it to the next one", async () => {
  const hook = await startHttpGateway({ answer: () => ({ fault: "hang" }) });
  onTestFinished(() => hook.close());
  const its = await relayer({ ALERTS_SLACK_URL: `http://127.0.0.1:${hook.port}/hook` });
  await wrong(its.url);
  await look(its.url);
  await hook.received(1);
  await its.stop();
  const jobs = "select locked_at, attempts from outbox_worker.jobs where task_identifier = 'notify_slack'";
  expect(await queryOnce(its.url, jobs)).toEqual([{ locked_at: null, attempts: 0 }]);
});

test("with no channel what is wrong is in outbox.open_alerts, and in the log once", async () => {
  const its = await relayer();
  await wrong(its.url);
  for (const _again of [1, 2]) {
    await look(its.url);
    await eventually(
      () => queryOnce(its.url, "select from outbox_worker.jobs where task_identifier = 'alert'"),
      ({ length }) => length === 0,
    );
  }
  expect(await queryOnce(its.url, "select kind, notices from outbox.open_alerts")).toEqual([
    { kind: "new_dead_letters", notices: 0 },
  ]);
  expect(its.logs.filter(({ msg }) => msg.startsWith("alert: "))).toMatchObject([
    { level: "warn", count: 1, severity: "warning" },
  ]);
});
