import fs from "node:fs";
import path from "node:path";
import type pg from "pg";
import { expect, test } from "vitest";
import { failure, useOutbox } from "./outbox-under-test.ts";

// Roles are the cluster's: with some of them missing it is tested in test/db/roles.test.ts, on a server of its own.
const outbox = useOutbox();
const { login, rows, value } = outbox;

const SOURCE = fs.readFileSync(
  path.join(import.meta.dirname, "../../migrations/fixtures/functions/grant_roles.sql"),
  "utf8",
);

/** The function, with another list of secret tables. */
const keeping = (tables: string) =>
  SOURCE.replace(/(secret_tables +constant regclass\[\] := )'.*?'/, `$1'{${tables}}'`);

/** A session whose transaction is undone at the end of the test. */
async function undone(): Promise<pg.Client> {
  const client = await outbox.session();
  await client.query("begin");
  return client;
}

const left = (client: pg.Client) => rows("select * from outbox.grant_roles()", [], client);
const may = (client: pg.Client, role: string, table: string) =>
  value("select has_table_privilege($1, $2, 'select')", [role, `outbox.${table}`], client);

test("changes nothing where everything is as it should be, and has nothing to say", async () => {
  const client = await undone();
  expect(await left(client)).toEqual([]);
  // A transaction that changes something gets a number.
  expect(await value("select pg_current_xact_id_if_assigned()", [], client)).toBeNull();
});

test("takes away what a role or the public should not have, and leaves others theirs", async () => {
  const { name } = await login("nobody");
  const client = await undone();
  const granted = () =>
    rows(
      `select found.name, privilege_type, grantee::regrole::text
       from (
         select oid::regclass::text, relacl from pg_class where relnamespace = 'outbox'::regnamespace
         union all
         select oid::regprocedure::text, coalesce(proacl, acldefault('f', proowner)) from pg_proc where pronamespace = 'outbox'::regnamespace
         union all
         select format('%s.%s', attrelid::regclass, attname), attacl
         from pg_attribute
         join pg_class on pg_class.oid = attrelid
         where relnamespace = 'outbox'::regnamespace
         union all
         select nspname, nspacl from pg_namespace where nspname = 'outbox'
       ) as found (name, acl)
       cross join aclexplode(acl)
       where grantee <> grantor and grantee::regrole::text <> $1
       order by 1, 2, 3`,
      [name],
      client,
    );
  const before = await granted();
  await client.query(`
    grant all on all tables in schema outbox to outbox_producer;
    grant all on all functions in schema outbox to public, outbox_operator;
    grant all on schema outbox to outbox_auditor;
    grant update on outbox.gateways to outbox_operator;
    grant update (claimed_by) on outbox.messages to outbox_relayer;
    revoke select on outbox.sent from outbox_auditor;
    grant usage on schema outbox to ${name};
    grant select on outbox.sent to ${name}`);
  expect(await left(client)).toEqual([]);
  expect(await granted()).not.toEqual([]);
  expect(await granted()).toEqual(before);
  expect(await value("select has_table_privilege($1, 'outbox.sent', 'select')", [name], client)).toBe(true);
});

test("keeps a table from auditors for one word in its list", async () => {
  const client = await undone();
  await client.query("create table outbox.hidden (secret bytea)");
  await client.query(keeping("outbox.cursor_keys, outbox.hidden"));
  expect(await left(client)).toEqual([]);
  for (const table of ["hidden", "cursor_keys"]) {
    expect(await may(client, "outbox_relayer", table)).toBe(true);
    for (const role of ["outbox_auditor", "outbox_operator", "outbox_producer"])
      expect(await may(client, role, table), role).toBe(false);
  }
  expect(await may(client, "outbox_auditor", "scheduler")).toBe(true);
  await client.query("set local role outbox_auditor");
  await client.query("select * from outbox.health");
  expect((await failure(client.query("select * from outbox.hidden"))).code).toBe("42501");
});

test.each([
  ["function", SOURCE.replace("outbox.enqueue", "outbox.enqueu"), "42883"],
  ["column of a message", SOURCE.replace("traceparent}", "trace_parent}"), "42703"],
  ["secret table", keeping("outbox.nope"), "42P01"],
])("fails for a %s that there is not", async (_, source, code) => {
  const client = await undone();
  expect(source).not.toBe(SOURCE);
  await client.query(source);
  expect((await failure(left(client))).code).toBe(code);
});

test("gives to the schema's owner what another has made in it, for functions run as their owner", async () => {
  const { name } = await login("nobody");
  const client = await undone();
  await client.query(`
    grant create on schema outbox to ${name};
    grant all on schema outbox_worker to ${name};
    create table outbox.more (id int);
    alter table outbox.more owner to ${name};
    create function outbox.more() returns int language sql as 'select 1';
    alter function outbox.more owner to ${name};
    alter domain outbox.outcome owner to ${name};
    alter table outbox_worker._private_jobs owner to ${name};
    alter type outbox_worker.job_spec owner to ${name}`);
  expect(await left(client)).toEqual([]);
  const strangers = await rows(
    "select classid::regclass, objid from pg_shdepend where dbid = (select oid from pg_database where datname = current_database()) and refobjid = $1::regrole and deptype = 'o'",
    [name],
    client,
  );
  expect(strangers).toEqual([]);
});
