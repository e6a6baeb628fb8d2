--! Previous: sha1:575f9882ad9c1272a04d2281e82d186890305f01
--! Hash: sha1:72c1f7e34468ab5941427b900ce50a6175efc6bf
--! Message: Query stores

-- A query store: a database for questions alone, kept up to date by replication.

-- ----------------------------------------------------- on the primary

create table outbox.query_store_beats (
  id             boolean     not null default true constraint query_store_beats_pkey primary key,
  beat_at        timestamptz not null,
  lsn            pg_lsn      not null,
  sent_horizon   timestamptz not null,
  events_horizon timestamptz not null,
  constraint more_than_one_beat check (id)
);
comment on table outbox.query_store_beats is
  'One row that the primary writes every second or so while there is a query store, see beat(). By it a store knows how far it is behind.';
comment on column outbox.query_store_beats.id is 'There is one row.';
comment on column outbox.query_store_beats.beat_at is 'When the last beat was made, by the primary''s clock.';
comment on column outbox.query_store_beats.lsn is 'Where in the primary''s WAL.';
comment on column outbox.query_store_beats.sent_horizon is 'outbox.sent_horizon() just before it.';
comment on column outbox.query_store_beats.events_horizon is 'outbox.events_horizon() just before it.';
comment on constraint query_store_beats_pkey on outbox.query_store_beats is 'There is one row.';
comment on constraint more_than_one_beat on outbox.query_store_beats is 'There is one row.';
comment on index outbox.query_store_beats_pkey is 'There is one row.';

create table outbox.housekeeping (
  one_row boolean     not null default true constraint housekeeping_pkey primary key,
  at      timestamptz not null,
  seen_in xid8,
  constraint more_than_one_housekeeping check (one_row)
);
comment on table outbox.housekeeping is
  'When the primary last put its history in order. A query store that sees a transaction write this row keeps what that transaction deletes from the history, see keep_history().';
comment on column outbox.housekeeping.one_row is 'There is one row.';
comment on column outbox.housekeeping.at is 'When.';
comment on column outbox.housekeeping.seen_in is 'In a logical query store: the transaction by which it came. Null on the primary.';
comment on constraint housekeeping_pkey on outbox.housekeeping is 'There is one row.';
comment on constraint more_than_one_housekeeping on outbox.housekeeping is 'There is one row.';
comment on index outbox.housekeeping_pkey is 'There is one row.';

-- ------------------------------------------------- in a query store

create table outbox.query_store (
  one_row       boolean     not null default true constraint query_store_pkey primary key,
  name          text        not null,
  made_at       timestamptz not null default now(),
  subscribed_at timestamptz,
  constraint more_than_one_query_store check (one_row),
  constraint name_not_outbox_query_store check (name ~ '^outbox_query_store_[a-z0-9_]{1,40}$')
);
comment on table outbox.query_store is
  'A row here makes this database a query store (a logical subscriber): npm run query-store -- init writes it. Empty in every other database.';
comment on column outbox.query_store.one_row is 'There is at most one row.';
comment on column outbox.query_store.name is 'Of its subscription here, and of its replication slot on the primary.';
comment on column outbox.query_store.made_at is 'When it was made.';
comment on column outbox.query_store.subscribed_at is 'When it subscribed: from then on it has a history of its own. Null: its making was cut off before that.';
comment on constraint query_store_pkey on outbox.query_store is 'There is at most one row.';
comment on constraint more_than_one_query_store on outbox.query_store is 'There is at most one row.';
comment on constraint name_not_outbox_query_store on outbox.query_store is 'Refuses other names: by this one its slot is known for one of a query store.';
comment on index outbox.query_store_pkey is 'There is at most one row.';

-- ------------------------------------------------------ functions, views

--! Included functions/is_query_store.sql
create or replace function outbox.is_query_store() returns boolean
language sql stable security definer
set search_path = pg_catalog, pg_temp as $$
  select pg_is_in_recovery() or exists (select from outbox.query_store);
$$;

comment on function outbox.is_query_store() is
  'Whether this database is a query store, for questions alone: a physical standby, or a logical subscriber that npm run query-store -- init made.';
--! EndIncluded functions/is_query_store.sql
--! Included functions/last_beat.sql
create or replace function outbox.last_beat() returns setof outbox.query_store_beats
language sql stable as $$
  select query_store_beats.*
  from outbox.query_store_beats
  -- While a table is still being copied, the beats run ahead of it.
  where not exists (
    select
    from outbox.query_store
    join pg_catalog.pg_subscription on pg_subscription.subname = query_store.name
    join pg_catalog.pg_subscription_rel on pg_subscription_rel.srsubid = pg_subscription.oid
    where pg_subscription.subdbid = (select pg_database.oid from pg_catalog.pg_database where pg_database.datname = current_database())
      and pg_subscription_rel.srsubstate <> 'r'
  );
$$;

comment on function outbox.last_beat() is
  'The last beat of the primary that has come to this query store. None before the first, and none while a table is still being copied.';
--! EndIncluded functions/last_beat.sql
--! Included functions/sent_horizon.sql
create or replace function outbox.sent_horizon() returns timestamptz
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  now_at  timestamptz := clock_timestamp(); -- before the locks are read: a settle that is not among them stamps later
  oldest  bigint;
begin
  -- The locks are the primary's. It has read them just before its last beat, and all that they promised has come since.
  if outbox.is_query_store() then
    return coalesce((select last_beat.sent_horizon from outbox.last_beat()), '-infinity');
  end if;

  select min((pg_locks.classid::bigint << 32) | pg_locks.objid::bigint)
  into oldest
  from pg_catalog.pg_locks
  where pg_locks.locktype = 'advisory'
    and pg_locks.database = (select pg_database.oid from pg_catalog.pg_database where pg_database.datname = current_database())
    and pg_locks.objsubid = 1
    and (pg_locks.classid::bigint << 32) | pg_locks.objid::bigint >= outbox.settle_lock('epoch')
    and (pg_locks.classid::bigint << 32) | pg_locks.objid::bigint <= outbox.settle_lock(now_at);

  return least(now_at, to_timestamp((oldest - outbox.settle_lock('epoch')) / 1000.0));
end
$$;

comment on function outbox.sent_horizon() is
  'No row of outbox.sent will ever appear before this time that is not there already. Read it in a statement of its own, then read rows with sent_at below it in a later one. In a query store: that of the last beat, -infinity while there is none.';
--! EndIncluded functions/sent_horizon.sql
--! Included functions/events_horizon.sql
create or replace function outbox.events_horizon() returns timestamptz
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  now_at  timestamptz := clock_timestamp(); -- before the locks are read: a transaction that is not among them stamps later
  oldest  bigint;
begin
  -- The locks are the primary's. It has read them just before its last beat, and all that they promised has come since.
  if outbox.is_query_store() then
    return coalesce((select last_beat.events_horizon from outbox.last_beat()), '-infinity');
  end if;

  select min((pg_locks.classid::bigint << 32) | pg_locks.objid::bigint)
  into oldest
  from pg_catalog.pg_locks
  where pg_locks.locktype = 'advisory'
    and pg_locks.database = (select pg_database.oid from pg_catalog.pg_database where pg_database.datname = current_database())
    and pg_locks.objsubid = 1
    and (pg_locks.classid::bigint << 32) | pg_locks.objid::bigint >= outbox.event_lock('epoch')
    and (pg_locks.classid::bigint << 32) | pg_locks.objid::bigint <= outbox.event_lock(now_at);

  return least(now_at, to_timestamp((oldest - outbox.event_lock('epoch')) / 1000.0));
end
$$;

comment on function outbox.events_horizon() is
  'No row of outbox.events will ever appear before this time that is not there already. It may go back, when a transaction that began long ago has its first event: what was true of the later time stays true. Read it in a statement of its own, then read rows with at below it in a later one. In a query store: that of the last beat, -infinity while there is none.';
--! EndIncluded functions/events_horizon.sql
--! Included functions/relayer_is_alive.sql
create or replace function outbox.relayer_is_alive(
  relayer      int,
  heartbeat_at timestamptz,
  dead_after   interval    default '30 seconds',
  as_of        timestamptz default clock_timestamp()
) returns boolean
language sql volatile security definer
set search_path = pg_catalog, pg_temp as $$
  select case
    -- Its locks are not seen here, and its heartbeats come as late as the beats.
    when outbox.is_query_store() then
      relayer_is_alive.heartbeat_at
        > coalesce((select last_beat.beat_at from outbox.last_beat()), relayer_is_alive.as_of) - relayer_is_alive.dead_after
    else
      relayer_is_alive.heartbeat_at > relayer_is_alive.as_of - relayer_is_alive.dead_after
      -- Looked up rather than tried: a session gets a lock that it already holds.
      and exists (
        select
        from pg_catalog.pg_locks
        where pg_locks.locktype = 'advisory'
          and pg_locks.database = (select pg_database.oid from pg_catalog.pg_database where pg_database.datname = current_database())
          and pg_locks.objsubid = 2
          and pg_locks.classid::bigint = outbox.lock_key('relayer')::bigint & 4294967295
          and pg_locks.objid::bigint = relayer_is_alive.relayer
          and pg_locks.granted
      )
  end;
$$;

comment on function outbox.relayer_is_alive(int, timestamptz, interval, timestamptz) is
  'Whether a relayer holds its lock (Postgres frees it the moment the process is gone) and was heard of within dead_after (its host may be gone without closing the connection). In a query store, where the locks are not seen: whether it had been heard of within dead_after before the last beat.';
--! EndIncluded functions/relayer_is_alive.sql
--! Included functions/beat.sql
create or replace function outbox.beat() returns table (
  beat_at timestamptz,
  lsn     pg_lsn
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  -- Each in a statement of its own, and before the beat: what they promise has committed, so it comes to a store before the beat.
  sent_before   timestamptz := outbox.sent_horizon();
  events_before timestamptz := outbox.events_horizon();
begin
  beat_at := clock_timestamp();
  lsn := pg_current_wal_insert_lsn();

  insert into outbox.query_store_beats (beat_at, lsn, sent_horizon, events_horizon)
  values (beat.beat_at, beat.lsn, sent_before, events_before)
  on conflict on constraint query_store_beats_pkey do update
  set
    beat_at        = excluded.beat_at,
    lsn            = excluded.lsn,
    sent_horizon   = excluded.sent_horizon,
    events_horizon = excluded.events_horizon
  -- Two at a time: the later one stays, whichever commits last.
  where query_store_beats.lsn < excluded.lsn;

  return next;
end
$$;

comment on function outbox.beat() is
  'On the primary, every second or so while there is a query store: writes the time (beat_at), the place in the WAL (lsn) and both horizons into outbox.query_store_beats, which comes to the store like all that was committed before it. Whoever sees a beat there sees every transaction that had committed before it was made, and what its horizons promise. Call it in a transaction of its own. Fails in a query store.';
--! EndIncluded functions/beat.sql
--! Included functions/search_vector.sql
create or replace function outbox.search_vector(
  content  text,
  metadata jsonb
) returns tsvector
language sql immutable parallel safe as $$
  -- simple: whole words as they are written, of whatever language. Of metadata the values, at any depth, not the keys.
  select to_tsvector('pg_catalog.simple', search_vector.content)
    || jsonb_to_tsvector('pg_catalog.simple', coalesce(search_vector.metadata, '{}'), '["string", "numeric"]');
$$;

comment on function outbox.search_vector(text, jsonb) is
  'The words of a message that a search finds: those of its content, and the texts and numbers in its metadata. The search indexes are on it, see create_search_indexes().';
--! EndIncluded functions/search_vector.sql
--! Included functions/create_search_indexes.sql
create or replace function outbox.create_search_indexes() returns setof text
language plpgsql volatile
-- Whoever writes queues up behind this while it waits.
set lock_timeout = '2s' as $$
declare
  place text;
begin
  foreach place in array '{messages, sent, dead_letters}'::text[] loop
    if to_regclass(format('outbox.%s_search', place)) is null then
      execute format('create index %1$s_search on outbox.%1$s using gin (outbox.search_vector(content, metadata))', place);
      execute format('comment on index outbox.%s_search is %L', place, 'Finds words of the content and the metadata.');
      return next format('made outbox.%s_search', place);
    end if;
    if to_regclass(format('outbox.%s_metadata', place)) is null then
      execute format('create index %1$s_metadata on outbox.%1$s using gin (metadata jsonb_path_ops)', place);
      execute format('comment on index outbox.%s_metadata is %L', place, 'Finds metadata that contain others.');
      return next format('made outbox.%s_metadata', place);
    end if;
  end loop;
end
$$;

comment on function outbox.create_search_indexes() is
  'Makes the indexes for full-text and metadata search on messages, sent and dead_letters, where they are missing. A query store gets them by npm run query-store -- init. For a physical standby, which has what the primary has, the owner may call it there: nobody writes to a table while its index is being made, and each INSERT costs more from then on. Returns what it made.';
--! EndIncluded functions/create_search_indexes.sql
--! Included functions/query_store_state.sql
create or replace function outbox.query_store_state() returns table (
  kind       text,
  beat_at    timestamptz,
  lsn        pg_lsn,
  searchable boolean
)
language sql volatile security definer
set search_path = pg_catalog, pg_temp as $$
  select
    case
      when pg_is_in_recovery() then 'physical'
      when outbox.is_query_store() then 'logical'
      else 'primary'
    end,
    last_beat.beat_at,
    -- A standby knows better than by beats how far it is.
    case when pg_is_in_recovery() then greatest(last_beat.lsn, pg_last_wal_replay_lsn()) else last_beat.lsn end,
    (
      select count(*) = 3
      from pg_catalog.pg_index
      where pg_index.indisvalid
        and pg_index.indexrelid in (
          to_regclass('outbox.messages_search'), to_regclass('outbox.sent_search'), to_regclass('outbox.dead_letters_search')
        )
    )
  from (select) as always
  left join outbox.last_beat() on true;
$$;

comment on function outbox.query_store_state() is
  'What a query store, asked itself, is and how far it is. kind: physical (a standby), logical (a subscriber), or primary (it is no query store). beat_at: when the primary made the last beat that has come; null before the first, and while a table is still being copied. lsn: every transaction that committed before this place in the primary''s WAL is seen. searchable: it has the indexes for full-text search, see create_search_indexes().';
--! EndIncluded functions/query_store_state.sql
--! Included functions/query_store_tables.sql
create or replace function outbox.query_store_tables() returns table (
  publication text,
  publishes   text,
  tables      text[]
)
language sql immutable as $$
  values
    -- Changed in place, so an emptied one is to be empty there too.
    (
      'outbox_query_store', 'insert, update, delete, truncate',
      '{messages, gateways, relayers, scheduler, replays, query_store_beats, housekeeping}'::text[]
    ),
    -- A replay takes a row away. What retention takes away the store keeps, see keep_history().
    ('outbox_query_store_history', 'insert, update, delete', '{sent, dead_letters}'),
    -- Only retention takes rows away.
    ('outbox_query_store_log', 'insert', '{attempts, audit, events, minutes}');
$$;

comment on function outbox.query_store_tables() is
  'What a logical query store has of the primary: each publication, which changes it publishes (publishes, as Postgres has it), and its tables. Keys, against duplicates and for cursors, and alerts stay on the primary.';
--! EndIncluded functions/query_store_tables.sql
--! Included functions/keep_history.sql
create or replace function outbox.keep_history() returns void
language plpgsql volatile as $$
begin
  if outbox.is_query_store() then
    return;
  end if;

  insert into outbox.housekeeping (at)
  values (clock_timestamp())
  on conflict on constraint housekeeping_pkey do update set at = excluded.at;
end
$$;

comment on function outbox.keep_history() is
  'On the primary: says that what this transaction goes on to delete from sent and dead_letters is housekeeping, so that logical query stores keep it. They see the row of outbox.housekeeping change first.';
--! EndIncluded functions/keep_history.sql
--! Included functions/note_housekeeping.sql
create or replace function outbox.note_housekeeping() returns trigger
language plpgsql volatile as $$
begin
  -- In the row, for a setting would not last: Postgres may apply each change as the table's owner, and undo settings after it.
  new.seen_in := pg_current_xact_id();
  return new;
end
$$;

comment on function outbox.note_housekeeping() is
  'Trigger in a logical query store: notes in which transaction the primary''s housekeeping came.';
--! EndIncluded functions/note_housekeeping.sql
--! Included functions/keep_deleted.sql
create or replace function outbox.keep_deleted() returns trigger
language plpgsql volatile as $$
begin
  -- What came with housekeeping is for the primary's disk; else it is a replay, by which the message is elsewhere now.
  if exists (select from outbox.housekeeping where housekeeping.seen_in = pg_current_xact_id()) then
    return null;
  end if;
  return old;
end
$$;

comment on function outbox.keep_deleted() is
  'Trigger in a logical query store: keeps what the primary deletes from its history by retention.';
--! EndIncluded functions/keep_deleted.sql
--! Included functions/make_way.sql
create or replace function outbox.make_way() returns trigger
language plpgsql volatile as $$
begin
  -- A conflict would stop the replication until a person comes.
  if tg_table_name = 'dead_letters' then
    delete from outbox.dead_letters where dead_letters.id = new.id;
  else
    delete from outbox.minutes where minutes.minute = new.minute and minutes.gateway is not distinct from new.gateway;
  end if;
  return new;
end
$$;

comment on function outbox.make_way() is
  'Trigger in a logical query store, on dead_letters and minutes: what the primary inserts takes the place of what the store had kept longer.';
--! EndIncluded functions/make_way.sql
--! Included functions/refuse_writes.sql
create or replace function outbox.refuse_writes() returns trigger
language plpgsql volatile as $$
begin
  if current_setting('outbox.maintains_query_store', true) = 'on' then
    return null;
  end if;
  raise exception using
    errcode = 'OB011',
    message = 'this database is a query store, for questions alone',
    hint = 'Write to the primary, and let relayers have it as their DATABASE_URL: what is in outbox.messages here, they would send again.',
    schema = 'outbox', table = tg_table_name;
end
$$;

comment on function outbox.refuse_writes() is
  'Trigger in a logical query store: refuses what does not come from the primary (OB011).';
--! EndIncluded functions/refuse_writes.sql
--! Included functions/equip_query_store.sql
create or replace function outbox.equip_query_store() returns setof text
language plpgsql volatile
set lock_timeout = '2s' as $$
declare
  place   text;
  made    text;
  columns text;
begin
  if not exists (select from outbox.query_store) then
    raise exception 'this database is no query store';
  end if;

  for place in
    select listed.place
    from outbox.query_store_tables() as published
    cross join unnest(published.tables) as listed (place)
  loop
    continue when exists (
      select from pg_catalog.pg_trigger
      where pg_trigger.tgrelid = format('outbox.%I', place)::regclass and pg_trigger.tgname = 'refuse_writes'
    );
    execute format('create trigger refuse_writes before insert or update or delete or truncate on outbox.%I for each statement execute function outbox.refuse_writes()', place);
    execute format('comment on trigger refuse_writes on outbox.%I is %L', place, 'Lets in only what comes from the primary.');
  end loop;

  if not exists (select from pg_catalog.pg_trigger where tgrelid = 'outbox.housekeeping'::regclass and tgname = 'note_housekeeping') then
    create trigger note_housekeeping before insert or update on outbox.housekeeping for each row execute function outbox.note_housekeeping();
    comment on trigger note_housekeeping on outbox.housekeeping is 'Notes in which transaction it came.';
    -- For what is replicated, and for nothing else.
    alter table outbox.housekeeping enable replica trigger note_housekeeping;
  end if;
  foreach place in array '{sent, dead_letters}'::text[] loop
    continue when exists (
      select from pg_catalog.pg_trigger
      where pg_trigger.tgrelid = format('outbox.%I', place)::regclass and pg_trigger.tgname = 'keep_deleted'
    );
    execute format('create trigger keep_deleted before delete on outbox.%I for each row execute function outbox.keep_deleted()', place);
    execute format('comment on trigger keep_deleted on outbox.%I is %L', place, 'Keeps what the primary drops by retention.');
    execute format('alter table outbox.%I enable replica trigger keep_deleted', place);
  end loop;
  foreach place in array '{dead_letters, minutes}'::text[] loop
    continue when exists (
      select from pg_catalog.pg_trigger
      where pg_trigger.tgrelid = format('outbox.%I', place)::regclass and pg_trigger.tgname = 'make_way'
    );
    execute format('create trigger make_way before insert on outbox.%I for each row execute function outbox.make_way()', place);
    execute format('comment on trigger make_way on outbox.%I is %L', place, 'What the primary inserts takes the place of what was kept.');
    execute format('alter table outbox.%I enable replica trigger make_way', place);
  end loop;

  return query select outbox.create_search_indexes();
  for made, place, columns in
    values
      ('messages_recipient', 'messages', 'recipient, id'),
      ('sent_recipient', 'sent', 'recipient, id'),
      ('sent_created_at', 'sent', 'created_at, id'),
      ('dead_letters_recipient', 'dead_letters', 'recipient, id'),
      ('dead_letters_created_at', 'dead_letters', 'created_at, id')
  loop
    continue when to_regclass(format('outbox.%I', made)) is not null;
    execute format('create index %I on outbox.%I (%s)', made, place, columns);
    execute format('comment on index outbox.%I is %L', made, 'For questions: only a query store has it.');
    return next format('made outbox.%s', made);
  end loop;
end
$$;

comment on function outbox.equip_query_store() is
  'Part of npm run query-store -- init, and of each start of a relayer: gives a logical query store what it has besides the primary''s tables, where that is missing: triggers that keep history and refuse other writes, and indexes for questions. Returns which indexes it made.';
--! EndIncluded functions/equip_query_store.sql
--! Included functions/make_partition.sql
create or replace function outbox.make_partition(
  parent text,
  key    text,
  day    date
) returns text
language plpgsql volatile as $$
declare
  spare  text := parent || '_default';
  starts timestamptz := day::timestamp at time zone 'UTC';
  ends   timestamptz := (day + 1)::timestamp at time zone 'UTC';
  made   text := format('%s_%s', parent, to_char(day, 'YYYYMMDD'));
  moves  boolean;
begin
  -- Made apart and attached: creating it in place would lock the whole table against every reader and writer.
  execute format('lock table outbox.%I in access exclusive mode', spare);
  execute format('create table outbox.%I (like outbox.%I including defaults including constraints including comments)', made, parent);
  execute format('comment on table outbox.%I is %L', made, format('Partition of outbox.%s for %s (UTC).', parent, day));
  execute format('select exists (select from outbox.%1$I where %2$I >= %3$L and %2$I < %4$L)', spare, key, starts, ends) into moves;
  if moves then
    -- A query store sees the row go, and not that it comes back: the new table is not published before it is attached.
    perform outbox.keep_history();
    execute format(
      'with moved as (delete from outbox.%1$I where %2$I >= %3$L and %2$I < %4$L returning *) insert into outbox.%5$I select * from moved',
      spare, key, starts, ends, made);
  end if;
  execute format('alter table outbox.%I attach partition outbox.%I for values from (%L) to (%L)', parent, made, starts, ends);
  return format('made outbox.%s', made);
end
$$;

comment on function outbox.make_partition(text, text, date) is
  'Makes the partition of outbox.sent or outbox.attempts for a day (UTC), and moves its rows there from the default partition. parent: the table; key: its partition column. Waits for readers of the default partition. Returns what it did.';
--! EndIncluded functions/make_partition.sql
--! Included functions/make_partitions.sql
create or replace function outbox.make_partitions(
  parent    text,
  key       text,
  as_of     timestamptz default clock_timestamp()
) returns setof text
language plpgsql volatile
set lock_timeout = '2s' as $$
declare
  spare text := parent || '_default';
  day   date;
begin
  for day in execute format(
    $query$
      select distinct missing.day
      from (
        select ($1 at time zone 'UTC')::date + ahead as day from generate_series(0, 7) as ahead
        union
        select (%2$I.%3$I at time zone 'UTC')::date from outbox.%2$I
      ) as missing
      where to_regclass(format('outbox.%1$s_%%s', to_char(missing.day, 'YYYYMMDD'))) is null
      order by missing.day
    $query$, parent, spare, key) using as_of
  loop
    return next outbox.make_partition(parent, key, day);
  end loop;
exception
  when lock_not_available then
    -- A long query holds the spare partition, which meanwhile takes what comes: nothing waits, and the next run tries again.
    return next format('outbox.%s is busy: partitions are made next time', spare);
end
$$;

comment on function outbox.make_partitions(text, text, timestamptz) is
  'Makes the partitions of outbox.sent or outbox.attempts for today and the next 7 days (UTC), and for each day found in the default partition, whose rows it moves. parent: the table; key: its partition column. Returns what it did.';
--! EndIncluded functions/make_partitions.sql
--! Included functions/maintain.sql
create or replace function outbox.maintain(
  sent_kept         interval    default '90 days',
  attempts_kept     interval    default '30 days',
  dead_letters_kept interval    default null,
  audit_kept        interval    default null,
  events_kept       interval    default '7 days',
  as_of             timestamptz default clock_timestamp()
) returns setof text
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  done bigint;
begin
  if not pg_try_advisory_xact_lock(outbox.lock_key('maintain')) then
    return;
  end if;

  select sum(outbox.expire(gateways.name, 10000, maintain.as_of)) into done from outbox.gateways;
  if done > 0 then
    return next format('expired %s messages', done);
  end if;

  delete from outbox.dedupe_keys
  where dedupe_keys.dedupe_key in (
    select past.dedupe_key
    from outbox.dedupe_keys as past
    where past.expires_at <= maintain.as_of
    -- A producer that is using one again may leave its transaction open for hours.
    for update skip locked
  );
  get diagnostics done = row_count;
  if done > 0 then
    return next format('forgot %s dedupe keys', done);
  end if;

  delete from outbox.idempotency_keys
  where (idempotency_keys.actor, idempotency_keys.idempotency_key) in (
    select past.actor, past.idempotency_key
    from outbox.idempotency_keys as past
    where past.expires_at <= maintain.as_of
    -- As above: it may be in use again.
    for update skip locked
  );
  get diagnostics done = row_count;
  if done > 0 then
    return next format('forgot %s idempotency keys', done);
  end if;

  if maintain.dead_letters_kept is not null then
    perform outbox.keep_history();
  end if;
  delete from outbox.dead_letters where dead_letters.died_at <= maintain.as_of - maintain.dead_letters_kept;
  get diagnostics done = row_count;
  if done > 0 then
    return next format('dropped %s dead letters', done);
  end if;

  delete from outbox.audit where audit.at <= maintain.as_of - maintain.audit_kept;
  get diagnostics done = row_count;
  if done > 0 then
    return next format('dropped %s audit entries', done);
  end if;

  -- Enough to compare a night with the same one a week ago. There are some to drop each time, so nobody is told.
  delete from outbox.minutes where minutes.minute < maintain.as_of - interval '8 days';
  delete from outbox.events where events.at <= maintain.as_of - maintain.events_kept;
  get diagnostics done = row_count;
  if done > 0 then
    return next format('dropped %s events', done);
  end if;

  perform outbox.queue_replays();

  return query select outbox.make_partitions('sent', 'sent_at', maintain.as_of);
  return query select outbox.make_partitions('attempts', 'ended_at', maintain.as_of);
  -- Last, for their locks last until the commit.
  return query select outbox.drop_partitions('sent', maintain.sent_kept, maintain.as_of);
  return query select outbox.drop_partitions('attempts', maintain.attempts_kept, maintain.as_of);
  return query select outbox.rebuild_indexes();
end
$$;

comment on function outbox.maintain(interval, interval, interval, interval, interval, timestamptz) is
  'Housekeeping, run by the relayers every few minutes: expires what waits past its time, makes the coming days'' partitions and empties the default ones, forgets dedupe keys and idempotency keys, drops what is older than sent_kept, attempts_kept, dead_letters_kept, audit_kept (null: keep it for ever) and events_kept and minutes older than 8 days, makes indexes small again that a peak has left large, and sees to it that replays of many go on. Two at a time do it once. Returns what it did.';
--! EndIncluded functions/maintain.sql
--! Included functions/maintain_query_store.sql
create or replace function outbox.maintain_query_store(
  sent_kept         interval    default null,
  attempts_kept     interval    default null,
  dead_letters_kept interval    default null,
  audit_kept        interval    default null,
  events_kept       interval    default null,
  as_of             timestamptz default clock_timestamp()
) returns setof text
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  done bigint;
begin
  -- A standby has what the primary has.
  if pg_is_in_recovery()
    or not exists (select from outbox.query_store)
    or not pg_try_advisory_xact_lock(outbox.lock_key('maintain'))
  then
    return;
  end if;
  perform set_config('outbox.maintains_query_store', 'on', true);

  delete from outbox.dead_letters where dead_letters.died_at <= maintain_query_store.as_of - maintain_query_store.dead_letters_kept;
  get diagnostics done = row_count;
  if done > 0 then
    return next format('dropped %s dead letters', done);
  end if;

  delete from outbox.audit where audit.at <= maintain_query_store.as_of - maintain_query_store.audit_kept;
  get diagnostics done = row_count;
  if done > 0 then
    return next format('dropped %s audit entries', done);
  end if;

  -- What the minutes sum up is what was sent.
  delete from outbox.minutes where minutes.minute <= maintain_query_store.as_of - maintain_query_store.sent_kept;
  delete from outbox.events where events.at <= maintain_query_store.as_of - maintain_query_store.events_kept;
  get diagnostics done = row_count;
  if done > 0 then
    return next format('dropped %s events', done);
  end if;

  return query select outbox.make_partitions('sent', 'sent_at', maintain_query_store.as_of);
  return query select outbox.make_partitions('attempts', 'ended_at', maintain_query_store.as_of);
  -- Last, for their locks last until the commit.
  return query select outbox.drop_partitions('sent', maintain_query_store.sent_kept, maintain_query_store.as_of);
  return query select outbox.drop_partitions('attempts', maintain_query_store.attempts_kept, maintain_query_store.as_of);
end
$$;

comment on function outbox.maintain_query_store(interval, interval, interval, interval, interval, timestamptz) is
  'Housekeeping in a logical query store, which the relayers do there after maintain(): makes the coming days'' partitions and empties the default ones, and drops what is older than sent_kept (the minutes too), attempts_kept, dead_letters_kept, audit_kept and events_kept (null: keep it for ever), whatever the primary keeps. Elsewhere it does nothing. Two at a time do it once. Returns what it did.';
--! EndIncluded functions/maintain_query_store.sql
--! Included functions/grant_roles.sql
create or replace function outbox.grant_roles() returns setof text
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  -- What each role may call. Nobody calls the rest, which these functions do as the owner. A name that is wrong raises.
  producer_calls   constant regproc[] := '{
    outbox.enqueue, outbox.enqueue_batch, outbox.enqueue_once, outbox.search_vector}';
  auditor_calls    constant regproc[] := '{
    outbox.events_horizon, outbox.explain, outbox.find_alerts, outbox.is_query_store, outbox.message_timeline,
    outbox.query_store_state, outbox.queue_figures, outbox.relayer_is_alive, outbox.search_vector, outbox.sent_horizon,
    outbox.server_figures, outbox.table_figures, outbox.tally, outbox.tally_minute, outbox.tokens}';
  operator_calls   constant regproc[] := '{
    outbox.cancel, outbox.cancel_replay, outbox.edit, outbox.pause, outbox.replay, outbox.replay_where, outbox.resume,
    outbox.toggle}';
  relayer_calls    constant regproc[] := '{
    outbox.beat, outbox.claim, outbox.close_minutes, outbox.configure_gateway, outbox.disown, outbox.heartbeat,
    outbox.lock_message, outbox.maintain, outbox.maintain_query_store, outbox.next_due, outbox.note_alerts,
    outbox.queue_replays, outbox.register_relayer, outbox.release, outbox.replay_slice, outbox.rescue, outbox.settle,
    outbox.stay_awake, outbox.take_tick, outbox.unregister_relayer, outbox.watch}';
  -- What a producer sets of a message, and an operator of a gateway. The rest is state.
  message_columns  constant text[] := '{
    recipient, content, gateway, priority, metadata, dedupe_key, available_at, expires_at, traceparent}';
  gateway_settings constant text[] := '{
    url, concurrency, timeout, max_attempts, base_delay, max_delay, jitter, on_unknown, hold_for, weights, keep_attempts,
    dedupe_window, rate_per_second, burst, circuit_failures, circuit_ratio, circuit_window, circuit_pause,
    circuit_max_pause, circuit_probes}';
  -- Auditors read every table and view, but not these, which only relayers read.
  secret_tables    constant regclass[] := '{outbox.cursor_keys}';

  roles   constant text[] := '{outbox_producer, outbox_auditor, outbox_operator, outbox_relayer}';
  owner   oid;
  thing   text;
  whose   oid;
  role    text;
  parents text[]; -- the roles whose rights it has as well
  parent  text;
  deed    text;
  rights  text;
begin
  select nspowner into owner from pg_namespace where nspname = 'outbox';

  -- Our functions run as their owner, so he has to own what they use. A superuser who migrates makes some of it.
  for thing, whose in
    select ours.name, ours.owned_by
    from pg_namespace
    cross join lateral (
      select 1, format('schema %I', nspname), nspowner
      union all
      select 2, format('table %s', oid::regclass), relowner
      from pg_class
      where relnamespace = pg_namespace.oid and relkind in ('r', 'p', 'v', 'm')
      union all
      select 2, format('routine %s', oid::regprocedure), proowner
      from pg_proc
      where pronamespace = pg_namespace.oid
      union all
      select 2, format('type %s', pg_type.oid::regtype), typowner
      from pg_type
      left join pg_class on pg_class.oid = typrelid
      where typnamespace = pg_namespace.oid and (typtype in ('d', 'e', 'r') or relkind = 'c')
    ) as ours (turn, name, owned_by)
    where nspname in ('outbox', 'outbox_migrate', 'outbox_worker')
      and ours.owned_by <> owner
    order by ours.turn
  loop
    begin
      execute format('alter %s owner to %I', thing, pg_get_userbyid(owner));
    exception
      when insufficient_privilege then
        return next format(
          '%s is owned by %I, not by %I, and was left as it is. As a superuser: select outbox.grant_roles()',
          thing, pg_get_userbyid(whose), pg_get_userbyid(owner)
        );
    end;
  end loop;

  -- Roles are the cluster's, and another of its databases may be migrating at this moment: look, try, look again.
  for role, parents in
    values
      ('outbox_producer', '{}'::text[]),
      ('outbox_auditor', '{}'),
      ('outbox_operator', '{outbox_auditor}'),
      ('outbox_relayer', '{outbox_operator, outbox_producer}')
  loop
    if to_regrole(role) is null and (select rolsuper or rolcreaterole from pg_roles where rolname = current_user) then
      begin
        execute format('create role %I', role);
      exception
        when duplicate_object or unique_violation then
          null;
      end;
    end if;
    if to_regrole(role) is null then
      return next format('role %s was not made: user %I lacks CREATEROLE. As a superuser: create role %s', role, current_user, role)
        || coalesce(' in role ' || nullif(array_to_string(parents, ', '), ''), '') || '; then npm run migrate';
      continue;
    end if;

    foreach parent in array parents loop
      continue when to_regrole(parent) is null or pg_has_role(role, parent, 'usage');
      begin
        execute format('grant %I to %I', parent, role);
      exception
        when insufficient_privilege or unique_violation or internal_error then -- internal: tuple concurrently updated
          null;
      end;
      if not pg_has_role(role, parent, 'usage') then
        return next format(
          'role %s was not made a member of %s: user %I may not do it. As a superuser: grant %s to %s',
          role, parent, current_user, parent, role
        );
      end if;
    end loop;
  end loop;

  -- Whoever makes a role does not become it by that. Where this fails, relayers run as the owner, and say so.
  if to_regrole('outbox_relayer') is not null and not pg_has_role(
    owner, 'outbox_relayer', case when current_setting('server_version_num')::int < 160000 then 'member' else 'set' end
  ) then
    begin
      execute format('grant outbox_relayer to %I', pg_get_userbyid(owner));
    exception
      when insufficient_privilege or unique_violation or internal_error then
        null;
    end;
  end if;

  -- First what is too much: with the right to a table, those to its columns go, too.
  foreach deed in array '{revoke, grant}'::text[] loop
    for thing, rights, role in
      with place as (
        select pg_namespace.oid, nspname, nspacl
        from pg_namespace
        where nspname in ('outbox', 'outbox_migrate', 'outbox_worker')
          and pg_has_role(nspowner, 'usage')
      ), relation as (
        select pg_class.oid, nspname, relname, relkind, relispartition, relacl, format('table %s', pg_class.oid::regclass) as name
        from pg_class
        join place on place.oid = relnamespace
        where relkind in ('r', 'p', 'v', 'm')
          and pg_has_role(relowner, 'usage')
      ), attribute as (
        select relation.*, attname, attacl
        from relation
        join pg_attribute on attrelid = relation.oid and attnum > 0 and not attisdropped
      ), routine as (
        select nspname, proacl, proowner, format('routine %s', pg_proc.oid::regprocedure) as name
        from pg_proc
        join place on place.oid = pronamespace
        where pg_has_role(proowner, 'usage')
      ), wanted (thing, may, who) as (
        select 'schema outbox', 'USAGE', unnest(roles)
        union
        select format('routine %s', callable.oid::oid::regprocedure), 'EXECUTE', callable.who
        from (
          select unnest(producer_calls), 'outbox_producer'
          union all
          select unnest(auditor_calls), 'outbox_auditor'
          union all
          select unnest(operator_calls), 'outbox_operator'
          union all
          select unnest(relayer_calls), 'outbox_relayer'
        ) as callable (oid, who)
        union
        select 'table outbox.messages', format('INSERT (%I)', unnest(message_columns)), 'outbox_producer'
        union
        select 'table outbox.gateways', format('INSERT (%I)', unnest('{name}' || gateway_settings)), 'outbox_operator'
        union
        select 'table outbox.gateways', format('UPDATE (%I)', unnest(gateway_settings)), 'outbox_operator'
        union
        select 'table outbox.gateways', 'DELETE', 'outbox_operator'
        union
        -- A partition is read through its table.
        select name, 'SELECT', case when relation.oid = any (secret_tables) then 'outbox_relayer' else 'outbox_auditor' end
        from relation
        where nspname = 'outbox' and not relispartition
        union
        -- To see that the database is up to date.
        select format('schema %I', nspname), 'USAGE', 'outbox_relayer' from place where nspname <> 'outbox'
        union
        select name, 'SELECT', 'outbox_relayer' from relation where nspname <> 'outbox' and relname = 'migrations'
        union
        -- The queue is the relayers' own.
        select name, unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]), 'outbox_relayer'
        from relation
        where nspname = 'outbox_worker' and relname <> 'migrations'
        union
        select name, 'EXECUTE', 'outbox_relayer' from routine where nspname = 'outbox_worker'
      ), granted (thing, may, who) as (
        select found.thing, found.may, coalesce(rolname, 'public')
        from (
          select format('schema %I', nspname), acl.privilege_type, acl.grantee from place, aclexplode(nspacl) as acl
          union all
          select name, acl.privilege_type, acl.grantee from relation, aclexplode(relacl) as acl
          union all
          select name, format('%s (%I)', acl.privilege_type, attname), acl.grantee from attribute, aclexplode(attacl) as acl
          union all
          select name, acl.privilege_type, acl.grantee
          from routine, aclexplode(coalesce(proacl, acldefault('f', proowner))) as acl
          where nspname = 'outbox' or acl.grantee <> 0
        ) as found (thing, may, grantee)
        left join pg_roles on pg_roles.oid = found.grantee
        where rolname = any (roles)
           or found.grantee = 0 and found.may = 'EXECUTE'
      )
      select differing.thing, string_agg(differing.may, ', '), differing.who
      from (
        (select * from granted where deed = 'revoke' except select * from wanted)
        union all
        (select * from wanted where deed = 'grant' and to_regrole(who) is not null except select * from granted)
      ) as differing
      group by differing.thing, differing.who
    loop
      execute format('%s %s on %s %s %s', deed, rights, thing, case deed when 'grant' then 'to' else 'from' end, role);
    end loop;
  end loop;

  -- Graphile Worker's tables show their rows to nobody but their owner, unless a policy does.
  for thing in
    select pg_class.oid::regclass
    from pg_class
    join pg_namespace on pg_namespace.oid = relnamespace
    where nspname = 'outbox_worker'
      and relrowsecurity
      and to_regrole('outbox_relayer') is not null
      and pg_has_role(relowner, 'usage')
      and not exists (select from pg_policy where polrelid = pg_class.oid and polname = 'outbox_relayer')
  loop
    execute format('create policy outbox_relayer on %s to outbox_relayer using (true)', thing);
  end loop;
end
$$;

comment on function outbox.grant_roles() is
  'Makes the roles outbox_producer, outbox_auditor, outbox_operator and outbox_relayer where they are missing and the caller may, and gives each what is its in the schemas outbox, outbox_migrate and outbox_worker, and no more; grants to other roles stay. For the owner of the schema outbox, or a superuser; each migration ends with it, and each start that may calls it. Returns a sentence for each thing left out, with what helps.';
--! EndIncluded functions/grant_roles.sql
--! Included views/replication_slots.sql
create or replace view outbox.replication_slots as
select
  slots.slot_name::text as slot_name,
  slots.slot_type as kind,
  slots.active,
  greatest(pg_wal_lsn_diff(written.lsn, slots.restart_lsn), 0)::bigint as retained_bytes,
  slots.wal_status,
  slots.safe_wal_size,
  case
    when slots.wal_status = 'lost' then 'it was cut off: the query store has to be made anew'
    when slots.active then 'in use by pid ' || slots.active_pid
    else 'not in use: the query store is away, or gone for good'
  end as holder
from pg_catalog.pg_replication_slots as slots
cross join (
  -- A standby may have slots of its own.
  select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end as lsn
) as written
where slots.slot_name like 'outbox\_%'
  and (slots.database = current_database() or slots.slot_type = 'physical')
order by retained_bytes desc nulls last, slot_name;

comment on view outbox.replication_slots is
  'On the primary: the replication slots of query stores (those whose names begin with outbox_), and how much WAL each keeps on the disk, the most first. A slot whose store is away keeps all WAL from then on, until the disk is full or max_slot_wal_keep_size is reached: bring the store back, or npm run query-store -- drop.';
comment on column outbox.replication_slots.slot_name is 'Its name.';
comment on column outbox.replication_slots.kind is 'logical (a subscriber''s) or physical (a standby''s).';
comment on column outbox.replication_slots.active is 'Somebody is connected to it.';
comment on column outbox.replication_slots.retained_bytes is 'How much WAL it keeps. Null: none, it has never been used, or is lost.';
comment on column outbox.replication_slots.wal_status is 'reserved; extended (more than max_wal_size is kept for it); unreserved (it may be cut off at any moment); lost (it was).';
comment on column outbox.replication_slots.safe_wal_size is 'How many bytes may still be written before it is cut off by max_slot_wal_keep_size; null: no limit, the disk is the limit.';
comment on column outbox.replication_slots.holder is 'Who uses it, or what is wrong, for a person.';
--! EndIncluded views/replication_slots.sql

select outbox.grant_roles();
