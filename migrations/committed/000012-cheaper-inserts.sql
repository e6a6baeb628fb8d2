--! Previous: sha1:4762623eba23e198d7f94dd98d7d8531aca95638
--! Hash: sha1:53e29bb11af8d20d5853360b82fc34ac4251e3f3
--! Message: Cheaper inserts

-- Each INSERT asks whether a relayer is awake, so asking has to be cheap. Of a sequence it is: it is read without a query, and
-- has one version, however long a snapshot is open, where a row that is written every second would have thousands to skip.
create sequence outbox.awake_until minvalue 0;
comment on sequence outbox.awake_until is
  'Not a count: until then (milliseconds since 1970) some relayer looks by itself, so that an INSERT need not NOTIFY. A lease: a crash cannot leave it on.';
select setval('outbox.awake_until', 0);
-- The functions run as the owner of the schema, who is not always the one who migrates.
do $$
begin
  execute format('alter sequence outbox.awake_until owner to %s', (select nspowner::regrole from pg_namespace where nspname = 'outbox'));
end
$$;
-- The condition of the trigger below is tried as whoever inserts.
grant select on sequence outbox.awake_until to public;

--! Included functions/notify_relayers.sql
create or replace function outbox.notify_relayers() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
begin
  -- While everything is paused nobody need know: resume notifies.
  perform
  from outbox.scheduler
  where scheduler.running;
  if found then
    perform pg_notify('outbox', 'insert');
  end if;
  return null;
end
$$;

comment on function outbox.notify_relayers() is
  'Trigger: NOTIFY on the channel outbox at the commit. A hint: losing one costs latency, never a message.';
--! EndIncluded functions/notify_relayers.sql
--! Included functions/stay_awake.sql
create or replace function outbox.stay_awake(
  lease interval,
  as_of timestamptz default clock_timestamp()
) returns void
language sql volatile security definer
set search_path = pg_catalog, pg_temp as $$
  select setval('outbox.awake_until', lease_end.ms)
  from (
    select (extract(epoch from stay_awake.as_of + stay_awake.lease) * 1000)::bigint as ms
  ) as lease_end
  where lease_end.ms > pg_sequence_last_value('outbox.awake_until');
$$;

comment on function outbox.stay_awake(interval, timestamptz) is
  'Promises that a relayer looks by itself for the length of the lease, so that an INSERT need not NOTIFY. At once, and also if the transaction is rolled back.';
--! EndIncluded functions/stay_awake.sql

create or replace trigger notify_relayers
  after insert on outbox.messages
  for each statement
  -- A NOTIFY takes a lock that lets one transaction commit at a time, so it is sent only when it is needed: not while a relayer
  -- looks by itself. A row that slips between costs a poll. Here, and not in the function, because calling it costs more than
  -- all the rest.
  when (pg_sequence_last_value('outbox.awake_until') < extract(epoch from clock_timestamp()) * 1000)
  execute function outbox.notify_relayers();

alter table outbox.scheduler drop column awake_until;

select outbox.grant_roles();
