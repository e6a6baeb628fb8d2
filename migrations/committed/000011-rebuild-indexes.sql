--! Previous: sha1:9c87eb2fc53503f42a47b659e358f0c0bdcc45a8
--! Hash: sha1:4762623eba23e198d7f94dd98d7d8531aca95638
--! Message: Rebuild indexes

--! Included functions/rebuild_indexes.sql
create or replace function outbox.rebuild_indexes() returns setof text
language plpgsql volatile
-- Whoever writes to the outbox queues up behind this while it waits.
set lock_timeout = '100ms' as $$
declare
  small   constant bigint := 8 * 1024 * 1024;
  quick   constant bigint := 32 * 1024 * 1024;
  rows    bigint := pg_relation_size('outbox.messages');
  indexes bigint := pg_indexes_size('outbox.messages');
begin
  -- Vacuum gives the empty end of a table back to the disk, but an index only ever grows. Indexes of a full outbox are about
  -- half of its rows, so those that are larger than their rows are of a peak that is over. Nobody writes during the rebuild,
  -- and it reads the whole table.
  if indexes <= small or indexes <= rows or rows > quick then
    return;
  end if;

  reindex table outbox.messages;
  return next format(
    'rebuilt the indexes of outbox.messages: %s, and %s before',
    pg_size_pretty(pg_indexes_size('outbox.messages')), pg_size_pretty(indexes)
  );
exception
  when lock_not_available then
    return next 'outbox.messages is busy: its indexes are rebuilt next time';
end
$$;

comment on function outbox.rebuild_indexes() is
  'Makes the indexes of outbox.messages anew when they are over 8 MB, larger than the table, and the table is small enough (32 MB) for it to take an instant: after a peak, when vacuum has given the table''s own space back. Returns what it did.';
--! EndIncluded functions/rebuild_indexes.sql
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
select outbox.grant_roles();
