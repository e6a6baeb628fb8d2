--! Previous: sha1:32efc5da81fac1293fa3ffd119e37bdd8808acd0
--! Hash: sha1:ed27f077b47c536606501f6df38222c4c1677c02
--! Message: Events

-- ---------------------------------------------------------------- events

create table outbox.events (
  id          bigint      not null generated always as identity,
  at          timestamptz not null default clock_timestamp(),
  type        text        not null,
  happened_at timestamptz not null,
  data        json        not null,
  constraint events_pkey primary key (at, id),
  constraint type_not_an_event check (type in ('dead', 'gateway_held', 'gateway_resumed', 'scheduler'))
);

comment on table outbox.events is
  'What happened, for GET /api/v1/events: in the order of (at, id), up to events_horizon(). Written by triggers, kept for some days, see maintain(). (A message that was sent has no row here: outbox.sent is in order itself.)';
comment on column outbox.events.id is 'Orders what happened at the same time.';
comment on column outbox.events.at is 'When it was recorded.';
comment on column outbox.events.type is 'dead (a message ended unsent), gateway_held, gateway_resumed, or scheduler (everything was paused or resumed).';
comment on column outbox.events.happened_at is 'When it happened by the clock of whoever did it: died_at, changed_at.';
comment on column outbox.events.data is 'What the event tells: never a recipient or a text. The details of a hold are the gateway''s words.';
comment on constraint events_pkey on outbox.events is 'In the order in which they are read.';
comment on sequence outbox.events_id_seq is 'The order of events of one time.';
comment on index outbox.events_pkey is 'In the order in which they are read.';
comment on constraint type_not_an_event on outbox.events is 'Refuses a type that is not in the list.';

--! Included functions/event_lock.sql
create or replace function outbox.event_lock(
  started_at timestamptz
) returns bigint
language sql immutable parallel safe as $$
  -- As settle_lock(), in a key space of its own: whoever holds up these events must not hold up what is sent.
  select (710342::bigint << 42) | floor(extract(epoch from event_lock.started_at) * 1000)::bigint;
$$;

comment on function outbox.event_lock(timestamptz) is
  'The advisory lock that a transaction with events holds to its commit: it carries the time at which the transaction started, for events_horizon() to read. One lock a transaction, however many events it has.';
--! EndIncluded functions/event_lock.sql
--! Included functions/events_horizon.sql
create or replace function outbox.events_horizon() returns timestamptz
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  now_at  timestamptz := clock_timestamp(); -- before the locks are read: a transaction that is not among them stamps later
  oldest  bigint;
begin
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
  'No row of outbox.events will ever appear before this time that is not there already. It may go back, when a transaction that began long ago has its first event: what was true of the later time stays true. Read it in a statement of its own, then read rows with at below it in a later one.';
--! EndIncluded functions/events_horizon.sql
--! Included functions/report_deaths.sql
create or replace function outbox.report_deaths() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (select from died) then
    return null;
  end if;

  -- Held to the commit, taken before the time is read: see events_horizon().
  perform pg_advisory_xact_lock_shared(outbox.event_lock(now()));
  insert into outbox.events (type, happened_at, data)
  select 'dead', died.died_at, row_to_json(told)
  from died
  cross join lateral (
    -- The reason as text, for a domain would be looked up each time.
    select died.id, died.gateway, died.priority, died.attempts, died.reason::text, died.http_status
  ) as told
  order by died.id;
  return null;
end
$$;

comment on function outbox.report_deaths() is
  'Trigger: an event for each message that ended without being sent.';
--! EndIncluded functions/report_deaths.sql
--! Included functions/report_gateway.sql
create or replace function outbox.report_gateway() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  was     text;
  becomes text;
  -- Whom pause() and resume() act for; or whoever changed the row.
  actor   text := coalesce(
    nullif(current_setting('outbox.actor', true), ''),
    case when new.paused <> old.paused then session_user end
  );
begin
  -- Between the probes of an open circuit nothing is over; a hold whose time has run out is.
  was := case
    when old.paused then 'paused'
    when old.circuit <> 'closed' then coalesce(old.hold_reason, 'circuit_open')
    when old.held_until > clock_timestamp() then old.hold_reason
  end;
  becomes := case
    when new.paused then 'paused'
    when new.circuit <> 'closed' then coalesce(new.hold_reason, 'circuit_open')
    when new.held_until > clock_timestamp() then new.hold_reason
  end;
  if becomes is not distinct from was then
    return null;
  end if;

  -- Held to the commit, taken before the time is read: see events_horizon().
  perform pg_advisory_xact_lock_shared(outbox.event_lock(now()));
  insert into outbox.events (type, happened_at, data)
  values (
    case when becomes is null then 'gateway_resumed' else 'gateway_held' end,
    clock_timestamp(),
    case
      when becomes is null then json_build_object('gateway', new.name, 'reason', was, 'actor', actor)
      else json_build_object(
        'gateway', new.name,
        'reason', becomes,
        -- As the API writes times; null for infinity.
        'held_until', case
          when becomes <> 'paused' then to_char(new.held_until at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        end,
        'detail', case when becomes <> 'paused' then new.hold_detail end,
        'actor', actor
      )
    end
  );
  return null;
end
$$;

comment on function outbox.report_gateway() is
  'Trigger: an event when a gateway is paused or held, when the reason becomes another, and when it is relayed to again. None when a hold is prolonged, probed, or runs out by time.';
--! EndIncluded functions/report_gateway.sql
--! Included functions/report_switch.sql
create or replace function outbox.report_switch() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
begin
  -- Held to the commit, taken before the time is read: see events_horizon().
  perform pg_advisory_xact_lock_shared(outbox.event_lock(now()));
  insert into outbox.events (type, happened_at, data)
  values (
    'scheduler',
    new.changed_at,
    json_build_object('running', new.running, 'changed_by', new.changed_by)
  );
  return null;
end
$$;

comment on function outbox.report_switch() is
  'Trigger: an event when everything is paused or resumed.';
--! EndIncluded functions/report_switch.sql

-- They say for whom they change a gateway.
--! Included functions/pause.sql
create or replace function outbox.pause(
  gateway text default null,
  actor   text default session_user
) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  changed boolean;
begin
  -- The barrier: waits for the claims that are under way, and no claim begins until this commits.
  perform pg_advisory_xact_lock(outbox.lock_key('claim'));

  if pause.gateway is null then
    update outbox.scheduler
    set running = false, changed_at = clock_timestamp(), changed_by = pause.actor
    where scheduler.running;
    changed := found;
  else
    perform outbox.gateway_must_exist(pause.gateway);
    perform set_config('outbox.actor', pause.actor, true); -- for report_gateway()
    update outbox.gateways
    set paused = true
    where gateways.name = pause.gateway
      and not gateways.paused;
    changed := found;
  end if;

  insert into outbox.audit (actor, action, target, affected)
  values (pause.actor, 'pause', pause.gateway, changed::int);
  perform pg_notify('outbox', 'pause');
  return changed;
end
$$;

comment on function outbox.pause(text, text) is
  'Stops claiming, everywhere or for one gateway, until resume. A barrier: once it has committed, no relayer claims; what is in flight is settled. Returns whether it changed anything. Raises OB001 for an unknown gateway.';
--! EndIncluded functions/pause.sql
--! Included functions/resume.sql
create or replace function outbox.resume(
  gateway text default null,
  actor   text default session_user
) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  changed boolean;
begin
  perform pg_advisory_xact_lock(outbox.lock_key('claim'));

  if resume.gateway is null then
    update outbox.scheduler
    set running = true, changed_at = clock_timestamp(), changed_by = resume.actor
    where not scheduler.running;
    changed := found;
  else
    perform outbox.gateway_must_exist(resume.gateway);
    perform set_config('outbox.actor', resume.actor, true); -- for report_gateway()
    update outbox.gateways
    set
      paused             = false,
      held_until         = null,
      hold_reason        = null,
      hold_detail        = null,
      circuit            = 'closed',
      circuit_changed_at = clock_timestamp(),
      circuit_pauses     = 0,
      run_of_failures    = 0,
      window_started_at  = null
    where gateways.name = resume.gateway
      and (gateways.paused or gateways.held_until is not null or gateways.circuit <> 'closed');
    changed := found;
  end if;

  insert into outbox.audit (actor, action, target, affected)
  values (resume.actor, 'resume', resume.gateway, changed::int);
  perform pg_notify('outbox', 'resume');
  return changed;
end
$$;

comment on function outbox.resume(text, text) is
  'Undoes pause, everywhere or for one gateway; for a gateway it also ends a hold and closes its circuit. Returns whether it changed anything. Raises OB001 for an unknown gateway.';
--! EndIncluded functions/resume.sql

-- A parameter more.
drop function outbox.maintain(interval, interval, interval, interval, timestamptz);
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
end
$$;

comment on function outbox.maintain(interval, interval, interval, interval, interval, timestamptz) is
  'Housekeeping, run by the relayers every few minutes: expires what waits past its time, makes the coming days'' partitions and empties the default ones, forgets dedupe keys and idempotency keys, drops what is older than sent_kept, attempts_kept, dead_letters_kept, audit_kept (null: keep it for ever) and events_kept and minutes older than 8 days, and sees to it that replays of many go on. Two at a time do it once. Returns what it did.';
--! EndIncluded functions/maintain.sql

-- One call and one INSERT for all that a statement ends, and nothing on the way of a message that is sent.
create trigger report_deaths
  after insert on outbox.dead_letters
  referencing new table as died
  for each statement
  execute function outbox.report_deaths();
comment on trigger report_deaths on outbox.dead_letters is 'An event for each message that ends without being sent.';

create trigger report_gateway
  after update of paused, held_until, hold_reason, circuit on outbox.gateways
  for each row
  -- Claims and settles write the row all the time: tokens, counts.
  when (
    (old.paused, old.held_until, old.hold_reason, old.circuit)
    is distinct from (new.paused, new.held_until, new.hold_reason, new.circuit)
  )
  execute function outbox.report_gateway();
comment on trigger report_gateway on outbox.gateways is 'An event when a gateway is held, and when it is relayed to again.';

create trigger report_switch
  after update of running on outbox.scheduler
  for each row
  when (old.running <> new.running)
  execute function outbox.report_switch();
comment on trigger report_switch on outbox.scheduler is 'An event when everything is paused or resumed.';
