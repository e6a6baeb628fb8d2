--! Previous: sha1:6c1781262dd93b8e888e86eb7ad672f0bf2bbe55
--! Hash: sha1:b3290eb0ceeb83ad24d9a9994397dab1ee43f0d6
--! Message: Roles

-- Whoever may call a function may do what it does and nothing else: those that a role calls run as their owner.
--! Included functions/cancel.sql
create or replace function outbox.cancel(
  id    bigint,
  actor text        default session_user,
  as_of timestamptz default clock_timestamp()
) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  it outbox.all_messages := outbox.lock_message(cancel.id);
begin
  if it.status <> 'pending' then
    perform outbox.wrong_state(it, 'cancelled');
  end if;

  perform outbox.bury(
    array[it.id], array['cancelled'::outbox.dead_reason], array[null::int], array[null::text], cancel.as_of
  );

  insert into outbox.audit (actor, action, target)
  values (cancel.actor, 'cancel', it.id::text);
end
$$;

comment on function outbox.cancel(bigint, text, timestamptz) is
  'Withdraws a message that waits: to dead_letters, as cancelled. Once this has committed it is never sent, unless it is replayed. Raises OB005 if it is being sent (it can be cancelled if that attempt fails), was sent or has ended, OB006 if there is none.';
--! EndIncluded functions/cancel.sql
--! Included functions/cancel_replay.sql
create or replace function outbox.cancel_replay(
  replay bigint,
  actor  text        default session_user,
  as_of  timestamptz default clock_timestamp()
) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  it outbox.replays;
begin
  select replays.*
  into it
  from outbox.replays
  where replays.id = cancel_replay.replay
  for update;
  if it.status is distinct from 'running' then
    raise exception using
      errcode = 'OB008',
      message = case
        when it.id is null then format('there is no replay %s', cancel_replay.replay)
        else format('replay %s is %s since %s', it.id, it.status, it.finished_at)
      end;
  end if;

  update outbox.replays
  set
    status      = 'cancelled',
    finished_at = cancel_replay.as_of
  where replays.id = it.id;

  insert into outbox.audit (actor, action, target, affected, details)
  values (
    cancel_replay.actor, 'cancel_replay', it.gateway, 1,
    jsonb_build_object('replay', it.id, 'replayed', it.replayed, 'skipped', it.skipped)
  );
end
$$;

comment on function outbox.cancel_replay(bigint, text, timestamptz) is
  'Ends a replay of many; waits for the slice that is under way. What went back stays in the outbox. Raises OB008 if there is no such replay, or it is not running.';
--! EndIncluded functions/cancel_replay.sql
--! Included functions/claim.sql
create or replace function outbox.claim(
  relayer    int,
  gateway    text,
  batch_size int,
  as_of      timestamptz default clock_timestamp()
) returns table (
  id            bigint,
  attempt       smallint,
  recipient     text,
  content       text,
  expires_in_ms bigint,
  traceparent   text,
  claimed_at    timestamptz,
  revision      smallint
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- The plan is made once for a session and kept, often when the table is still empty. What reads well in an empty table
-- (a sequential scan, a hash of it) is quadratic work in a full one, so only the walk along the indexes is left. Before
-- PostgreSQL 18 what is off counts as very expensive, and every claim would be compiled first (jit).
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off as $$
declare
  it      outbox.gateways;
  counted boolean; -- by the gateway: its tokens, or its probes
  size    int := batch_size;
  got     int;
begin
  -- The pause barrier: pause() holds this lock exclusively while it changes the switch, and the switch is read in a later
  -- statement than the lock, so with a later snapshot. One statement for both would race.
  if not pg_try_advisory_xact_lock_shared(outbox.lock_key('claim')) then
    return;
  end if;

  -- Locked, so that rescue() cannot take the number away between this look and the claim.
  perform
  from outbox.relayers
  where relayers.id = claim.relayer
    and relayers.heartbeat_at > '-infinity'
  for key share;
  if not found then
    raise exception using
      errcode = 'OB002',
      message = format('relayer %s is not registered', claim.relayer),
      detail = 'It was taken for dead and its claims were rescued, or it never registered.';
  end if;

  select gateways.*
  into it
  from outbox.gateways
  where gateways.name = claim.gateway
    and not gateways.paused
    and (gateways.held_until is null or gateways.held_until <= claim.as_of)
    and exists (select from outbox.scheduler where scheduler.running);
  if not found then
    return;
  end if;

  if exists (
    select
    from outbox.messages
    where messages.gateway = claim.gateway
      and messages.claimed_by is null
      and messages.expires_at <= claim.as_of
  ) then
    perform outbox.expire(claim.gateway, claim.batch_size, claim.as_of);
  end if;

  counted := it.rate_per_second is not null or it.circuit <> 'closed';
  if counted then
    -- One claim at a time for the whole cluster, so that tokens and probes are spent once. Looked at again, because another
    -- claim may just have been the probe.
    select gateways.*
    into it
    from outbox.gateways
    where gateways.name = claim.gateway
      and not gateways.paused
      and (gateways.held_until is null or gateways.held_until <= claim.as_of)
    -- Somebody else's claim is as good; and for a person who has the row open for long, pause() and rescue() would wait as
    -- well, which wait for claims.
    for no key update skip locked;
    if not found then
      return;
    end if;
    if it.rate_per_second is not null then
      -- A hair more, for fractions that add up to a hair less than a whole one.
      size := least(size, floor(outbox.tokens(it, claim.as_of) + 0.000001));
    end if;
    if it.circuit <> 'closed' then
      size := least(size, it.circuit_probes);
    end if;
    if size < 1 then
      return;
    end if;
  end if;

  return query
  -- Materialized: a nested loop that ran the limited, locking scan again for each row would lock more than it claims.
  with due as materialized (
    select
      level.priority,
      waiting.id,
      waiting.available_at,
      (row_number() over (partition by level.priority order by waiting.available_at, waiting.id) - level.start)
        / it.weights[level.priority + 1] as turn
    from (
      select priority, random() as start
      from unnest('{0,1,2}'::smallint[]) as level (priority)
    ) as level
    cross join lateral (
      select messages.id, messages.available_at
      from outbox.messages
      where messages.gateway = claim.gateway
        and messages.priority = level.priority
        and messages.claimed_by is null
        and messages.available_at <= claim.as_of
        and (messages.expires_at is null or messages.expires_at > claim.as_of)
      order by messages.available_at, messages.id
      limit size
      for update skip locked
    ) as waiting
  ), chosen as materialized (
    -- Weighted fair shares: each priority's n-th message has its turn at n ÷ weight, less a random start. Without that, a
    -- claim of fewer than 21 would never have room for bulk, and small claims are the rule while a gateway is slow.
    select due.id
    from due
    order by due.turn, due.priority
    limit size
  ), claimed as (
    update outbox.messages
    set
      claimed_by = claim.relayer,
      claimed_at = claim.as_of,
      attempts   = messages.attempts + 1
    -- An array, for a join could have the table on the outside.
    where messages.id = any (array(select chosen.id from chosen))
    returning messages.*
  )
  select
    claimed.id,
    claimed.attempts,
    claimed.recipient,
    claimed.content,
    (extract(epoch from claimed.expires_at - claim.as_of) * 1000)::bigint,
    claimed.traceparent,
    claimed.claimed_at,
    claimed.revision
  from claimed
  order by claimed.priority, claimed.available_at, claimed.id;
  get diagnostics got = row_count;

  if counted and got > 0 then
    update outbox.gateways
    set
      tokens             = coalesce(outbox.tokens(gateways, claim.as_of) - got, gateways.tokens),
      tokens_at          = case
        when gateways.tokens_at > claim.as_of + interval '1 minute' then claim.as_of
        else greatest(gateways.tokens_at, claim.as_of)
      end,
      circuit            = case gateways.circuit when 'closed' then 'closed' else 'half_open' end,
      circuit_changed_at = case gateways.circuit when 'closed' then gateways.circuit_changed_at else claim.as_of end,
      probes             = case gateways.circuit when 'closed' then gateways.probes else got end,
      window_passed      = case gateways.circuit when 'closed' then gateways.window_passed else 0 end,
      window_failed      = case gateways.circuit when 'closed' then gateways.window_failed else 0 end,
      -- A probe that never ends (its relayer died, or gave it back) is made again.
      held_until         = case gateways.circuit
        when 'closed' then gateways.held_until
        else claim.as_of + gateways.timeout * ceil(got::float8 / gateways.concurrency) + '5 seconds'
      end,
      hold_reason        = case gateways.circuit
        when 'closed' then gateways.hold_reason
        -- A throttle that was over is none of the probe's, and a person may have taken the reason away.
        else case gateways.hold_reason when 'hold' then 'hold' else 'circuit_open' end
      end
    where gateways.name = claim.gateway;
  end if;
end
$$;

comment on function outbox.claim(int, text, int, timestamptz) is
  'Gives a relayer the exclusive right to one attempt each at up to batch_size due messages of a gateway, and counts the attempt. Order: priority by the gateway''s weights, then available_at, then id. expires_in_ms is what is left until expires_at. Empty while paused or held; at most the tokens there are where the gateway has a rate, and a probe of circuit_probes where its circuit is not closed. Raises OB002 if the relayer is not registered.';
--! EndIncluded functions/claim.sql
--! Included functions/configure_gateway.sql
create or replace function outbox.configure_gateway(
  name     text,
  settings jsonb
) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
begin
  insert into outbox.gateways (name)
  values (configure_gateway.name)
  on conflict on constraint gateways_pkey do nothing;

  update outbox.gateways
  set
    url               = named.url,
    concurrency       = named.concurrency,
    timeout           = named.timeout,
    max_attempts      = named.max_attempts,
    base_delay        = named.base_delay,
    max_delay         = named.max_delay,
    jitter            = named.jitter,
    on_unknown        = named.on_unknown,
    hold_for          = named.hold_for,
    rate_per_second   = named.rate_per_second,
    burst             = named.burst,
    circuit_failures  = named.circuit_failures,
    circuit_ratio     = named.circuit_ratio,
    circuit_window    = named.circuit_window,
    circuit_pause     = named.circuit_pause,
    circuit_max_pause = named.circuit_max_pause,
    circuit_probes    = named.circuit_probes
  from outbox.gateways as kept
  -- What the settings do not name stays as it is.
  cross join lateral jsonb_populate_record(kept, configure_gateway.settings) as named
  where kept.name = configure_gateway.name
    and gateways.name = configure_gateway.name
    and named is distinct from kept;
end
$$;

comment on function outbox.configure_gateway(text, jsonb) is
  'Writes what a relayer''s configuration names for a gateway; settings is an object of columns of outbox.gateways: url, concurrency, timeout, max_attempts, base_delay, max_delay, jitter, on_unknown, hold_for, rate_per_second, burst, circuit_failures, circuit_ratio, circuit_window, circuit_pause, circuit_max_pause, circuit_probes. Makes the gateway if there is none.';
--! EndIncluded functions/configure_gateway.sql
--! Included functions/disown.sql
create or replace function outbox.disown(
  relayer int,
  gateway text,
  known   bigint[]
) returns int
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
begin
  return outbox.release(
    disown.relayer,
    array(
      select messages.id
      from outbox.messages
      where messages.claimed_by = disown.relayer
        and messages.gateway = disown.gateway
      except
      select unnest(disown.known)
      order by 1
    )
  );
end
$$;

comment on function outbox.disown(int, text, bigint[]) is
  'Gives back, uncounted, the relayer''s claims at a gateway that it does not know of: those of a claim whose answer was lost, which nobody would ever send and no rescue would free. known: the ids it does know. Returns how many.';
--! EndIncluded functions/disown.sql
--! Included functions/edit.sql
create or replace function outbox.edit(
  id           bigint,
  recipient    text        default null,
  content      text        default null,
  available_at timestamptz default null,
  expires_at   timestamptz default null,
  priority     int         default null,
  actor        text        default session_user,
  as_of        timestamptz default clock_timestamp()
) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  it      outbox.all_messages := outbox.lock_message(edit.id);
  becomes outbox.all_messages;
begin
  if it.status in ('sending', 'sent') then
    perform outbox.wrong_state(it, 'edited');
  end if;

  becomes := outbox.amend(
    it, edit.recipient, edit.content, edit.available_at, edit.expires_at, edit.priority, edit.as_of
  );
  if becomes is not distinct from it then
    return false;
  end if;

  if it.status = 'pending' then
    update outbox.messages
    set
      recipient    = becomes.recipient,
      content      = becomes.content,
      available_at = becomes.available_at,
      expires_at   = becomes.expires_at,
      priority     = becomes.priority,
      revision     = becomes.revision
    where messages.id = it.id;
    -- It may be due now; or it was, and a claim passed it by while it was locked.
    perform pg_notify('outbox', 'edit');
  else
    update outbox.dead_letters
    set
      recipient    = becomes.recipient,
      content      = becomes.content,
      available_at = becomes.available_at,
      expires_at   = becomes.expires_at,
      priority     = becomes.priority,
      revision     = becomes.revision
    where dead_letters.id = it.id;
  end if;

  insert into outbox.audit (actor, action, target, details)
  values (edit.actor, 'edit', it.id::text, outbox.changes(it, becomes));
  return true;
end
$$;

comment on function outbox.edit(bigint, text, text, timestamptz, timestamptz, int, text, timestamptz) is
  'Changes a message that waits or is a dead letter (which stays one until it is replayed). Null leaves a column as it is; expires_at => ''infinity'' is never. Another recipient or content of a rejected message raises its revision, so that the gateway takes it for another one. Returns whether it changed anything; if not, nothing is on record. Raises OB005 if the message is being sent or was sent, OB006 if there is none, 23514 with the name of the rule for a value that an INSERT would be refused for.';
--! EndIncluded functions/edit.sql
--! Included functions/enqueue.sql
create or replace function outbox.enqueue(
  recipient    text,
  content      text,
  gateway      text        default 'default',
  priority     int         default 1,
  available_at timestamptz default null,
  expires_at   timestamptz default null,
  metadata     jsonb       default '{}',
  dedupe_key   text        default null,
  traceparent  text        default null
) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  message_id bigint := nextval('outbox.messages_id_seq');
  owner      bigint := message_id;
begin
  if enqueue.dedupe_key is not null and exists (select from outbox.gateways where gateways.name = enqueue.gateway) then
    owner := outbox.remember_key(enqueue.dedupe_key, message_id, enqueue.gateway);
  end if;

  if owner = message_id then
    insert into outbox.messages (
      id, recipient, content, gateway, priority, available_at, expires_at, metadata, dedupe_key, traceparent
    )
    overriding system value
    values (
      message_id, enqueue.recipient, enqueue.content, enqueue.gateway, enqueue.priority,
      coalesce(enqueue.available_at, now()), enqueue.expires_at, enqueue.metadata, enqueue.dedupe_key,
      enqueue.traceparent
    );
  end if;
  return owner;
end
$$;

comment on function outbox.enqueue(text, text, text, int, timestamptz, timestamptz, jsonb, text, text) is
  'Puts a message into the outbox, in your transaction, and returns its id; with a dedupe_key used within the window, the id of the message that has it. A plain INSERT does the same, but refuses a used key. Raises what the table refuses: 23514 with the name of the rule, OB001 for an unknown gateway.';
--! EndIncluded functions/enqueue.sql
--! Included functions/guard_gateway.sql
create or replace function outbox.guard_gateway() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
begin
  -- Tools that write a row back name every column.
  if tg_op = 'UPDATE' and new.name = old.name then
    return new;
  end if;

  if old.name = 'default' or exists (select from outbox.messages where messages.gateway = old.name) then
    raise exception using
      errcode = 'OB003',
      message = case
        when old.name = 'default' then 'gateway "default" cannot be removed or renamed'
        else format('gateway "%s" still has messages in the outbox', old.name)
      end,
      hint = 'outbox.pause(gateway) stops it.';
  end if;
  return case when tg_op = 'DELETE' then old else new end;
end
$$;

comment on function outbox.guard_gateway() is
  'Trigger: refuses to remove or rename ''default'' and gateways that messages wait for (OB003).';
--! EndIncluded functions/guard_gateway.sql
--! Included functions/heartbeat.sql
create or replace function outbox.heartbeat(
  relayer int,
  worker  text        default null,
  as_of   timestamptz default clock_timestamp()
) returns boolean
language sql volatile security definer
set search_path = pg_catalog, pg_temp as $$
  with heard as (
    update outbox.relayers
    set
      heartbeat_at = heartbeat.as_of,
      worker       = coalesce(heartbeat.worker, relayers.worker)
    where relayers.id = heartbeat.relayer
      and relayers.heartbeat_at > '-infinity'
    returning 1
  )
  select exists (select from heard);
$$;

comment on function outbox.heartbeat(int, text, timestamptz) is
  'Says that a relayer is alive, and under which name its Graphile Worker locks jobs (null: as before). false: it was taken for dead and its claims were rescued; it must register again.';
--! EndIncluded functions/heartbeat.sql
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
--! Included functions/lock_message.sql
create or replace function outbox.lock_message(
  id bigint
) returns outbox.all_messages
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  it outbox.all_messages;
begin
  loop
    -- One statement has one snapshot, and in each snapshot a message stands in exactly one place.
    select all_messages.*
    into it
    from outbox.all_messages
    where all_messages.id = lock_message.id;
    if not found then
      raise exception using
        errcode = 'OB006',
        message = format('there is no message %s', lock_message.id),
        detail = 'It never was, or it ended so long ago that it is no longer kept.';
    end if;

    case it.status
      when 'pending', 'sending' then
        perform from outbox.messages where messages.id = it.id for update;
      when 'sent' then
        perform from outbox.sent where sent.id = it.id and sent.sent_at = it.sent_at for update;
      else
        perform from outbox.dead_letters where dead_letters.id = it.id for update;
    end case;

    -- Whoever had it locked may have changed it, or moved it: then it is looked for again.
    if found then
      select all_messages.*
      into it
      from outbox.all_messages
      where all_messages.id = lock_message.id;
      return it;
    end if;
  end loop;
end
$$;

comment on function outbox.lock_message(bigint) is
  'Locks a message where it stands, so that nobody claims, settles, changes or moves it before the transaction ends, and returns it. Waits for those who are at it. Raises OB006 if there is none.';
--! EndIncluded functions/lock_message.sql
--! Included functions/next_due.sql
create or replace function outbox.next_due(
  gateway text,
  as_of   timestamptz default clock_timestamp()
) returns bigint
language sql volatile security definer
set search_path = pg_catalog, pg_temp
-- As in claim(): along the index, also when the table was empty as the plan was made.
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off as $$
  select ceil(extract(epoch from greatest(
    min(earliest.available_at),
    gateways.held_until,
    -- Not for each token: what comes within 50 ms is claimed together.
    next_due.as_of + make_interval(secs =>
      (least(outbox.bucket_size(gateways), greatest(1, floor(gateways.rate_per_second / 20))) - outbox.tokens(gateways, next_due.as_of))
        / gateways.rate_per_second
    )
  ) - next_due.as_of) * 1000)::bigint
  from outbox.gateways
  cross join unnest('{0,1,2}'::smallint[]) as level (priority)
  cross join lateral (
    select messages.available_at
    from outbox.messages
    where messages.gateway = next_due.gateway
      and messages.priority = level.priority
      and messages.claimed_by is null
    order by messages.available_at, messages.id
    limit 1
  ) as earliest
  where gateways.name = next_due.gateway
    and not gateways.paused
    and exists (select from outbox.scheduler where scheduler.running)
  group by gateways.name;
$$;

comment on function outbox.next_due(text, timestamptz) is
  'Milliseconds until a gateway''s next message may be claimed, by this server''s clock, with its hold and its rate; zero or less: now; null: nothing waits, or it is paused.';
--! EndIncluded functions/next_due.sql
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
--! Included functions/queue_replays.sql
create or replace function outbox.queue_replays(
  replay  bigint default null,
  wait_ms int    default null
) returns int
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  queued int;
begin
  -- Graphile Worker's schema is made after ours, step by step; the relayer that starts then queues what is running.
  if to_regprocedure('outbox_worker.add_job(text, json, text, timestamptz, int, text, int, text[], text)') is null then
    return 0;
  end if;

  perform outbox_worker.add_job(
    'replay',
    json_build_object('replay', replays.id),
    run_at       => clock_timestamp() + make_interval(secs => coalesce(queue_replays.wait_ms, 0) / 1000.0),
    job_key      => 'replay-' || replays.id,
    job_key_mode => case when queue_replays.wait_ms is null then 'preserve_run_at' else 'replace' end
  )
  from outbox.replays
  where replays.status = 'running'
    and (queue_replays.replay is null or replays.id = queue_replays.replay);
  get diagnostics queued = row_count;
  return queued;
end
$$;

comment on function outbox.queue_replays(bigint, int) is
  'Sees to it that a running replay (null: each of them) has a job of Graphile Worker, one, which does its slices. wait_ms: not before so many milliseconds; null: as a job that is there says, else at once. Returns how many it saw to; 0 also while Graphile Worker has no schema yet.';
--! EndIncluded functions/queue_replays.sql
--! Included functions/register_relayer.sql
create or replace function outbox.register_relayer(
  name    text,
  version text,
  worker  text default null
) returns int
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  relayer int;
begin
  insert into outbox.relayers (name, version, worker)
  values (register_relayer.name, register_relayer.version, register_relayer.worker)
  returning relayers.id into relayer;

  -- Taken before the row can be seen, so that nobody ever sees a living relayer without its lock.
  perform pg_advisory_lock(outbox.lock_key('relayer'), relayer);
  return relayer;
end
$$;

comment on function outbox.register_relayer(text, text, text) is
  'Gives a relayer its number and locks it for this session, which must stay open for as long as the relayer lives. worker: the name under which its Graphile Worker locks jobs, once it has one.';
--! EndIncluded functions/register_relayer.sql
--! Included functions/relayer_is_alive.sql
create or replace function outbox.relayer_is_alive(
  relayer      int,
  heartbeat_at timestamptz,
  dead_after   interval    default '30 seconds',
  as_of        timestamptz default clock_timestamp()
) returns boolean
language sql volatile security definer
set search_path = pg_catalog, pg_temp as $$
  select
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
    );
$$;

comment on function outbox.relayer_is_alive(int, timestamptz, interval, timestamptz) is
  'Whether a relayer holds its lock (Postgres frees it the moment the process is gone) and was heard of within dead_after (its host may be gone without closing the connection).';
--! EndIncluded functions/relayer_is_alive.sql
--! Included functions/release.sql
create or replace function outbox.release(
  relayer int,
  ids     bigint[]
) returns int
language sql volatile security definer
set search_path = pg_catalog, pg_temp
-- As in settle(): by id, whatever the statistics say.
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_nestloop = off
set enable_mergejoin = off as $$
  with mine as materialized (
    select messages.id, messages.claimed_at
    from outbox.messages
    where messages.id = any (release.ids)
      and messages.claimed_by is not distinct from release.relayer
      and release.relayer is not null
    for update
  ), released as (
    update outbox.messages
    set
      claimed_by = null,
      claimed_at = null,
      attempts   = messages.attempts - 1
    from mine
    where messages.id = any (release.ids)
      and messages.id = mine.id
    returning messages.gateway, mine.claimed_at
  ), refunded as (
    -- Their tokens were not used; and a probe that was not sent need not be waited for.
    update outbox.gateways
    set
      tokens     = gateways.tokens + unused.tokens,
      held_until = case
        when gateways.circuit = 'half_open' and gateways.hold_reason <> 'throttled' and unused.claimed_at >= gateways.circuit_changed_at
          then least(gateways.held_until, clock_timestamp())
        else gateways.held_until
      end
    from (
      select gateway.name, unsent.tokens, unsent.claimed_at
      from (
        select released.gateway, count(*) as tokens, max(released.claimed_at) as claimed_at
        from released
        group by released.gateway
      ) as unsent
      cross join lateral (
        select gateways.name
        from outbox.gateways
        where gateways.name = unsent.gateway
          and (gateways.rate_per_second is not null or gateways.circuit = 'half_open')
        -- Not worth waiting for, should a person have the row open.
        for no key update skip locked
      ) as gateway
    ) as unused
    where gateways.name = unused.name
  ), hint as (
    -- Another relayer may have room for them.
    select pg_notify('outbox', 'release')
    from (select from released limit 1) as any_released
  )
  select count(*)::int
  from released
  left join hint on true;
$$;

comment on function outbox.release(int, bigint[]) is
  'Gives back claims that were never sent, uncounted, and the tokens they took where the gateway has a rate; a probe that was not sent may be made again at once. ids sorted. Returns how many were still the relayer''s.';
--! EndIncluded functions/release.sql
--! Included functions/remember_key.sql
create or replace function outbox.remember_key(
  dedupe_key text,
  message_id bigint,
  gateway    text
) returns bigint
language plpgsql volatile as $$
declare
  owner bigint;
begin
  -- Between the two statements the key may be forgotten by maintain(); then it is free, and the next round takes it.
  while owner is null loop
    insert into outbox.dedupe_keys as seen (dedupe_key, message_id, expires_at)
    select remember_key.dedupe_key, remember_key.message_id, clock_timestamp() + gateways.dedupe_window
    from outbox.gateways
    where gateways.name = remember_key.gateway
    on conflict on constraint dedupe_key_seen_before do update
    set
      message_id = excluded.message_id,
      expires_at = excluded.expires_at
    where seen.expires_at <= clock_timestamp()
       or seen.message_id = excluded.message_id
    returning seen.message_id into owner;

    if owner is null then
      select dedupe_keys.message_id
      into owner
      from outbox.dedupe_keys
      where dedupe_keys.dedupe_key = remember_key.dedupe_key;
    end if;

    -- Without the gateway there is no window, and the key would be neither taken nor found, for ever.
    if owner is null then
      perform outbox.gateway_must_exist(remember_key.gateway);
    end if;
  end loop;
  return owner;
end
$$;

comment on function outbox.remember_key(text, bigint, text) is
  'Gives a dedupe_key to a message for the gateway''s dedupe_window, unless another message has it. Returns the id of the message that has it now. Raises OB001 for an unknown gateway.';
--! EndIncluded functions/remember_key.sql
--! Included functions/replay.sql
create or replace function outbox.replay(
  id         bigint,
  recipient  text        default null,
  content    text        default null,
  expires_at timestamptz default null,
  force      boolean     default false,
  actor      text        default session_user,
  as_of      timestamptz default clock_timestamp()
) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  it      outbox.all_messages := outbox.lock_message(replay.id);
  becomes outbox.all_messages;
begin
  if it.status in ('pending', 'sending') then
    perform outbox.wrong_state(it, 'replayed');
  end if;

  becomes := outbox.amend(it, replay.recipient, replay.content, null, replay.expires_at, null, replay.as_of);
  -- With the same Idempotency-Key the gateway would take it for the one it has, and forget the change.
  if it.status = 'sent' and (becomes.recipient, becomes.content) <> (it.recipient, it.content) then
    perform outbox.wrong_state(it, 'changed');
  end if;

  if replay.force is not true and (it.status = 'sent' or it.reason = 'unknown_outcome') then
    raise exception using
      errcode = 'OB007',
      message = case it.status
        when 'sent' then format('message %s was sent at %s', it.id, it.sent_at)
        else format('message %s may have been sent: %s', it.id, coalesce(it.error, 'its outcome is unknown'))
      end,
      detail = 'A replay may deliver it twice. It has the same Idempotency-Key, so the gateway can tell.',
      hint = 'If that is wanted: force => true.',
      schema = 'outbox', constraint = 'replay_needs_force';
  end if;

  if becomes.expires_at <= replay.as_of then
    raise exception using
      errcode = 'OB007',
      message = format('message %s expired at %s', it.id, becomes.expires_at),
      hint = 'Give it a new end, expires_at => …; with ''infinity'' it never expires.',
      schema = 'outbox', column = 'expires_at', constraint = 'replay_needs_expires_at';
  end if;

  insert into outbox.audit (actor, action, target, details)
  values (
    replay.actor, 'replay', it.id::text,
    outbox.changes(it, becomes) || jsonb_build_object('was', coalesce(it.reason, it.status), 'force', replay.force is true)
  );

  if it.status = 'sent' then
    -- The row of sent was the record of this attempt.
    insert into outbox.attempts (message_id, attempt, gateway, relayer, outcome, gateway_message_id, duration_ms, ended_at)
    select it.id, it.attempts, it.gateway, it.claimed_by, 'accepted', it.gateway_message_id, it.duration_ms, it.sent_at
    where not exists (
      select
      from outbox.attempts
      where attempts.message_id = it.id
        and attempts.ended_at = it.sent_at
        and attempts.outcome = 'accepted'
    );
    delete from outbox.sent where sent.id = it.id and sent.sent_at = it.sent_at;
  else
    delete from outbox.dead_letters where dead_letters.id = it.id;
  end if;

  insert into outbox.messages (
    id, gateway, priority, recipient, content, metadata, dedupe_key, available_at, expires_at, last_error, traceparent,
    created_at, revision
  )
  overriding system value
  values (
    it.id, it.gateway, it.priority, becomes.recipient, becomes.content, it.metadata, it.dedupe_key,
    greatest(it.available_at, replay.as_of), becomes.expires_at, it.last_error, it.traceparent, it.created_at,
    becomes.revision
  );
end
$$;

comment on function outbox.replay(bigint, text, text, timestamptz, boolean, text, timestamptz) is
  'Puts a dead letter back into the outbox: same id, all attempts to go, its history kept. Due at once, or at its available_at where that is still to come. What is given is changed as by edit(). With force also one of unknown_outcome, and one that was sent (unchanged, but for its expires_at): the gateway may deliver it twice. Raises OB005 if it is in the outbox already, OB006 if there is none, OB007 if it needs force (constraint replay_needs_force) or, being expired, a new expires_at (replay_needs_expires_at), OB001 if its gateway is gone, 23505 if another message has its dedupe_key now, 23514 for a value that an INSERT would be refused for.';
--! EndIncluded functions/replay.sql
--! Included functions/replay_slice.sql
create or replace function outbox.replay_slice(
  replay       bigint,
  batch_size   int         default 1000,
  as_of        timestamptz default clock_timestamp(),
  out wait_ms  int,
  out status   text,
  out replayed bigint,
  out skipped  bigint
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- A producer may keep a dedupe_key to itself for as long as its transaction is open.
set lock_timeout = '2s'
-- Along the index, whatever the statistics say: what is left to look at may be millions of rows.
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off as $$
declare
  asked      outbox.replays;
  found_ones int;
  looked_at  int;
  going      bigint[];
  moved      int := 0;
  one        bigint;
begin
  select replays.*
  into asked
  from outbox.replays
  where replays.id = replay_slice.replay
    and replays.status = 'running'
  for update skip locked;
  if not found then
    select replays.status, replays.replayed, replays.skipped
    into status, replayed, skipped
    from outbox.replays
    where replays.id = replay_slice.replay;
    if not found then
      raise exception using
        errcode = 'OB008',
        message = format('there is no replay %s', replay_slice.replay);
    end if;
    -- Another one is at it.
    wait_ms := case when status = 'running' then 500 end;
    return;
  end if;

  -- A look at the dead letters may have to pass by many that do not match; first whether there is room for any.
  if asked.gateway is not null and outbox.replay_room(asked.gateway, replay_slice.batch_size, replay_slice.as_of) = 0 then
    wait_ms := 500;
    status := asked.status;
    replayed := asked.replayed;
    skipped := asked.skipped;
    return;
  end if;

  with next as materialized (
    select
      candidate.*,
      candidate.obstacle is null
        -- Two that died with one key: only the first has it again.
        and row_number() over (
          partition by candidate.dedupe_key, case when candidate.dedupe_key is null then candidate.id end
          order by candidate.obstacle is null desc, candidate.died_at, candidate.id
        ) = 1 as may_go
    from (
      select candidate.*
      from outbox.replay_candidates(asked, replay_slice.as_of) as candidate
      order by candidate.died_at, candidate.id
      limit replay_slice.batch_size
    ) as candidate
  ), room as materialized (
    select gateways.name, outbox.replay_room(gateways.name, replay_slice.batch_size, replay_slice.as_of) as size
    from outbox.gateways
    where gateways.name in (select next.gateway from next where next.may_go)
  ), counted as (
    select
      next.id,
      next.died_at,
      next.gateway,
      next.may_go,
      count(*) filter (where next.may_go) over (order by next.died_at, next.id) as nth,
      count(*) filter (where next.may_go) over (partition by next.gateway order by next.died_at, next.id) as nth_of_gateway
    from next
  ), judged as (
    -- In their order, up to the first that there is no room for: so the place reached is all there is to remember.
    select
      counted.id,
      counted.died_at,
      counted.may_go,
      bool_and(
        not counted.may_go
        or counted.nth_of_gateway <= room.size
          and (asked.max_messages is null or counted.nth <= asked.max_messages - asked.replayed)
      ) over (order by counted.died_at, counted.id) as fits
    from counted
    left join room on room.name = counted.gateway
  )
  select
    count(*),
    count(*) filter (where judged.fits),
    coalesce(array_agg(judged.id order by judged.id) filter (where judged.fits and judged.may_go), '{}'),
    coalesce((array_agg(judged.died_at order by judged.died_at desc, judged.id desc) filter (where judged.fits))[1], asked.reached_at),
    coalesce((array_agg(judged.id order by judged.died_at desc, judged.id desc) filter (where judged.fits))[1], asked.reached_id)
  into found_ones, looked_at, going, asked.reached_at, asked.reached_id
  from judged;

  -- What somebody is changing at this moment is left to them.
  with locked as materialized (
    select dead_letters.id, dead_letters.died_at
    from outbox.dead_letters
    where dead_letters.id = any (going)
    order by dead_letters.id
    for update skip locked
  )
  select coalesce(array_agg(locked.id), '{}')
  into going
  from locked
  -- It may have been replayed and have died again.
  where locked.died_at < asked.until;

  if cardinality(going) > 0 then
    begin
      moved := outbox.revive(going, asked.expires_at, replay_slice.as_of);
    exception
      when lock_not_available then
        wait_ms := 1000;
        status := asked.status;
        replayed := asked.replayed;
        skipped := asked.skipped;
        return;
      when integrity_constraint_violation or data_exception or raise_exception or sqlstate 'OB001' then
        -- One that the outbox refuses (its key or its gateway went this moment, a rule of yours) does not keep the others.
        foreach one in array going loop
          begin
            moved := moved + outbox.revive(array[one], asked.expires_at, replay_slice.as_of);
          exception
            when integrity_constraint_violation or data_exception or raise_exception or lock_not_available or sqlstate 'OB001' then
              null;
          end;
        end loop;
    end;
  end if;

  replayed := asked.replayed + moved;
  skipped := asked.skipped + looked_at - moved;
  status := case
    when replayed >= asked.max_messages then 'done'
    when found_ones = looked_at and found_ones < replay_slice.batch_size then 'done'
    else 'running'
  end;
  wait_ms := case
    when status = 'done' then null
    when looked_at = 0 then 500
    else 0
  end;

  if looked_at > 0 or status = 'done' then
    update outbox.replays
    set
      status      = replay_slice.status,
      replayed    = replay_slice.replayed,
      skipped     = replay_slice.skipped,
      reached_at  = asked.reached_at,
      reached_id  = asked.reached_id,
      finished_at = case when replay_slice.status = 'done' then replay_slice.as_of end
    where replays.id = asked.id;
  end if;
end
$$;

comment on function outbox.replay_slice(bigint, int, timestamptz) is
  'The next step of a replay of many, in one transaction: looks at up to batch_size dead letters in the order in which they died, and moves those that can go. It adds nothing for a gateway for which more than batch_size messages are due (or more than its rate_per_second), nor more than that at once; what comes behind one that has to wait waits too. wait_ms: when the next step is worth trying, in milliseconds; 0 at once; null: never, the replay is done or cancelled. status, replayed and skipped: of the replay as a whole. Two at a time do it once. Raises OB008 if there is no such replay.';
--! EndIncluded functions/replay_slice.sql
--! Included functions/replay_where.sql
create or replace function outbox.replay_where(
  reason         outbox.dead_reason default null,
  gateway        text               default null,
  since          timestamptz        default null,
  until          timestamptz        default null,
  error_like     text               default null,
  max_messages   bigint             default null,
  dry_run        boolean            default true,
  force          boolean            default false,
  expires_at     timestamptz        default null,
  actor          text               default session_user,
  as_of          timestamptz        default clock_timestamp(),
  out matched    bigint,
  out replayable bigint,
  out sample     jsonb,
  out replay_id  bigint,
  out replayed   bigint
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  asked outbox.replays;
  slice record;
begin
  if replay_where.gateway is not null then
    perform outbox.gateway_must_exist(replay_where.gateway);
  end if;
  if replay_where.expires_at <= replay_where.as_of then
    raise exception using
      errcode = 'check_violation',
      message = format('expires_at %s is in the past', replay_where.expires_at),
      hint = 'A message with expires_at => ''infinity'' never expires.',
      schema = 'outbox', table = 'messages', column = 'expires_at', constraint = 'expires_at_in_the_past';
  end if;
  if replay_where.max_messages < 1 then
    raise exception using
      errcode = 'check_violation',
      message = 'max_messages is less than 1',
      hint = 'Null is no limit.',
      schema = 'outbox', table = 'replays', column = 'max_messages', constraint = 'max_messages_not_positive';
  end if;

  asked.reason := replay_where.reason;
  asked.gateway := replay_where.gateway;
  asked.until := least(replay_where.until, replay_where.as_of);
  asked.error_like := replay_where.error_like;
  asked.force := coalesce(replay_where.force, false);
  asked.expires_at := replay_where.expires_at;
  asked.reached_at := coalesce(replay_where.since, '-infinity');
  asked.reached_id := 0;

  select
    count(*),
    least(
      count(*) filter (where candidate.obstacle is null and candidate.dedupe_key is null)
        + count(distinct candidate.dedupe_key) filter (where candidate.obstacle is null),
      replay_where.max_messages
    )
  into matched, replayable
  from outbox.replay_candidates(asked, replay_where.as_of) as candidate;

  select coalesce(jsonb_agg(to_jsonb(first) - 'dedupe_key' order by first.died_at, first.id), '[]')
  into sample
  from (
    select candidate.*
    from outbox.replay_candidates(asked, replay_where.as_of) as candidate
    order by candidate.died_at, candidate.id
    limit 10
  ) as first;

  if replay_where.dry_run is not false then
    return;
  end if;

  insert into outbox.replays (
    actor, reason, gateway, since, until, error_like, max_messages, expires_at, force, matched, reached_at
  )
  values (
    replay_where.actor, asked.reason, asked.gateway, replay_where.since, asked.until, asked.error_like,
    replay_where.max_messages, asked.expires_at, asked.force, replay_where.matched, asked.reached_at
  )
  returning replays.id into replay_id;

  insert into outbox.audit (actor, action, target, affected, details)
  values (
    replay_where.actor, 'replay_where', replay_where.gateway, replayable,
    jsonb_strip_nulls(jsonb_build_object(
      'replay', replay_id, 'reason', asked.reason, 'since', replay_where.since, 'until', asked.until,
      'max_messages', replay_where.max_messages, 'expires_at', asked.expires_at, 'force', asked.force,
      'matched', matched
    ))
  );

  slice := outbox.replay_slice(replay_id, as_of => replay_where.as_of);
  replayed := slice.replayed;
  if slice.wait_ms is not null then
    perform outbox.queue_replays(replay_id);
  end if;
end
$$;

comment on function outbox.replay_where(outbox.dead_reason, text, timestamptz, timestamptz, text, bigint, boolean, boolean, timestamptz, text, timestamptz) is
  'Replays all dead letters that match (null matches all): of a reason, for a gateway, that died at since or later and before until, whose error is ILIKE error_like; the oldest first, at most max_messages. Unless dry_run is false, it only looks: matched is how many there are, replayable how many of them can go back, sample the first ten, each with its obstacle. Those that need force or a new end (expires_at, ''infinity'' for never), whose gateway is gone or whose dedupe_key was used again are skipped. Up to a thousand go back at once (replayed); the relayers do the rest in slices, see replay_slice() and the row replay_id of outbox.replays; outbox.cancel_replay(replay_id) ends it. Raises OB001 for an unknown gateway, 23514 for a limit below 1 and an end in the past.';
--! EndIncluded functions/replay_where.sql
--! Included functions/rescue.sql
create or replace function outbox.rescue(
  dead_after  interval    default '30 seconds',
  as_of       timestamptz default clock_timestamp(),
  out relayer int,
  out name    text,
  out rescued int
) returns setof record
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  gone      int[];
  ids       bigint[];
  reasons   outbox.dead_reason[];
  errors    text[];
begin
  if not pg_try_advisory_xact_lock(outbox.lock_key('rescue')) then
    return;
  end if;

  perform outbox.unlock_jobs(rescue.as_of);

  gone := array(
    select relayers.id
    from outbox.relayers
    where not outbox.relayer_is_alive(relayers.id, relayers.heartbeat_at, rescue.dead_after, rescue.as_of)
  );
  if cardinality(gone) = 0 then
    return;
  end if;

  -- Waits for a claim of theirs that is under way; after it none can come, and the next statement sees it.
  perform from outbox.relayers where relayers.id = any (gone) order by relayers.id for update;

  with freed as materialized (
    select messages.id, messages.gateway, messages.attempts, messages.claimed_by
    from outbox.messages
    where messages.claimed_by = any (gone)
    order by messages.id
    -- What is locked is being settled, or held by a person. Waiting for it could deadlock with a settle, which locks what
    -- was accepted before the rest, and would keep all other claims waiting.
    for update skip locked
  ), verdict as materialized (
    select
      freed.*,
      format('claimed by relayer %s (%s), which died; outcome unknown', relayers.id, relayers.name) as error,
      case
        when gateways.on_unknown = 'park' then 'unknown_outcome'
        when gateways.circuit = 'closed' and freed.attempts >= gateways.max_attempts then 'exhausted'
      end::outbox.dead_reason as reason,
      -- As in settle(): while its gateway fails, nothing costs an attempt.
      (gateways.circuit <> 'closed')::int as given_back
    from freed
    join outbox.gateways on gateways.name = freed.gateway
    join outbox.relayers on relayers.id = freed.claimed_by
  ), recorded as (
    insert into outbox.attempts (message_id, attempt, gateway, relayer, outcome, error, ended_at)
    select verdict.id, verdict.attempts, verdict.gateway, verdict.claimed_by, 'unknown', verdict.error, rescue.as_of
    from verdict
  ), returned as (
    update outbox.messages
    set
      claimed_by = null,
      claimed_at = null,
      attempts   = messages.attempts - verdict.given_back,
      last_error = verdict.error
    from verdict
    where messages.id = verdict.id
      and verdict.reason is null
  )
  select array_agg(verdict.id), array_agg(verdict.reason), array_agg(verdict.error)
  into ids, reasons, errors
  from verdict
  where verdict.reason is not null;

  if ids is not null then
    perform outbox.bury(ids, reasons, array_fill(null::int, array[cardinality(ids)]), errors, rescue.as_of);
  end if;

  perform pg_notify('outbox', 'rescue');

  -- A number with claims left, which were locked, stays for the next rescue; but it is never heard of again.
  update outbox.relayers set heartbeat_at = '-infinity' where relayers.id = any (gone);

  return query
  with removed as (
    delete from outbox.relayers
    where relayers.id = any (gone)
      and not exists (select from outbox.messages where messages.claimed_by = relayers.id)
    returning relayers.id
  ), counted as (
    select
      relayers.id,
      relayers.name,
      (
        select count(*)::int
        from outbox.attempts
        where attempts.ended_at = rescue.as_of
          and attempts.relayer = relayers.id
      ) as claims
    from outbox.relayers
    where relayers.id = any (gone)
  )
  select counted.id, counted.name, counted.claims
  from counted
  where counted.claims > 0
     or counted.id in (select removed.id from removed)
  order by counted.id;
end
$$;

comment on function outbox.rescue(interval, timestamptz) is
  'Frees the claims of relayers that are gone (their process is, or they were not heard of for dead_after), at once claimable again (parked or exhausted where the gateway''s policy says so), and forgets those relayers. The attempts stay counted and are on record as unknown. Any relayer runs it, each second; two at a time do it once. Never waits for a claim that is locked: the next run frees it, unless it was being settled. Also frees the jobs of their Graphile Workers, see unlock_jobs(). Returns who was gone (relayer, name), and how many claims it freed (rescued).';
--! EndIncluded functions/rescue.sql
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
--! Included functions/sent_horizon.sql
create or replace function outbox.sent_horizon() returns timestamptz
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  now_at  timestamptz := clock_timestamp(); -- before the locks are read: a settle that is not among them stamps later
  oldest  bigint;
begin
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
  'No row of outbox.sent will ever appear before this time that is not there already. Read it in a statement of its own, then read rows with sent_at below it in a later one.';
--! EndIncluded functions/sent_horizon.sql
--! Included functions/settle.sql
create or replace function outbox.settle(
  relayer             int,
  ids                 bigint[],
  attempts            smallint[],
  outcomes            outbox.outcome[],
  http_statuses       int[],
  gateway_message_ids text[],
  errors              text[],
  durations_ms        int[],
  retry_afters_ms     bigint[],
  claimed_ats         timestamptz[] default null,
  moot                bigint[] default '{}',
  as_of               timestamptz default null,
  out settled_at      timestamptz,
  out sent            int,
  out stale           bigint[],
  out dead            bigint[],
  -- Not dead_reason[]: clients know arrays of text, but take an array of our domain for a string.
  out dead_reasons    text[],
  out held            text[]
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- Whatever the statistics say, and they may be of an empty table or from before anything was claimed: the rows are found by
-- id (the condition "= any (ids)", in the order of ids), and hashed. A nested loop could have the table on the outside, and
-- messages_in_flight all that is in flight; both are quadratic work.
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_nestloop = off
set enable_mergejoin = off as $$
declare
  keep_all      boolean; -- of any gateway
  watched       boolean; -- some gateway has failed lately, so that what passes counts too
  others        bigint[] := '{}';
  shown         record;
  dead_statuses int[];
  dead_errors   text[];
begin
  -- Held to the commit, taken before the time is read: see sent_horizon().
  perform pg_advisory_xact_lock_shared(outbox.settle_lock(clock_timestamp()));
  settled_at := coalesce(settle.as_of, clock_timestamp());
  stale := '{}';
  dead := '{}';
  dead_reasons := '{}';
  held := '{}';

  select
    bool_or(gateways.keep_attempts = 'all'),
    bool_or(gateways.circuit <> 'closed' or gateways.run_of_failures > 0 or gateways.window_started_at is not null)
  into keep_all, watched
  from outbox.gateways;

  with accepted as (
    delete from outbox.messages
    using unnest(settle.ids, settle.attempts, settle.outcomes, settle.http_statuses, settle.gateway_message_ids, settle.durations_ms, settle.claimed_ats)
      as result (id, attempt, outcome, http_status, gateway_message_id, duration_ms, claimed_at)
    where messages.id = any (settle.ids)
      and messages.id = result.id
      and messages.attempts = result.attempt
      -- Not "=": that would let the planner go through the index on claimed_by.
      and messages.claimed_by is not distinct from settle.relayer
      and settle.relayer is not null
      -- An attempt that was given back has its number again at the next claim, which a late settle must not end.
      and messages.claimed_at = coalesce(result.claimed_at, messages.claimed_at)
      and result.outcome = 'accepted'
    returning messages.*, result.http_status, result.gateway_message_id, result.duration_ms
  ), recorded as (
    insert into outbox.attempts (
      message_id, attempt, gateway, relayer, outcome, http_status, gateway_message_id, duration_ms, ended_at
    )
    select
      accepted.id, accepted.attempts, accepted.gateway, settle.relayer, 'accepted', accepted.http_status,
      accepted.gateway_message_id, accepted.duration_ms, settled_at
    from accepted
    where keep_all
      and exists (select from outbox.gateways where gateways.name = accepted.gateway and gateways.keep_attempts = 'all')
  )
  insert into outbox.sent (
    id, gateway, priority, recipient, content, metadata, dedupe_key, available_at, expires_at, attempts, claimed_by,
    claimed_at, last_error, traceparent, created_at, revision, sent_at, gateway_message_id, duration_ms
  )
  select
    accepted.id, accepted.gateway, accepted.priority, accepted.recipient, accepted.content, accepted.metadata,
    accepted.dedupe_key, accepted.available_at, accepted.expires_at, accepted.attempts, accepted.claimed_by,
    accepted.claimed_at, accepted.last_error, accepted.traceparent, accepted.created_at, accepted.revision, settled_at,
    accepted.gateway_message_id, accepted.duration_ms
  from accepted;
  get diagnostics sent = row_count;

  if sent = cardinality(settle.ids) and not watched then
    return;
  end if;

  -- What the attempts say of their gateways, before what they mean for their messages: a gateway that fails costs no attempts.
  for shown in
    -- Of the rest, what is still ours. Locked before their gateways are, as every settle does it: so two never wait for each
    -- other.
    with mine as materialized (
      select messages.id, messages.gateway, messages.claimed_at, result.outcome, result.error, result.retry_after_ms
      from unnest(settle.ids, settle.attempts, settle.outcomes, settle.errors, settle.retry_afters_ms, settle.claimed_ats)
        as result (id, attempt, outcome, error, retry_after_ms, claimed_at)
      join outbox.messages
        on messages.id = result.id
        and messages.attempts = result.attempt
        and messages.claimed_by is not distinct from settle.relayer
        and settle.relayer is not null
        and messages.claimed_at = coalesce(result.claimed_at, messages.claimed_at)
      where messages.id = any (settle.ids)
        and result.outcome <> 'accepted'
      for update of messages
    ), tried as (
      select mine.*
      from mine
      union all
      select sent.id, sent.gateway, sent.claimed_at, 'accepted', null, null
      from outbox.sent
      where sent.sent_at = settled_at
        and sent.id = any (settle.ids)
        and (watched or settle.outcomes && '{retry,unknown}')
    ), judged as (
      select
        tried.id,
        tried.outcome,
        coalesce(tried.error, 'no reason given') as error,
        tried.retry_after_ms,
        gateways.name as gateway,
        gateways.circuit_changed_at,
        case
          when tried.outcome in ('retry', 'unknown') then 'failed'
          when tried.outcome = 'hold' and not outbox.is_own_fault(tried.id, gateways.proved_at) then 'fault'
          else 'passed'
        end as shows,
        -- Claimed since the circuit changed; or that was by a clock that was ahead.
        (tried.claimed_at >= gateways.circuit_changed_at or gateways.circuit_changed_at > settled_at + interval '1 minute')
          and tried.id <> all (settle.moot) as is_news
      from tried
      join outbox.gateways on gateways.name = tried.gateway
    )
    select
      judged.gateway,
      judged.circuit_changed_at,
      count(*) filter (where judged.is_news and judged.shows = 'passed')::int as passed,
      count(*) filter (where judged.is_news and judged.shows = 'failed')::int as failed,
      max(judged.error) filter (where judged.is_news and judged.shows = 'failed') as failure,
      count(*) filter (where judged.is_news and judged.shows = 'fault')::int as faults,
      max(judged.error) filter (where judged.is_news and judged.shows = 'fault') as fault,
      -- At least a second, or a gateway that asks for none is asked without end.
      max(settled_at + greatest(coalesce(make_interval(secs => judged.retry_after_ms / 1000.0), '5 seconds'), '1 second'))
        filter (where judged.outcome = 'throttled') as throttled_until,
      max(judged.error) filter (where judged.outcome = 'throttled') as throttle,
      coalesce(array_agg(judged.id) filter (where judged.outcome <> 'accepted'), '{}') as ids
    from judged
    group by judged.gateway, judged.circuit_changed_at
    order by judged.gateway
  loop
    others := others || shown.ids;
    if outbox.judge_gateway(
      shown.gateway, shown.circuit_changed_at, shown.passed, shown.failed, shown.failure, shown.faults, shown.fault,
      shown.throttled_until, shown.throttle, settled_at
    ) then
      held := held || shown.gateway;
    end if;
  end loop;

  if sent = cardinality(settle.ids) then
    return;
  end if;

  with verdict as materialized (
    select
      messages.id, messages.gateway, messages.attempts as attempt, result.outcome, result.http_status,
      result.gateway_message_id, result.error, result.duration_ms, blameless.is_gateways_fault,
      case
        when result.outcome = 'rejected' then 'rejected'
        when result.outcome = 'unknown' and gateways.on_unknown = 'park' then 'unknown_outcome'
        when not blameless.is_gateways_fault and messages.attempts >= gateways.max_attempts then 'exhausted'
      end::outbox.dead_reason as reason,
      case
        when result.outcome = 'throttled' then messages.available_at
        -- Behind what was due before it: were the message itself at fault, the next probe had better be another.
        when result.outcome = 'hold' and blameless.is_gateways_fault then settled_at
        else settled_at + greatest(
          outbox.retry_delay(gateways.base_delay, gateways.max_delay, gateways.jitter, messages.attempts),
          make_interval(secs => result.retry_after_ms / 1000.0)
        )
      end as next_at
    from unnest(settle.ids, settle.attempts, settle.outcomes, settle.http_statuses, settle.gateway_message_ids, settle.errors, settle.durations_ms, settle.retry_afters_ms, settle.claimed_ats)
      as result (id, attempt, outcome, http_status, gateway_message_id, error, duration_ms, retry_after_ms, claimed_at)
    join outbox.messages
      on messages.id = result.id
      -- Beside it there may be a late result of an earlier claim of the same message.
      and messages.attempts = result.attempt
      and messages.claimed_at = coalesce(result.claimed_at, messages.claimed_at)
    join outbox.gateways on gateways.name = messages.gateway
    cross join lateral (
      select
        gateways.circuit <> 'closed'
        or result.outcome = 'throttled'
        or result.outcome = 'hold' and not outbox.is_own_fault(messages.id, gateways.proved_at)
        or result.outcome = 'retry' and messages.id = any (settle.moot)
    ) as blameless (is_gateways_fault)
    where messages.id = any (others)
      and result.outcome <> 'accepted'
  ), recorded as (
    insert into outbox.attempts (
      message_id, attempt, gateway, relayer, outcome, http_status, gateway_message_id, error, duration_ms, ended_at
    )
    select
      verdict.id, verdict.attempt, verdict.gateway, settle.relayer, verdict.outcome, verdict.http_status,
      verdict.gateway_message_id, verdict.error, verdict.duration_ms, settled_at
    from verdict
  ), returned as (
    update outbox.messages
    set
      claimed_by   = null,
      claimed_at   = null,
      -- A fault of the gateway is none of the message: the attempt is given back.
      attempts     = messages.attempts - verdict.is_gateways_fault::int,
      available_at = verdict.next_at,
      last_error   = verdict.error
    from verdict
    where messages.id = any (others)
      and messages.id = verdict.id
      and verdict.reason is null
  )
  select
    coalesce(array_agg(verdict.id) filter (where verdict.reason is not null), '{}'),
    coalesce(array_agg(verdict.reason::text) filter (where verdict.reason is not null), '{}'),
    array_agg(verdict.http_status) filter (where verdict.reason is not null),
    array_agg(verdict.error) filter (where verdict.reason is not null)
  into dead, dead_reasons, dead_statuses, dead_errors
  from verdict;

  if cardinality(dead) > 0 then
    perform outbox.bury(dead, dead_reasons::outbox.dead_reason[], dead_statuses, dead_errors, settled_at);
  end if;

  if sent + cardinality(others) < cardinality(settle.ids) then
    stale := array(
      select distinct result.id
      from unnest(settle.ids) as result (id)
      where result.id <> all (others)
        and not exists (select from outbox.sent where sent.sent_at = settled_at and sent.id = result.id)
      order by result.id
    );
  end if;
end
$$;

comment on function outbox.settle(int, bigint[], smallint[], outbox.outcome[], int[], text[], text[], int[], bigint[], timestamptz[], bigint[], timestamptz) is
  'Records what attempts showed, all of them or none. ids (sorted), attempts, outcomes, http_statuses, gateway_message_ids, errors, durations_ms, retry_afters_ms (what the gateway asked for) and claimed_ats are parallel arrays, one element an attempt. accepted: to sent. rejected, or the last of max_attempts: to dead_letters. retry and unknown: back, after retry_delay or a longer Retry-After; uncounted if the gateway''s circuit is not closed, which these attempts may have opened, see judge_gateway(). throttled and hold: back at once and uncounted, and the gateway is held; but a hold that only this message leads to, see is_own_fault(), is a failed attempt like any other. Only claims that are still this relayer''s, with this attempt number and (unless null) this claimed_at, change; the ids of which nothing was recorded come back as stale. moot: ids whose attempt says nothing of the gateway, because the relayer cut it short. Returns settled_at (the sent_at of all that was accepted), how many were sent, which messages are dead, with their dead_reasons, and the gateways that are held by this. as_of null means now.';
--! EndIncluded functions/settle.sql
--! Included functions/stay_awake.sql
create or replace function outbox.stay_awake(
  lease interval,
  as_of timestamptz default clock_timestamp()
) returns void
language sql volatile security definer
set search_path = pg_catalog, pg_temp as $$
  update outbox.scheduler
  set awake_until = stay_awake.as_of + stay_awake.lease
  where scheduler.awake_until < stay_awake.as_of + stay_awake.lease;
$$;

comment on function outbox.stay_awake(interval, timestamptz) is
  'Promises that a relayer looks by itself for the length of the lease, so that an INSERT need not NOTIFY.';
--! EndIncluded functions/stay_awake.sql
--! Included functions/take_tick.sql
create or replace function outbox.take_tick(
  tick timestamptz
) returns boolean
language sql volatile security definer
set search_path = pg_catalog, pg_temp as $$
  with taken as (
    update outbox.scheduler
    set last_tick = take_tick.tick
    where scheduler.last_tick < take_tick.tick
    returning 1
  )
  select exists (select from taken);
$$;

comment on function outbox.take_tick(timestamptz) is
  'Whether this caller is the one to relay for a tick (its time) of the crontab (relay.mode: scheduled): true once for each tick, for the whole cluster, also when its job is run again.';
--! EndIncluded functions/take_tick.sql
--! Included functions/toggle.sql
create or replace function outbox.toggle(
  actor text default session_user
) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
begin
  -- Two toggles at once take turns: each turns over what the other left.
  perform pg_advisory_xact_lock(outbox.lock_key('claim'));
  if (select scheduler.running from outbox.scheduler) then
    perform outbox.pause(actor => toggle.actor);
    return false;
  end if;
  perform outbox.resume(actor => toggle.actor);
  return true;
end
$$;

comment on function outbox.toggle(text) is
  'pause() if the scheduler runs, resume() if it is stopped; two at once take turns. Returns whether it runs now.';
--! EndIncluded functions/toggle.sql
--! Included functions/tokens.sql
create or replace function outbox.tokens(
  gateway outbox.gateways,
  as_of   timestamptz default clock_timestamp()
) returns double precision
language sql volatile security definer
set search_path = pg_catalog, pg_temp as $$
  select case
    -- Written by a clock that was ahead: nobody should wait until it has been caught up with.
    when (tokens.gateway).tokens_at > tokens.as_of + interval '1 minute' then outbox.bucket_size(tokens.gateway)
    else least(
      outbox.bucket_size(tokens.gateway),
      (tokens.gateway).tokens + (tokens.gateway).rate_per_second
        * greatest(extract(epoch from tokens.as_of - (tokens.gateway).tokens_at), 0)::float8
    )
  end
  where (tokens.gateway).rate_per_second is not null;
$$;

comment on function outbox.tokens(outbox.gateways, timestamptz) is
  'How many POSTs the rate of a gateway allows now, a whole one each. Null where it has no rate.';
--! EndIncluded functions/tokens.sql
--! Included functions/unlock_jobs.sql
create or replace function outbox.unlock_jobs(
  as_of timestamptz default clock_timestamp()
) returns int
language plpgsql volatile
set lock_timeout = '1s' as $$
declare
  gone text[];
begin
  -- Graphile Worker's schema is made after ours, step by step. This is about its last step.
  if to_regprocedure('outbox_worker.add_job(text, json, text, timestamptz, int, text, int, text[], text)') is null then
    return 0;
  end if;

  gone := array(
    select distinct jobs.locked_by
    from outbox_worker.jobs
    -- A worker that has just started takes jobs before its relayer's next heartbeat names it.
    where jobs.locked_at < unlock_jobs.as_of - interval '5 seconds'
      and not exists (select from outbox.relayers where relayers.worker = jobs.locked_by)
  );
  if cardinality(gone) > 0 then
    perform outbox_worker.force_unlock_workers(gone);
  end if;
  return cardinality(gone);
exception
  -- Somebody is at these jobs: the next run frees them. A rescue of messages must not wait for it.
  when lock_not_available then
    return 0;
end
$$;

comment on function outbox.unlock_jobs(timestamptz) is
  'Frees the jobs of Graphile Workers that no relayer has any more, 5 s after they took them; by itself Graphile Worker would do so after 4 hours. Returns how many workers were gone.';
--! EndIncluded functions/unlock_jobs.sql
--! Included functions/unregister_relayer.sql
create or replace function outbox.unregister_relayer(
  relayer int
) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
begin
  -- Waits for a claim of its own that is under way: what that claims would belong to a number that nobody rescues.
  perform from outbox.relayers where relayers.id = unregister_relayer.relayer for update;

  -- With claims left it stays registered: once its lock is free, rescue() frees them.
  delete from outbox.relayers
  where relayers.id = unregister_relayer.relayer
    and not exists (select from outbox.messages where messages.claimed_by = unregister_relayer.relayer);

  perform pg_advisory_unlock(outbox.lock_key('relayer'), unregister_relayer.relayer);
end
$$;

comment on function outbox.unregister_relayer(int) is
  'A relayer''s farewell, from the session that registered it: forgets its number and frees its lock. With claims left the number stays, for rescue() to free them.';
--! EndIncluded functions/unregister_relayer.sql

--! Included functions/grant_roles.sql
create or replace function outbox.grant_roles() returns setof text
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  -- What each role may call. Nobody calls the rest, which these functions do as the owner. A name that is wrong raises.
  producer_calls   constant regproc[] := '{outbox.enqueue, outbox.enqueue_batch, outbox.enqueue_once}';
  auditor_calls    constant regproc[] := '{
    outbox.events_horizon, outbox.explain, outbox.message_timeline, outbox.relayer_is_alive, outbox.sent_horizon, outbox.tally,
    outbox.tally_minute, outbox.tokens}';
  operator_calls   constant regproc[] := '{
    outbox.cancel, outbox.cancel_replay, outbox.edit, outbox.pause, outbox.replay, outbox.replay_where, outbox.resume,
    outbox.toggle}';
  relayer_calls    constant regproc[] := '{
    outbox.claim, outbox.close_minutes, outbox.configure_gateway, outbox.disown, outbox.heartbeat, outbox.lock_message, outbox.maintain, outbox.next_due,
    outbox.queue_replays, outbox.register_relayer, outbox.release, outbox.replay_slice, outbox.rescue, outbox.settle,
    outbox.stay_awake, outbox.take_tick, outbox.unregister_relayer}';
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
select outbox.grant_roles();
