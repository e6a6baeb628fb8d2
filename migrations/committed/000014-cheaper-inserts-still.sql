--! Previous: sha1:dfca135cad3771950c472fb1c3f4eb81791024cc
--! Hash: sha1:d415a8a6b0696206fb510c809877522eee196acf
--! Message: Cheaper inserts still

-- The next change of the schema; --!include functions/NAME.sql takes a file from migrations/fixtures.

-- Each INSERT compares this with the clock. In milliseconds that took arithmetic with numeric, a third of all that the two
-- triggers cost; whole seconds become a timestamp at once. Another sequence, so that no relayer which still counts in
-- milliseconds can write into it.
drop trigger notify_relayers on outbox.messages;
drop sequence outbox.awake_until;
-- Up to the last second that is a timestamp.
create sequence outbox.awake_until minvalue 0 maxvalue 9224318015999;
comment on sequence outbox.awake_until is
  'Not a count: until then (seconds since 1970) some relayer looks by itself, so that an INSERT need not NOTIFY. A lease: a crash cannot leave it on.';
select setval('outbox.awake_until', 0);
-- The functions run as the owner of the schema, who is not always the one who migrates.
do $$
begin
  execute format('alter sequence outbox.awake_until owner to %s', (select nspowner::regrole from pg_namespace where nspname = 'outbox'));
end
$$;
-- The condition of the trigger below is tried as whoever inserts.
grant select on sequence outbox.awake_until to public;

--! Included functions/stay_awake.sql
create or replace function outbox.stay_awake(
  lease interval,
  as_of timestamptz default clock_timestamp()
) returns void
language sql volatile security definer
set search_path = pg_catalog, pg_temp as $$
  select setval('outbox.awake_until', lease_end.s)
  from (
    select floor(extract(epoch from stay_awake.as_of + stay_awake.lease))::bigint as s
  ) as lease_end
  where lease_end.s > pg_sequence_last_value('outbox.awake_until')
    -- Written by a clock that was ahead: nobody would hear of an INSERT until it has been caught up with.
    or pg_sequence_last_value('outbox.awake_until') > lease_end.s + 60;
$$;

comment on function outbox.stay_awake(interval, timestamptz) is
  'Promises that a relayer looks by itself for the length of the lease, to the whole second before its end, so that an INSERT need not NOTIFY. At once, and also if the transaction is rolled back.';
--! EndIncluded functions/stay_awake.sql

create trigger notify_relayers
  after insert on outbox.messages
  for each statement
  -- A NOTIFY takes a lock that lets one transaction commit at a time, so it is sent only when it is needed: not while a relayer
  -- looks by itself. A row that slips between costs a poll. Here, and not in the function, because calling it costs more than
  -- all the rest.
  when (clock_timestamp() > to_timestamp(pg_sequence_last_value('outbox.awake_until')))
  execute function outbox.notify_relayers();
comment on trigger notify_relayers on outbox.messages is 'Wakes the relayers at the commit, unless one is awake.';
