import fs from "node:fs";
import path from "node:path";
import { beforeAll, expect, it, onTestFinished } from "vitest";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { type HttpGateway, startHttpGateway } from "../support/http-gateway.ts";
import { queryOnce } from "../support/private-postgres.ts";
import { openFolder, type Program, startProgram } from "./program.ts";

let gateway: HttpGateway;

beforeAll(async () => {
  gateway = await startHttpGateway();
  return () => gateway.close();
});

async function database(options?: { readonly empty: boolean }): Promise<TestDatabase> {
  const made = await createDatabase(options);
  onTestFinished(() => made.drop());
  return made;
}

/** The URL of the database for a new user, made by that statement. */
async function login(
  url: string,
  kind: string,
  statement: (user: string, database: string) => string,
): Promise<string> {
  const database = new URL(url).pathname.slice(1);
  const user = `${kind}_${database}`;
  await queryOnce(url, `create role ${user} login password 'secret'; ${statement(user, database)}`);
  const admin = new URL(url);
  admin.pathname = "postgres";
  // Before the database goes, with what it owns.
  onTestFinished(async () => {
    await queryOnce(url, `reassign owned by ${user} to current_user; drop owned by ${user}`);
    await queryOnce(admin.href, `drop role ${user}`);
  });
  const other = new URL(url);
  other.username = user;
  other.password = "secret";
  return other.href;
}

const member = (url: string, role: string) => login(url, role, (user) => `grant ${role} to ${user}`);

function start(url: string, env: Readonly<Record<string, string>> = {}): Program {
  return startProgram({ env: { DATABASE_URL: url, WEBHOOK_URL: gateway.url, LOG_LEVEL: "debug", ...env } });
}

async function stop(program: Program): Promise<void> {
  program.kill("SIGTERM");
  expect((await program.end).code).toBe(0);
}

const complaints = (program: Program) =>
  program.lines.filter(({ level, msg }) => ["warn", "error", "fatal"].includes(level) || /denied/.test(msg));

const sent = (url: string, count: number) =>
  eventually(
    () => queryOnce(url, "select from outbox.sent"),
    (rows) => rows.length === count,
  );

const INSERT = "insert into outbox.messages (recipient, content) values ('+905551234567', 'hi')";

it("a user who is a member of outbox_relayer, and of nothing else, relays, serves the API and runs the jobs", async () => {
  const { url } = await database();
  const crontab = path.join(openFolder("outbox-crontab-"), "crontab");
  fs.writeFileSync(crontab, "* * * * * maintain ?fill=1h\n");
  // The crontab has been known for a while, so that a minute was missed and need not be waited for.
  await queryOnce(
    url,
    `insert into outbox_worker._private_known_crontabs
     values ('maintain', now() - interval '1 hour', date_trunc('minute', now()) - interval '2 minutes')`,
  );
  // A job that a relayer which is gone had taken.
  await queryOnce(url, "select outbox_worker.add_job('relay')");
  await queryOnce(
    url,
    "update outbox_worker._private_jobs set locked_by = 'gone', locked_at = now() - interval '1 minute', attempts = 1",
  );

  const relayer = await member(url, "outbox_relayer");
  const program = start(relayer, { CRONTAB_FILE: crontab });
  const { api } = await program.ready();

  const producer = await member(url, "outbox_producer");
  await queryOnce(producer, INSERT);
  await queryOnce(producer, "select outbox.enqueue('+905551234567', 'two')");
  await sent(url, 2);

  const list = await fetch(`${api}/messages/sent`);
  expect([list.status, ((await list.json()) as { messages: unknown[] }).messages.length]).toEqual([200, 2]);
  for (const running of [false, true]) {
    const toggled = await fetch(`${api}/scheduler/toggle`, { method: "POST" });
    expect(await toggled.json()).toMatchObject({ running, changed_by: "api" });
  }
  expect(await queryOnce(url, "select distinct actor, db_role from outbox.audit")).toEqual([
    { actor: "api", db_role: new URL(relayer).username },
  ]);

  // By the crontab; unlocked, as its relayer was gone; added by hand; and by a replay of many.
  await program.logged(/Completed task .*\(maintain, .* with success/);
  await program.logged(/Completed task .*\(relay, .* with success/);
  await queryOnce(relayer, "select outbox_worker.add_job('maintain', job_key => 'by hand')");
  await queryOnce(
    url,
    `insert into outbox.dead_letters (id, gateway, priority, recipient, content, metadata, available_at, attempts, created_at, died_at, reason)
     select nextval('outbox.messages_id_seq'), 'default', 1, '+905551234567', 'hi', '{}', now(), 5, now(), now(), 'exhausted'
     from generate_series(1, 1500)`,
  );
  await queryOnce(
    await member(url, "outbox_operator"),
    "select outbox.replay_where(dry_run => false, max_messages => 1500)",
  );
  await sent(url, 1_502);
  expect(
    await eventually(
      () => queryOnce(url, "select status, replayed::int from outbox.replays"),
      ([replay]) => replay?.status === "done",
    ),
  ).toEqual([{ status: "done", replayed: 1_500 }]);
  await eventually(
    () => queryOnce(url, "select from outbox_worker._private_jobs"),
    (jobs) => jobs.length === 0,
  );

  await stop(program);
  expect(complaints(program)).toEqual([]);
  expect(await queryOnce(url, "select from outbox.relayers")).toEqual([]);
});

it("a superuser's relayer has no more rights than outbox_relayer: what that is refused, each part is", async () => {
  const { url } = await database();
  const program = start(url);
  const { api } = await program.ready();
  expect((await fetch(`${api}/scheduler`)).status).toBe(200);

  await queryOnce(
    url,
    `revoke select on outbox.scheduler from outbox_auditor;
     revoke execute on function outbox.heartbeat from outbox_relayer;
     revoke all on outbox_worker._private_jobs from outbox_relayer`,
  );
  expect((await fetch(`${api}/scheduler`)).status).toBe(500);
  await program.printed(/permission denied for table scheduler/);
  expect(await program.logged(/^this relayer lost its number/)).toMatchObject({
    reason: "permission denied for function heartbeat",
  });
  await program.printed(/permission denied for table _private_jobs/);

  await queryOnce(url, "select outbox.grant_roles()");
  await queryOnce(url, INSERT);
  await sent(url, 1);
  await eventually(
    async () => (await fetch(`${api}/scheduler`)).status,
    (status) => status === 200,
  );
  await stop(program);
});

it("an owner who may not become outbox_relayer relays all the same, and is warned, once, with what helps", async () => {
  const { url } = await database({ empty: true });
  const owner = await login(url, "owner", (user, name) => `alter database ${name} owner to ${user}`);
  const user = new URL(owner).username;
  const first = start(owner);
  await first.ready();
  await queryOnce(owner, INSERT);
  await sent(owner, 1);
  await stop(first);
  expect(complaints(first).map(({ msg }) => msg)).toEqual([
    `running as ${user}, not as outbox_relayer: it may not. As a superuser: grant outbox_relayer to ${user}`,
  ]);

  await queryOnce(url, `grant outbox_relayer to ${user}`);
  const second = start(owner);
  await second.ready();
  await queryOnce(owner, INSERT);
  await sent(owner, 2);
  await stop(second);
  expect(complaints(second)).toEqual([]);
});

it("a relayer that finds a database of an older version says who has to migrate, and ends", async () => {
  const { url } = await database();
  await queryOnce(
    url,
    "delete from outbox_migrate.migrations where filename = (select max(filename) from outbox_migrate.migrations)",
  );
  const program = start(await member(url, "outbox_relayer"));
  expect((await program.end).code).toBe(1);
  expect(program.lines.at(-2)?.msg).toMatch(
    /may not bring it up to date .* The schema outbox is owned by "outbox": npm run migrate as that user/,
  );
  expect(program.output).not.toContain('"stack"');
});
