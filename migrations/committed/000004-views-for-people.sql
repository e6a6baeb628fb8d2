--! Previous: sha1:da06bcba6273bacc59291dc6ebe71009bf3bd6c9
--! Hash: sha1:b17150c62ea1e11a406a327e1a4cc36449a91274
--! Message: Views for people

-- --------------------------------------------------------------- minutes

create table outbox.minutes (
  minute          timestamptz not null,
  gateway         text,
  sent            bigint not null default 0,
  dead            bigint not null default 0,
  rejected        bigint not null default 0,
  retry           bigint not null default 0,
  throttled       bigint not null default 0,
  unknown         bigint not null default 0,
  hold            bigint not null default 0,
  duration_p50_ms bigint,
  duration_p95_ms bigint,
  duration_p99_ms bigint,
  latency_p50_ms  bigint,
  latency_p95_ms  bigint,
  latency_p99_ms  bigint,
  constraint minute_closed_before unique nulls not distinct (minute, gateway)
);

comment on table outbox.minutes is
  'What each minute that is over came to, for 8 days: written once by close_minutes(), so that nobody need count the history. The view outbox.throughput has the last hour of it, and the minutes that are not here yet.';
comment on column outbox.minutes.minute is 'Its beginning. All up to the last one here are closed, and are not looked at again: what a person replays by force since then, from sent or dead_letters, stays counted.';
comment on column outbox.minutes.gateway is 'Null: all together, a row for every minute. Else a row where the gateway had any.';
comment on column outbox.minutes.sent is 'Messages sent.';
comment on column outbox.minutes.dead is 'Messages that ended unsent, for any reason. Missing are those whose transaction was still open when the minute was closed, 5 s after its end: as a cancel that somebody commits much later.';
comment on column outbox.minutes.rejected is 'Attempts that ended so.';
comment on column outbox.minutes.retry is 'Attempts that ended so.';
comment on column outbox.minutes.throttled is 'Attempts that ended so.';
comment on column outbox.minutes.unknown is 'Attempts that ended so.';
comment on column outbox.minutes.hold is 'Attempts that ended so.';
comment on column outbox.minutes.duration_p50_ms is 'How long the accepted POSTs took: half of them no longer.';
comment on column outbox.minutes.duration_p95_ms is '95 % no longer.';
comment on column outbox.minutes.duration_p99_ms is '99 % no longer.';
comment on column outbox.minutes.latency_p50_ms is 'From when a message could be sent until it was recorded as sent: half of them no longer.';
comment on column outbox.minutes.latency_p95_ms is '95 % no longer.';
comment on column outbox.minutes.latency_p99_ms is '99 % no longer.';
comment on constraint minute_closed_before on outbox.minutes is 'A minute is counted once.';
comment on index outbox.minute_closed_before is 'Minutes in their order.';

create index attempts_failed on outbox.attempts (ended_at) where outcome <> 'accepted';
comment on index outbox.attempts_failed is 'What failed, by time.';

-- ------------------------------------------------------ functions, views

--! Included functions/lock_key.sql
create or replace function outbox.lock_key(
  name text
) returns int
language sql immutable parallel safe as $$
  select hashtext('outbox:' || lock_key.name);
$$;

comment on function outbox.lock_key(text) is
  'The first key of our advisory locks, a different one for each purpose: ''claim'' (shared by claims, exclusive for pause), ''relayer'' (second key: its number), ''rescue'', ''maintain'', ''minutes''.';
--! EndIncluded functions/lock_key.sql
--! Included functions/tally.sql
create or replace function outbox.tally(
  since         timestamptz,
  until         timestamptz,
  out gateway   text,
  out sent      bigint,
  out dead      bigint,
  out rejected  bigint,
  out retry     bigint,
  out throttled bigint,
  out unknown   bigint,
  out hold      bigint
) returns setof record
-- As its owner, so that whoever may see the figures need not be allowed to read what was sent.
language sql stable security definer
set search_path = pg_catalog, pg_temp
-- By time, whatever the statistics say: soon after midnight (UTC) a partition has little more than the last minutes, and the
-- planner would rather read all of it, also when it is no longer so.
set jit = off
set enable_seqscan = off as $$
  with counted as (
    select sent.gateway, count(*) as sent
    from outbox.sent
    where sent.sent_at >= tally.since
      and sent.sent_at < tally.until
    group by grouping sets ((sent.gateway), ())
  ), failed as (
    select
      attempts.gateway,
      count(*) filter (where attempts.outcome = 'rejected') as rejected,
      count(*) filter (where attempts.outcome = 'retry') as retry,
      count(*) filter (where attempts.outcome = 'throttled') as throttled,
      count(*) filter (where attempts.outcome = 'unknown') as unknown,
      count(*) filter (where attempts.outcome = 'hold') as hold
    from outbox.attempts
    where attempts.outcome <> 'accepted'
      and attempts.ended_at >= tally.since
      and attempts.ended_at < tally.until
    group by grouping sets ((attempts.gateway), ())
  ), ended as (
    select dead_letters.gateway, count(*) as dead
    from outbox.dead_letters
    where dead_letters.died_at >= tally.since
      and dead_letters.died_at < tally.until
    group by grouping sets ((dead_letters.gateway), ())
  ), seen as (
    select counted.gateway from counted
    union
    select failed.gateway from failed
    union
    select ended.gateway from ended
  )
  select
    seen.gateway,
    coalesce(counted.sent, 0),
    coalesce(ended.dead, 0),
    coalesce(failed.rejected, 0),
    coalesce(failed.retry, 0),
    coalesce(failed.throttled, 0),
    coalesce(failed.unknown, 0),
    coalesce(failed.hold, 0)
  from seen
  left join counted on counted.gateway is not distinct from seen.gateway
  left join failed on failed.gateway is not distinct from seen.gateway
  left join ended on ended.gateway is not distinct from seen.gateway;
$$;

comment on function outbox.tally(timestamptz, timestamptz) is
  'How many messages were sent, failed in which way and died, from a time up to, and without, another: one row for all gateways together (gateway null, always there), and one for each that had any. See the columns of outbox.throughput. It reads every row of that time, so ask for minutes rather than days.';
--! EndIncluded functions/tally.sql
--! Included functions/tally_minute.sql
create or replace function outbox.tally_minute(
  minute              timestamptz,
  out gateway         text,
  out sent            bigint,
  out dead            bigint,
  out rejected        bigint,
  out retry           bigint,
  out throttled       bigint,
  out unknown         bigint,
  out hold            bigint,
  out duration_p50_ms bigint,
  out duration_p95_ms bigint,
  out duration_p99_ms bigint,
  out latency_p50_ms  bigint,
  out latency_p95_ms  bigint,
  out latency_p99_ms  bigint
) returns setof record
-- All of this as in tally().
language sql stable security definer
set search_path = pg_catalog, pg_temp
set jit = off
set enable_seqscan = off as $$
  -- How many messages took so many milliseconds: of a million messages that is a few thousand rows, whereas to sort them all, as
  -- percentile_disc() does, goes to disk.
  with took as (
    select sent.gateway, 'duration' as what, sent.duration_ms::bigint as ms, count(*) as messages
    from outbox.sent
    where sent.sent_at >= tally_minute.minute
      and sent.sent_at < tally_minute.minute + interval '1 minute'
    group by sent.gateway, sent.duration_ms
    union all
    select sent.gateway, 'latency', waited.ms, count(*)
    from outbox.sent
    cross join lateral (
      select round(1000 * extract(epoch from sent.sent_at - greatest(sent.created_at, sent.available_at)))::bigint as ms
    ) as waited
    where sent.sent_at >= tally_minute.minute
      and sent.sent_at < tally_minute.minute + interval '1 minute'
    group by sent.gateway, waited.ms
  ), ranked as (
    select
      took.gateway,
      took.what,
      took.ms,
      100 * sum(sum(took.messages)) over (partition by took.gateway, took.what order by took.ms)
        / sum(sum(took.messages)) over (partition by took.gateway, took.what) as percent
    from took
    group by grouping sets ((took.what, took.ms, took.gateway), (took.what, took.ms))
  ), percentile as (
    select
      ranked.gateway,
      min(ranked.ms) filter (where ranked.what = 'duration' and ranked.percent >= 50) as duration_p50_ms,
      min(ranked.ms) filter (where ranked.what = 'duration' and ranked.percent >= 95) as duration_p95_ms,
      min(ranked.ms) filter (where ranked.what = 'duration' and ranked.percent >= 99) as duration_p99_ms,
      min(ranked.ms) filter (where ranked.what = 'latency' and ranked.percent >= 50) as latency_p50_ms,
      min(ranked.ms) filter (where ranked.what = 'latency' and ranked.percent >= 95) as latency_p95_ms,
      min(ranked.ms) filter (where ranked.what = 'latency' and ranked.percent >= 99) as latency_p99_ms
    from ranked
    group by ranked.gateway
  )
  select
    tally.*,
    percentile.duration_p50_ms,
    percentile.duration_p95_ms,
    percentile.duration_p99_ms,
    percentile.latency_p50_ms,
    percentile.latency_p95_ms,
    percentile.latency_p99_ms
  from outbox.tally(tally_minute.minute, tally_minute.minute + interval '1 minute') as tally
  left join percentile on percentile.gateway is not distinct from tally.gateway;
$$;

comment on function outbox.tally_minute(timestamptz) is
  'What outbox.tally() counts for the minute that begins then, and how long it took: the columns of outbox.minutes.';
--! EndIncluded functions/tally_minute.sql
--! Included functions/close_minutes.sql
create or replace function outbox.close_minutes(
  as_of timestamptz default clock_timestamp()
) returns int
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- As in tally(): by time, whatever the statistics say.
set jit = off
set enable_seqscan = off as $$
declare
  open_from  timestamptz; -- the first minute that is not closed
  over_until timestamptz; -- where the last minute ends that is over
  something  timestamptz; -- the first thing that happened since open_from
  closing    timestamptz;
begin
  if not pg_try_advisory_xact_lock(outbox.lock_key('minutes')) then
    return 0;
  end if;

  -- In a statement of its own: only a later one sees all that the horizon promises. The seconds are for what has no horizon,
  -- as a rescue, whose transaction is short but may just be open.
  over_until := date_trunc('minute', least(outbox.sent_horizon(), close_minutes.as_of - interval '5 seconds'));

  select coalesce(max(minutes.minute) + interval '1 minute', over_until - interval '1 hour')
  into open_from
  from outbox.minutes;
  if open_from >= over_until then
    return 0;
  end if;

  select least(
    (
      select min(sent.sent_at)
      from outbox.sent
      where sent.sent_at >= open_from and sent.sent_at < over_until
    ),
    (
      select min(attempts.ended_at)
      from outbox.attempts
      where attempts.ended_at >= open_from and attempts.ended_at < over_until
        and attempts.outcome <> 'accepted'
    ),
    (
      select min(dead_letters.died_at)
      from outbox.dead_letters
      where dead_letters.died_at >= open_from and dead_letters.died_at < over_until
    )
  )
  into something;

  -- One busy minute a call: it may be a million rows, and a snapshot that stays open slows the claims. Quiet ones cost nothing.
  closing := coalesce(date_trunc('minute', something), over_until - interval '1 minute');

  insert into outbox.minutes (minute)
  select generate_series(open_from, closing - interval '1 minute', interval '1 minute');

  insert into outbox.minutes
  select closing, tally.*
  from outbox.tally_minute(closing) as tally;

  return 1 + extract(epoch from closing - open_from) / 60;
end
$$;

comment on function outbox.close_minutes(timestamptz) is
  'Writes what each minute that is over came to into outbox.minutes: of those not written yet the first in which anything happened, and the quiet ones before it. Every relayer calls it every 10 s, and again at once while it finds some; two at a time do it once. Call it in a transaction of its own. Exact for all that settles record, however long they take. Other ends (a cancel, an expiry, a rescue) are missing where their transaction was still open 5 s after the minute. Returns how many minutes it wrote.';
--! EndIncluded functions/close_minutes.sql
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
--! Included views/snapshots.sql
create or replace view outbox.snapshots as
select
  held.kind,
  held.pid,
  date_trunc('milliseconds', clock_timestamp() - held.since) as age,
  held.transactions_behind,
  held.has_written,
  held.holder
from (
  select
    'session' as kind,
    sessions.pid,
    sessions.xact_start as since,
    greatest(age(sessions.backend_xid), age(sessions.backend_xmin)) as transactions_behind,
    sessions.backend_xid is not null as has_written,
    format(
      'pid %s: %s',
      sessions.pid,
      concat_ws(
        ', ',
        sessions.usename,
        nullif(sessions.application_name, ''),
        'from ' || host(sessions.client_addr),
        nullif(sessions.backend_type, 'client backend'),
        sessions.state
      )
    ) as holder
  from pg_catalog.pg_stat_activity as sessions
  -- Without a database it is a standby whose queries hold back all of them.
  where (sessions.datname = current_database() or sessions.datid is null)
    -- Not who looks, and their parallel workers.
    and sessions.pid <> pg_backend_pid()
    and sessions.leader_pid is distinct from pg_backend_pid()
    -- A vacuum does not wait for another.
    and sessions.pid not in (select pg_stat_progress_vacuum.pid from pg_catalog.pg_stat_progress_vacuum)
  union all
  select
    'prepared transaction',
    null,
    prepared.prepared,
    age(prepared.transaction),
    true,
    format('prepared transaction %L of %s', prepared.gid, prepared.owner)
  from pg_catalog.pg_prepared_xacts as prepared
  where prepared.database = current_database()
  union all
  select
    'replication slot',
    slots.active_pid,
    null,
    age(slots.xmin),
    false,
    format('replication slot %L, %s', slots.slot_name, case when slots.active then 'in use' else 'not in use' end)
  from pg_catalog.pg_replication_slots as slots
) as held
-- A snapshot as new as this look holds nothing back.
where held.transactions_behind > 0
order by held.transactions_behind desc, held.has_written desc;

comment on view outbox.snapshots is
  'Open transactions, the one first that holds back the most. Rows that were deleted or changed since its snapshot cannot be removed while it is open: in the outbox, where every message is a row that is soon dead, they pile up, and claims get slower and slower. What is open for minutes is a report, a dump, a forgotten psql, or an application that waits for something else before it commits.';
comment on column outbox.snapshots.kind is 'session; prepared transaction (of a two-phase commit); replication slot (a standby''s queries, by hot_standby_feedback).';
comment on column outbox.snapshots.pid is 'select pg_terminate_backend(pid) ends the session. A prepared transaction has none: rollback prepared, or commit prepared, ends it. Nor has a slot that nobody uses: select pg_drop_replication_slot(…).';
comment on column outbox.snapshots.age is 'Time since the transaction began, which its snapshot may be younger than. Null for a slot, and for other roles'' sessions unless the role that looks has pg_read_all_stats.';
comment on column outbox.snapshots.transactions_behind is 'How many transactions have begun since, in all of the server: what any of them deleted or changed may have to be kept. Sort by it: it is known to every role.';
comment on column outbox.snapshots.has_written is 'It has changed something, which is undone when it is ended.';
comment on column outbox.snapshots.holder is 'Whose it is: process, role, application_name, address and state (the last two only with pg_read_all_stats).';
--! EndIncluded views/snapshots.sql
--! Included views/health.sql
create or replace view outbox.health as
select
  scheduler.running,
  scheduler.changed_at,
  scheduler.changed_by,
  (
    select count(*)
    from outbox.relayers
    where outbox.relayer_is_alive(relayers.id, relayers.heartbeat_at)
  ) as relayers_alive,
  waiting.due,
  waiting.scheduled,
  waiting.in_flight,
  waiting.oldest_due_age,
  lately.sent as sent_last_minute,
  lately.dead as dead_last_minute,
  (
    select coalesce(array_agg(gateways.name order by gateways.name), '{}')
    from outbox.gateways
    where gateways.paused or gateways.held_until > now() or gateways.circuit <> 'closed'
  ) as stopped_gateways,
  lately.rejected + lately.retry + lately.throttled + lately.unknown + lately.hold as failures_last_minute,
  oldest.age as oldest_snapshot_age,
  oldest.holder as oldest_snapshot_holder
from outbox.scheduler
cross join (
  select
    coalesce(sum(backlog.due), 0)::bigint as due,
    coalesce(sum(backlog.scheduled), 0)::bigint as scheduled,
    coalesce(sum(backlog.in_flight), 0)::bigint as in_flight,
    max(backlog.oldest_due_age) as oldest_due_age
  from outbox.backlog
) as waiting
left join outbox.tally(now() - interval '1 minute', 'infinity') as lately on lately.gateway is null
left join (
  select snapshots.age, snapshots.holder
  from outbox.snapshots
  order by snapshots.transactions_behind desc, snapshots.has_written desc
  limit 1
) as oldest on true;

comment on view outbox.health is
  'One row: is it running, who relays, what waits and for how long, what happened in the last minute, which gateways are paused or held, and who keeps the outbox from being cleaned up. Look here first; backlog, failures, gateway_status, relayer_status and snapshots say more.';
comment on column outbox.health.running is 'false: paused, nothing is claimed.';
comment on column outbox.health.changed_at is 'When it was paused or resumed last.';
comment on column outbox.health.changed_by is 'By whom.';
comment on column outbox.health.relayers_alive is 'Relayers that hold their lock and were heard of within 30 s.';
comment on column outbox.health.due is 'Messages that wait and are due.';
comment on column outbox.health.scheduled is 'Messages that wait for their time.';
comment on column outbox.health.in_flight is 'Messages that are claimed.';
comment on column outbox.health.oldest_due_age is 'How long the oldest due message has been due.';
comment on column outbox.health.sent_last_minute is 'Messages sent within the last minute.';
comment on column outbox.health.dead_last_minute is 'Messages that ended unsent within the last minute.';
comment on column outbox.health.stopped_gateways is 'Gateways that are paused or held, or whose circuit is not closed; see gateway_status.';
comment on column outbox.health.failures_last_minute is 'Attempts that ended within the last minute and not in accepted; see failures.';
comment on column outbox.health.oldest_snapshot_age is 'How long the transaction has been open that keeps the most dead rows from being removed, from its own beginning. Seconds are nothing; minutes make every claim slower. Null: none, or it is not known (a replication slot, or a session that a role without pg_read_all_stats may not see more of).';
comment on column outbox.health.oldest_snapshot_holder is 'Whose it is; see snapshots, also for how to end it.';
--! EndIncluded views/health.sql
--! Included views/gateway_status.sql
create or replace view outbox.gateway_status as
select
  gateways.name as gateway,
  case
    when gateways.paused then 'paused'
    when gateways.circuit = 'half_open' and gateways.held_until > now() then 'probing'
    when gateways.held_until > now() then gateways.hold_reason
    when gateways.circuit <> 'closed' then 'probe_due'
    else 'relaying'
  end as state,
  case when gateways.held_until > now() then gateways.held_until end as held_until,
  gateways.hold_reason,
  gateways.hold_detail,
  gateways.circuit,
  nullif(gateways.circuit_changed_at, '-infinity') as circuit_changed_at,
  gateways.run_of_failures,
  gateways.rate_per_second,
  floor(outbox.tokens(gateways))::int as tokens,
  coalesce(waiting.due, 0) as due,
  coalesce(waiting.scheduled, 0) as scheduled,
  coalesce(waiting.in_flight, 0) as in_flight,
  waiting.oldest_due_age,
  gateways.url,
  gateways.paused,
  gateways.concurrency,
  gateways.max_attempts,
  coalesce(lately.sent, 0) as sent_last_minute,
  coalesce(lately.failures, 0) as failures_last_minute
from outbox.gateways
left join (
  select
    backlog.gateway,
    sum(backlog.due)::bigint as due,
    sum(backlog.scheduled)::bigint as scheduled,
    sum(backlog.in_flight)::bigint as in_flight,
    max(backlog.oldest_due_age) as oldest_due_age
  from outbox.backlog
  group by backlog.gateway
) as waiting on waiting.gateway = gateways.name
left join (
  -- Each gateway has one row of it anyway. Grouped, Postgres knows so, and counts nothing for who does not ask for these two.
  select
    tally.gateway,
    max(tally.sent) as sent,
    max(tally.rejected + tally.retry + tally.throttled + tally.unknown + tally.hold) as failures
  from outbox.tally(now() - interval '1 minute', 'infinity') as tally
  group by tally.gateway
) as lately on lately.gateway = gateways.name
order by gateways.name;

comment on view outbox.gateway_status is 'Each gateway: is it relayed to, if not why and until when, what waits for it, and how it does. outbox.resume(gateway) ends a pause and a hold.';
comment on column outbox.gateway_status.gateway is 'Its name.';
comment on column outbox.gateway_status.state is 'relaying; paused (by a person); throttled, hold or circuit_open (until held_until, see hold_reason); probe_due (the next messages are a probe); probing (a probe is under way).';
comment on column outbox.gateway_status.held_until is 'Nothing is claimed for it before this time.';
comment on column outbox.gateway_status.hold_reason is 'throttled: it asked to be left alone. hold: its answer faults the account or the URL. circuit_open: it fails.';
comment on column outbox.gateway_status.hold_detail is 'The answer or the failures that led to the hold.';
comment on column outbox.gateway_status.circuit is 'closed, open or half_open.';
comment on column outbox.gateway_status.circuit_changed_at is 'Since when.';
comment on column outbox.gateway_status.run_of_failures is 'Failures since the last attempt that passed.';
comment on column outbox.gateway_status.rate_per_second is 'The most POSTs a second for all relayers together; null: no limit.';
comment on column outbox.gateway_status.tokens is 'With a rate: how many could go now.';
comment on column outbox.gateway_status.due is 'Messages that wait for it and are due.';
comment on column outbox.gateway_status.scheduled is 'Messages for it that wait for their time.';
comment on column outbox.gateway_status.in_flight is 'Messages for it that are claimed.';
comment on column outbox.gateway_status.oldest_due_age is 'How long the oldest due one has been due.';
comment on column outbox.gateway_status.url is 'Where its messages are POSTed.';
comment on column outbox.gateway_status.paused is 'A person paused it; state says so too, but this also while it is held besides.';
comment on column outbox.gateway_status.concurrency is 'The most POSTs one relayer keeps in flight.';
comment on column outbox.gateway_status.max_attempts is 'Attempts before a message is a dead letter.';
comment on column outbox.gateway_status.sent_last_minute is 'Messages it took within the last minute.';
comment on column outbox.gateway_status.failures_last_minute is 'Attempts within the last minute that it did not accept; see failures.';
--! EndIncluded views/gateway_status.sql
--! Included views/all_messages.sql
create or replace view outbox.all_messages as
select
  messages.id,
  case when messages.claimed_by is null then 'pending' else 'sending' end as status,
  messages.gateway, messages.priority, messages.recipient, messages.content, messages.metadata, messages.dedupe_key,
  messages.attempts, messages.available_at, messages.expires_at, messages.claimed_by, messages.claimed_at,
  messages.last_error, messages.traceparent, messages.created_at,
  null::timestamptz as sent_at, null::text as gateway_message_id, null::int as duration_ms,
  null::timestamptz as died_at, null::text as reason, null::int as http_status, null::text as error,
  messages.revision
from outbox.messages
union all
select
  sent.id,
  'sent',
  sent.gateway, sent.priority, sent.recipient, sent.content, sent.metadata, sent.dedupe_key,
  sent.attempts, sent.available_at, sent.expires_at, sent.claimed_by, sent.claimed_at,
  sent.last_error, sent.traceparent, sent.created_at,
  sent.sent_at, sent.gateway_message_id, sent.duration_ms,
  null, null, null, null,
  sent.revision
from outbox.sent
union all
select
  dead_letters.id,
  case when dead_letters.reason in ('expired', 'cancelled') then dead_letters.reason::text else 'failed' end,
  dead_letters.gateway, dead_letters.priority, dead_letters.recipient, dead_letters.content, dead_letters.metadata, dead_letters.dedupe_key,
  dead_letters.attempts, dead_letters.available_at, dead_letters.expires_at, dead_letters.claimed_by, dead_letters.claimed_at,
  dead_letters.last_error, dead_letters.traceparent, dead_letters.created_at,
  null, null, null,
  dead_letters.died_at, dead_letters.reason::text, dead_letters.http_status, dead_letters.error,
  dead_letters.revision
from outbox.dead_letters;

comment on view outbox.all_messages is
  'Every message, wherever it stands. status: pending (waits), sending (claimed), sent, failed (rejected, exhausted, unknown_outcome), expired, cancelled. Ask by id, by sent_at, by died_at, or for a status other than sent: then it reads no history. Any other question goes faster to the table itself.';
comment on column outbox.all_messages.id is 'The message''s id.';
comment on column outbox.all_messages.status is 'pending, sending, sent, failed, expired or cancelled.';
comment on column outbox.all_messages.gateway is 'Its gateway.';
comment on column outbox.all_messages.priority is '0, 1 or 2.';
comment on column outbox.all_messages.recipient is 'E.164.';
comment on column outbox.all_messages.content is 'The text.';
comment on column outbox.all_messages.metadata is 'The producer''s.';
comment on column outbox.all_messages.dedupe_key is 'The producer''s.';
comment on column outbox.all_messages.attempts is 'Tries begun.';
comment on column outbox.all_messages.available_at is 'Due since, or due at.';
comment on column outbox.all_messages.expires_at is 'Never sent after.';
comment on column outbox.all_messages.claimed_by is 'The relayer that has or had it.';
comment on column outbox.all_messages.claimed_at is 'Since when.';
comment on column outbox.all_messages.last_error is 'What the last failed attempt showed.';
comment on column outbox.all_messages.traceparent is 'W3C trace context.';
comment on column outbox.all_messages.created_at is 'When it was inserted.';
comment on column outbox.all_messages.sent_at is 'When it was recorded as sent.';
comment on column outbox.all_messages.gateway_message_id is 'The id the gateway gave it.';
comment on column outbox.all_messages.duration_ms is 'How long the successful attempt took.';
comment on column outbox.all_messages.died_at is 'When it ended unsent.';
comment on column outbox.all_messages.reason is 'Why it ended unsent; see outbox.dead_reason.';
comment on column outbox.all_messages.http_status is 'The gateway''s last status, if it ended unsent.';
comment on column outbox.all_messages.error is 'The same for a person.';
comment on column outbox.all_messages.revision is 'Part of its Idempotency-Key where it is above 0.';
--! EndIncluded views/all_messages.sql
--! Included views/throughput.sql
create or replace view outbox.throughput as
select
  one.minute,
  one.gateway,
  one.sent,
  one.rejected + one.retry + one.throttled + one.unknown + one.hold as failed,
  one.dead,
  one.rejected,
  one.retry,
  one.throttled,
  one.unknown,
  one.hold,
  one.duration_p50_ms,
  one.duration_p95_ms,
  one.duration_p99_ms,
  one.latency_p50_ms,
  one.latency_p95_ms,
  one.latency_p99_ms
from (
  select minutes.*
  from outbox.minutes
  where minutes.minute >= date_trunc('minute', now()) - interval '1 hour'
  union all
  select still_open.minute, tally.*
  from generate_series(
    greatest(
      (select max(minutes.minute) + interval '1 minute' from outbox.minutes),
      date_trunc('minute', now()) - interval '1 hour'
    ),
    date_trunc('minute', now()),
    interval '1 minute'
  ) as still_open (minute)
  cross join lateral outbox.tally_minute(still_open.minute) as tally
) as one
order by one.minute desc, one.gateway nulls first;

comment on view outbox.throughput is
  'The last hour by minute, the newest first, which is not over yet: what was sent, what failed, how long it took. For each gateway that had any, and for all together, where a minute without traffic is a row too. Minutes that are over are read from outbox.minutes, which has some days of them; the others are counted at each look.';
comment on column outbox.throughput.minute is 'Its beginning.';
comment on column outbox.throughput.gateway is 'Null: all together.';
comment on column outbox.throughput.sent is 'Messages sent.';
comment on column outbox.throughput.failed is 'Attempts that ended in anything but accepted: the sum of the five outcomes.';
comment on column outbox.throughput.dead is 'Messages that ended unsent, for any reason; those that died of their last attempt are in failed as well.';
comment on column outbox.throughput.rejected is 'Attempts after which the gateway never will take the message.';
comment on column outbox.throughput.retry is 'Attempts that surely sent nothing, and are made again.';
comment on column outbox.throughput.throttled is 'Attempts after which the gateway asked to be left alone.';
comment on column outbox.throughput.unknown is 'Attempts that may have been taken: a timeout, a reset, a relayer that died.';
comment on column outbox.throughput.hold is 'Attempts whose answer faulted the account or the URL.';
comment on column outbox.throughput.duration_p50_ms is 'How long the POSTs took that were accepted: half of them no longer than this.';
comment on column outbox.throughput.duration_p95_ms is '95 % of them no longer than this.';
comment on column outbox.throughput.duration_p99_ms is '99 % of them no longer than this.';
comment on column outbox.throughput.latency_p50_ms is 'How long messages took from when they could be sent (inserted, their schedule come, their last retry due) until they were recorded as sent: half of them no longer than this. Much more than duration: they waited here.';
comment on column outbox.throughput.latency_p95_ms is '95 % of them no longer than this.';
comment on column outbox.throughput.latency_p99_ms is '99 % of them no longer than this.';
--! EndIncluded views/throughput.sql
--! Included views/failures.sql
create or replace view outbox.failures as
with failed as materialized (
  select
    attempts.gateway,
    attempts.outcome::text as outcome,
    attempts.http_status,
    attempts.error,
    attempts.message_id,
    attempts.ended_at
  from outbox.attempts
  where attempts.outcome <> 'accepted'
    -- Up to now, so that a planner without statistics takes it for little, and goes by the index.
    and attempts.ended_at > now() - interval '1 hour' and attempts.ended_at <= now()
), fault as materialized (
  -- Times, and words of six characters or more with a digit among them (ids, numbers), are of one failure, not of the fault.
  -- Each text once, for this is dear.
  select
    said.error as said,
    left(regexp_replace(said.error, '\m(?:\d{4}-\d\d-\d\d[T ][\d:.]+Z?|(?=[\w-]*\d)[\w-]{6,})', '…', 'g'), 200) as error
  from (select distinct failed.error from failed) as said
)
select
  failed.gateway,
  failed.outcome,
  failed.http_status,
  fault.error,
  count(*) as attempts,
  count(distinct failed.message_id) as messages,
  min(failed.ended_at) as first_at,
  max(failed.ended_at) as last_at,
  max(failed.message_id) as sample_message_id
from failed
left join fault on fault.said = failed.error
group by failed.gateway, failed.outcome, failed.http_status, fault.error
order by count(*) desc, max(failed.ended_at) desc;

comment on view outbox.failures is
  'What failed within the last hour and why, the most frequent first: attempts that did not end in accepted, those with the same fault as one line. Whole texts are in outbox.attempts, and what ended for good in outbox.dead_letters.';
comment on column outbox.failures.gateway is 'The gateway.';
comment on column outbox.failures.outcome is 'What the attempts showed; see the domain outbox.outcome.';
comment on column outbox.failures.http_status is 'The answer''s status; null: no answer came.';
comment on column outbox.failures.error is 'What went wrong, at most 200 characters, with … for what differs from one to the next: ids, numbers, times.';
comment on column outbox.failures.attempts is 'How many attempts.';
comment on column outbox.failures.messages is 'Of how many messages.';
comment on column outbox.failures.first_at is 'The first of them; of the last hour.';
comment on column outbox.failures.last_at is 'The last of them. Long ago: it is over.';
comment on column outbox.failures.sample_message_id is 'One of the messages, the youngest: select * from outbox.attempts where message_id = …';
--! EndIncluded views/failures.sql
--! Included views/relayer_status.sql
create or replace view outbox.relayer_status as
select
  relayers.id,
  relayers.name,
  relayers.version,
  outbox.relayer_is_alive(relayers.id, relayers.heartbeat_at) as alive,
  relayers.started_at,
  nullif(relayers.heartbeat_at, '-infinity') as heartbeat_at,
  date_trunc('milliseconds', clock_timestamp() - nullif(relayers.heartbeat_at, '-infinity')) as heartbeat_age,
  coalesce(claims.in_flight, 0) as in_flight,
  date_trunc('milliseconds', clock_timestamp() - claims.oldest) as oldest_claim_age,
  relayers.worker
from outbox.relayers
left join (
  select messages.claimed_by, count(*) as in_flight, min(messages.claimed_at) as oldest
  from outbox.messages
  where messages.claimed_by is not null
  group by messages.claimed_by
) as claims on claims.claimed_by = relayers.id
order by relayers.id;

comment on view outbox.relayer_status is
  'Each relayer: does it live, and what has it claimed. One that is gone is here until another has freed its claims, about a second.';
comment on column outbox.relayer_status.id is 'Its number; claimed_by in messages.';
comment on column outbox.relayer_status.name is 'Host and process id.';
comment on column outbox.relayer_status.version is 'The version it runs.';
comment on column outbox.relayer_status.alive is 'It holds its lock, which Postgres frees when the process is gone, and was heard of within 30 s.';
comment on column outbox.relayer_status.started_at is 'When it took its number; it takes a new one after its connection was lost.';
comment on column outbox.relayer_status.heartbeat_at is 'When it was last heard of. Null: taken for dead.';
comment on column outbox.relayer_status.heartbeat_age is 'How long ago; about a second when all is well.';
comment on column outbox.relayer_status.in_flight is 'Messages it has claimed.';
comment on column outbox.relayer_status.oldest_claim_age is 'How long it has had the oldest of them. Above its gateway''s timeout: it hangs, or cannot record what it did.';
comment on column outbox.relayer_status.worker is 'The name under which its Graphile Worker locks jobs.';
--! EndIncluded views/relayer_status.sql
--! Included views/in_flight.sql
create or replace view outbox.in_flight as
-- Whether it lives is asked once a relayer, not once a message.
with relayer as materialized (
  select relayers.id, relayers.name, outbox.relayer_is_alive(relayers.id, relayers.heartbeat_at) as alive
  from outbox.relayers
)
select
  messages.claimed_by as relayer,
  relayer.name,
  coalesce(relayer.alive, false) as alive,
  messages.gateway,
  messages.id,
  messages.priority,
  messages.attempts as attempt,
  messages.claimed_at,
  date_trunc('milliseconds', clock_timestamp() - messages.claimed_at) as age
from outbox.messages
left join relayer on relayer.id = messages.claimed_by
where messages.claimed_by is not null
order by messages.claimed_at, messages.id;

comment on view outbox.in_flight is
  'What is claimed now, the oldest first: an attempt is being made, or about to be. All of it is young when all is well. Neither texts nor recipients.';
comment on column outbox.in_flight.relayer is 'The number of the relayer that has it.';
comment on column outbox.in_flight.name is 'The relayer''s host and process id.';
comment on column outbox.in_flight.alive is 'Whether that relayer lives; what a dead one had is freed within about a second.';
comment on column outbox.in_flight.gateway is 'Where it goes.';
comment on column outbox.in_flight.id is 'The message.';
comment on column outbox.in_flight.priority is '0, 1 or 2.';
comment on column outbox.in_flight.attempt is 'Which attempt this is.';
comment on column outbox.in_flight.claimed_at is 'Since when.';
comment on column outbox.in_flight.age is 'For how long. Above the gateway''s timeout: its relayer hangs, or cannot record what it did.';
--! EndIncluded views/in_flight.sql
