import { Client } from "pg";
import type { Database } from "./database.ts";

interface PrimaryFacts {
  readonly login: string;
  readonly standby: boolean;
  readonly wal_level: string;
  readonly may_make_slots: boolean;
  readonly may_publish: boolean;
  readonly slots_left: number;
  readonly senders_left: number;
}

/** What keeps the primary from having one more subscriber: a sentence each, with what helps. */
export async function primaryFaults(primary: Database): Promise<string[]> {
  const facts = await primary.row<PrimaryFacts>(`
    select
      quote_ident(current_user) as login,
      pg_is_in_recovery() as standby,
      current_setting('wal_level') as wal_level,
      rolsuper or rolreplication as may_make_slots,
      has_database_privilege(current_database(), 'create')
        and coalesce((select pg_has_role(nspowner, 'usage') from pg_namespace where nspname = 'outbox'), true) as may_publish,
      current_setting('max_replication_slots')::int - (select count(*)::int from pg_replication_slots) as slots_left,
      current_setting('max_wal_senders')::int - (select count(*)::int from pg_stat_replication) as senders_left
    from pg_roles
    where rolname = current_user`);
  const at = `the primary at ${primary.place}`;
  const set = (setting: string, value: string) =>
    `As a superuser: alter system set ${setting} = ${value}; then restart its Postgres`;
  return [
    facts.standby && `${at} is a standby itself: DATABASE_URL has to name the primary`,
    facts.wal_level !== "logical" &&
      `${at} has wal_level ${facts.wal_level}, and a logical subscriber needs logical. ${set("wal_level", "logical")}`,
    !facts.may_make_slots &&
      `${facts.login} may not make a replication slot on ${at}. As a superuser: alter role ${facts.login} replication`,
    !facts.may_publish &&
      `${facts.login} may not make a publication on ${at}: let DATABASE_URL be of the owner of the schema outbox, who may create in the database`,
    // One of its own, and one for each table that is being copied.
    facts.slots_left < 3 &&
      `${at} has ${facts.slots_left} replication slots left of max_replication_slots, and 3 are needed. ${set("max_replication_slots", "20")}`,
    facts.senders_left < 3 &&
      `${at} has ${facts.senders_left} WAL senders left of max_wal_senders, and 3 are needed. ${set("max_wal_senders", "20")}`,
  ].filter((fault) => fault !== false);
}

interface StoreFacts {
  readonly login: string;
  readonly version: number;
  readonly workers: number;
  readonly is_superuser: boolean;
  readonly may_subscribe: boolean;
  readonly may_create: boolean;
}

/** What keeps a database from becoming a subscriber. */
export async function storeFaults(store: Database): Promise<string[]> {
  const facts = await store.row<StoreFacts>(`
    select
      quote_ident(current_user) as login,
      current_setting('server_version_num')::int as version,
      current_setting('max_logical_replication_workers')::int as workers,
      rolsuper as is_superuser,
      rolsuper or coalesce(pg_has_role(to_regrole('pg_create_subscription')::oid, 'usage'), false) as may_subscribe,
      has_database_privilege(current_database(), 'create') as may_create
    from pg_roles
    where rolname = current_user`);
  const at = `the query store at ${store.place}`;
  return [
    facts.version < 150_000 && `${at} is older than PostgreSQL 15`,
    facts.workers < 1 &&
      `${at} has max_logical_replication_workers ${facts.workers}. As a superuser: alter system set max_logical_replication_workers = 4; then restart its Postgres`,
    !facts.may_subscribe &&
      `${facts.login} may not subscribe on ${at}. As a superuser: grant pg_create_subscription to ${facts.login}`,
    !facts.may_create &&
      `${facts.login} may not create in ${at}. As its owner: grant create on database … to ${facts.login}`,
  ].filter((fault) => fault !== false);
}

/** Whether two URLs name one database, by whatever names. */
export async function isSameDatabase(one: Database, other: Database): Promise<boolean> {
  const identity = `
    select
      (select system_identifier::text from pg_control_system())
        || '/' || (select oid from pg_database where datname = current_database()) as id`;
  const [a, b] = await Promise.all([one, other].map((each) => each.row<{ id: string }>(identity)));
  return a?.id === b?.id;
}

/**
 * What keeps the user of the subscription's URL from reading the primary; asked on the primary, where he logs in. Of one that has
 * no tables yet, or does not let us see them: what is known without.
 */
export async function readerFaults(primary: Database, primaryUrl: string): Promise<string[]> {
  const { user } = new Client({ connectionString: primaryUrl });
  const [role] = await primary.rows<{ login: string; may_replicate: boolean }>(
    "select quote_ident(rolname) as login, rolsuper or rolreplication as may_replicate from pg_roles where rolname = $1",
    [user],
  );
  if (role === undefined) return [`query_store.primary_url: the primary has no user ${JSON.stringify(user)}`];
  return [
    !role.may_replicate &&
      `query_store.primary_url: ${role.login} may not replicate. As a superuser on the primary: alter role ${role.login} replication`,
    !(await mayRead(primary, user)) &&
      `query_store.primary_url: ${role.login} may not read the tables. On the primary: grant outbox_auditor to ${role.login}`,
  ].filter((fault) => fault !== false);
}

async function mayRead(primary: Database, user: string | undefined): Promise<boolean> {
  const known = await primary.rows(
    `select from pg_proc
     join pg_namespace on pg_namespace.oid = pronamespace
     where nspname = 'outbox' and proname = 'query_store_tables'
       and has_schema_privilege(pg_namespace.oid, 'usage') and has_function_privilege(pg_proc.oid, 'execute')`,
  );
  if (known.length === 0) return true;
  const { may_read } = await primary.row<{ may_read: boolean }>(
    `select has_schema_privilege($1, 'outbox', 'usage') and bool_and(has_table_privilege($1, format('outbox.%I', place), 'select')) as may_read
     from outbox.query_store_tables() as published
     cross join unnest(published.tables) as listed (place)`,
    [user],
  );
  return may_read;
}
