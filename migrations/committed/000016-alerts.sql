--! Previous: sha1:aa4520d3ba3c3feab2b470ba690f4b4be228de5e
--! Hash: sha1:9d755c745ae64bb2a37c905c4f01fd181044b019
--! Message: Alerts

-- The next change of the schema; --!include functions/NAME.sql takes a file from migrations/fixtures.

-- ---------------------------------------------------------------- alerts

create table outbox.alerts (
  id                bigint      generated always as identity constraint alerts_pkey primary key,
  kind              text        not null,
  key               text        not null,
  severity          text        not null,
  summary           text        not null,
  since             timestamptz not null,
  last_seen_at      timestamptz not null,
  count             bigint,
  sample_ids        bigint[]    not null default '{}',
  help              text,
  request           text,
  opened_at         timestamptz,
  logged_at         timestamptz,
  logged_severity   text,
  notified_at       timestamptz,
  notified_severity text,
  notices           int         not null default 0,
  returns           int         not null default 0,
  resolved_at       timestamptz,
  constraint severity_not_critical_or_warning check (severity in ('critical', 'warning')),
  constraint resolved_but_never_opened        check (resolved_at is null or opened_at is not null)
);

comment on table outbox.alerts is
  'What was found wrong, from when it was found to 30 days after its end; written by note_alerts(). open_alerts shows what is open.';
comment on column outbox.alerts.id is 'Which time it was; also the thread of its e-mails.';
comment on column outbox.alerts.kind is 'What sort of thing: new_dead_letters, dead_letters, oldest_due_age, scheduler_stopped, gateway_paused, gateway_held, no_relayer, slot_wal, query_store_lag.';
comment on column outbox.alerts.key is 'The kind and what it is about (a gateway, a slot). An alert that comes again has the same.';
comment on column outbox.alerts.severity is 'critical or warning; while it is open it can only become critical.';
comment on column outbox.alerts.summary is 'What, in a sentence, without numbers and texts.';
comment on column outbox.alerts.since is 'Since when it is so, as far as is known; else since it was first found.';
comment on column outbox.alerts.last_seen_at is 'When it was found last.';
comment on column outbox.alerts.count is 'How many messages, when it was found last; null: it is not about messages.';
comment on column outbox.alerts.sample_ids is 'Some of them.';
comment on column outbox.alerts.help is 'What helps, in SQL.';
comment on column outbox.alerts.request is 'What helps over REST: a method and a path below /api/v1.';
comment on column outbox.alerts.opened_at is 'When it had lasted long enough to be told; null: not yet.';
comment on column outbox.alerts.logged_at is 'When it was told last, be it only to a log.';
comment on column outbox.alerts.logged_severity is 'As what.';
comment on column outbox.alerts.notified_at is 'When it was told last by Slack or e-mail: the notice was queued, not delivered.';
comment on column outbox.alerts.notified_severity is 'As what it was told last.';
comment on column outbox.alerts.notices is 'How often it was told by Slack or e-mail.';
comment on column outbox.alerts.returns is 'How often it had come back within 2 hours of its end.';
comment on column outbox.alerts.resolved_at is 'When it was found to be over; null: it is not.';
comment on constraint alerts_pkey on outbox.alerts is 'An alert is one time that something was wrong.';
comment on constraint severity_not_critical_or_warning on outbox.alerts is 'Refuses any other word. In the order of the alphabet, the worse comes first.';
comment on constraint resolved_but_never_opened on outbox.alerts is 'What passes before it was told is forgotten.';
comment on sequence outbox.alerts_id_seq is 'The ids.';
comment on index outbox.alerts_pkey is 'Finds an alert by its id.';
create unique index alerts_open on outbox.alerts (key) where resolved_at is null;
comment on index outbox.alerts_open is 'One thing is open once.';
create index alerts_past on outbox.alerts (key, resolved_at) where resolved_at is not null;
comment on index outbox.alerts_past is 'Whether one has come back.';

create table outbox.watchers (
  worker       text        constraint watchers_pkey primary key,
  name         text        not null,
  heartbeat_at timestamptz not null
);

comment on table outbox.watchers is 'Processes that look after alerts and nothing else (npm run watch); a row is gone an hour after its last heartbeat.';
comment on column outbox.watchers.worker is 'The name under which its Graphile Worker locks jobs.';
comment on column outbox.watchers.name is 'Host and process id, for a person.';
comment on column outbox.watchers.heartbeat_at is 'When it was last heard of; about every 10 s.';
comment on constraint watchers_pkey on outbox.watchers is 'A watcher has one Graphile Worker.';
comment on index outbox.watchers_pkey is 'Finds a watcher by its worker.';

--! Included functions/find_dead_letters.sql
create or replace function outbox.find_dead_letters(
  new_dead_letters int,
  dead_letters     int,
  as_of            timestamptz default clock_timestamp(),
  out kind        text,
  out key         text,
  out severity    text,
  out summary     text,
  out since       timestamptz,
  out lasting     interval,
  out count       bigint,
  out sample_ids  bigint[],
  out help        text,
  out request     text
) returns setof record
language sql volatile
-- Along the index on died_at, from the newest on, also where the planner takes what is there for little.
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off as $$
  with lately as materialized (
    select dead.id, dead.gateway, dead.reason::text as reason, dead.died_at
    from outbox.dead_letters as dead
    where dead.died_at > find_dead_letters.as_of - interval '10 minutes'
      and dead.died_at <= find_dead_letters.as_of
      -- That was a person's wish.
      and dead.reason <> 'cancelled'
    order by dead.died_at desc, dead.id desc
    -- A flood is told from a trickle without reading all of it.
    limit 10000
  ), of_a_reason as (
    select
      lately.gateway,
      lately.reason,
      count(*) as how_many,
      min(lately.died_at) as first_at,
      (array_agg(lately.id order by lately.died_at desc, lately.id desc))[1:5] as ids
    from lately
    group by lately.gateway, lately.reason
  ), of_all as (
    select
      count(*) as how_many,
      min(lately.died_at) as first_at,
      (array_agg(lately.id order by lately.died_at desc, lately.id desc))[1:5] as ids
    from lately
  )
  select
    'new_dead_letters',
    format('new_dead_letters:%s:%s', of_a_reason.gateway, of_a_reason.reason),
    'warning',
    format(
      '%s within 10 minutes at gateway %s: %s',
      case of_a_reason.how_many when 1 then '1 new dead letter' else of_a_reason.how_many || ' new dead letters' end,
      of_a_reason.gateway, of_a_reason.reason
    ),
    of_a_reason.first_at,
    interval '0',
    of_a_reason.how_many,
    of_a_reason.ids,
    format('select outbox.explain(%s);', of_a_reason.ids[1]),
    format('GET /dead-letters?gateway=%s&reason=%s', of_a_reason.gateway, of_a_reason.reason)
  from of_a_reason
  where of_a_reason.how_many >= find_dead_letters.new_dead_letters
  union all
  select
    'dead_letters',
    'dead_letters',
    'critical',
    format(
      '%s dead letters within 10 minutes, more than %s',
      case when of_all.how_many < 10000 then of_all.how_many::text else 'at least 10000' end,
      find_dead_letters.dead_letters
    ),
    of_all.first_at,
    interval '0',
    of_all.how_many,
    of_all.ids,
    'select * from outbox.failures;',
    'GET /dead-letters'
  from of_all
  where of_all.how_many > find_dead_letters.dead_letters;
$$;

comment on function outbox.find_dead_letters(int, int, timestamptz) is
  'Part of find_alerts(): messages that ended unsent within 10 minutes, those aside that a person cancelled. new_dead_letters: from so many on of one gateway and reason, a warning for each; dead_letters: more of all together are critical. It counts to 10000. lasting: see there.';
--! EndIncluded functions/find_dead_letters.sql
--! Included functions/find_waiting.sql
create or replace function outbox.find_waiting(
  oldest_due_age interval,
  as_of          timestamptz default clock_timestamp(),
  out kind        text,
  out key         text,
  out severity    text,
  out summary     text,
  out since       timestamptz,
  out lasting     interval,
  out count       bigint,
  out sample_ids  bigint[],
  out help        text,
  out request     text
) returns setof record
language sql volatile
-- As next_due(): along the index, from the oldest on.
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off as $$
  select
    'oldest_due_age',
    format('oldest_due_age:%s', gateways.name),
    case when overdue.oldest <= find_waiting.as_of - 5 * find_waiting.oldest_due_age then 'critical' else 'warning' end,
    format(
      'gateway %s: %s for more than %s, the oldest for %s',
      gateways.name,
      case
        when overdue.how_many = 1 then '1 message has been due'
        when overdue.how_many < 1000 then overdue.how_many || ' messages have been due'
        else 'at least 1000 messages have been due'
      end,
      outbox.in_words(find_waiting.oldest_due_age),
      outbox.in_words(find_waiting.as_of - overdue.oldest)
    ),
    overdue.oldest,
    interval '0',
    overdue.how_many,
    overdue.ids[1:5],
    format('select outbox.explain(%s);', overdue.ids[1]),
    format('GET /messages/%s/explanation', overdue.ids[1])
  from outbox.gateways
  cross join lateral (
    select
      count(*) as how_many,
      min(waiting.available_at) as oldest,
      array_agg(waiting.id order by waiting.available_at, waiting.id) as ids
    from (
      select messages.id, messages.available_at
      from unnest('{0,1,2}'::smallint[]) as level (priority)
      cross join lateral (
        select its.id, its.available_at
        from outbox.messages as its
        where its.gateway = gateways.name
          and its.priority = level.priority
          and its.claimed_by is null
          and its.available_at <= find_waiting.as_of - find_waiting.oldest_due_age
        order by its.available_at, its.id
        limit 1000
      ) as messages
    ) as waiting
  ) as overdue
  where overdue.how_many > 0
    -- Whatever keeps a gateway from being claimed for has an alert of its own, and needs no second one for what then waits.
    and not gateways.paused
    and gateways.circuit = 'closed'
    and coalesce(gateways.held_until <= find_waiting.as_of, true)
    and exists (select from outbox.scheduler where scheduler.running);
$$;

comment on function outbox.find_waiting(interval, timestamptz) is
  'Part of find_alerts(): gateways with messages that have been due for longer than oldest_due_age and could be claimed: not while the scheduler is stopped or the gateway is paused or held. A warning; from five times as long on critical. It counts to 1000 a priority. lasting: see there.';
--! EndIncluded functions/find_waiting.sql
--! Included functions/find_stopped.sql
create or replace function outbox.find_stopped(
  scheduler_stopped interval,
  gateway_held      interval,
  no_relayer        interval,
  as_of             timestamptz default clock_timestamp(),
  out kind        text,
  out key         text,
  out severity    text,
  out summary     text,
  out since       timestamptz,
  out lasting     interval,
  out count       bigint,
  out sample_ids  bigint[],
  out help        text,
  out request     text
) returns setof record
language sql volatile as $$
  select
    'scheduler_stopped',
    'scheduler_stopped',
    case when scheduler.changed_at <= find_stopped.as_of - 4 * find_stopped.scheduler_stopped then 'critical' else 'warning' end,
    format('the scheduler was stopped by %s: nothing is sent anywhere', scheduler.changed_by),
    scheduler.changed_at,
    find_stopped.scheduler_stopped,
    null::bigint,
    '{}'::bigint[],
    'select outbox.resume();',
    'POST /scheduler/start'
  from outbox.scheduler
  where not scheduler.running
    and find_stopped.scheduler_stopped is not null
  union all
  select
    'gateway_paused',
    format('gateway_paused:%s', gateways.name),
    'warning',
    format('gateway %s was paused%s: nothing is sent to it', gateways.name, ' by ' || switched.actor),
    switched.at,
    find_stopped.scheduler_stopped,
    null,
    '{}',
    format('select outbox.resume(%L);', gateways.name),
    format('POST /gateways/%s/resume', gateways.name)
  from outbox.gateways
  left join lateral (
    select audit.actor, audit.at
    from outbox.audit
    where coalesce(audit.target, '') = gateways.name
      and audit.action in ('pause', 'resume')
      and audit.affected > 0
    order by audit.at desc
    limit 1
  ) as switched on true
  where gateways.paused
    and find_stopped.scheduler_stopped is not null
  union all
  select
    'gateway_held',
    format('gateway_held:%s', gateways.name),
    case gateways.hold_reason when 'throttled' then 'warning' else 'critical' end,
    format(
      'gateway %s %s: nothing but probes is sent to it (%s)',
      gateways.name,
      case gateways.hold_reason
        when 'throttled' then 'asks to be left alone'
        when 'hold' then 'is held, for its answer faults the account or the URL'
        else 'fails, and its circuit is open'
      end,
      -- Of whichever message it was; outbox.gateway_status has the whole.
      coalesce(outbox.discreet(null, gateways.hold_detail), 'no answer on record')
    ),
    -- Each probe that fails begins a hold anew: what is known of the whole is since when it has been found.
    null,
    find_stopped.gateway_held,
    null,
    '{}',
    format(
      'select * from outbox.gateway_status where gateway = %1$L; select outbox.resume(%1$L); ends the hold.',
      gateways.name
    ),
    format('GET /gateways/%s', gateways.name)
  from outbox.gateways
  where not gateways.paused
    and (gateways.held_until > find_stopped.as_of or gateways.circuit <> 'closed')
    and find_stopped.gateway_held is not null
  union all
  select
    'no_relayer',
    'no_relayer',
    'critical',
    'no relayer is alive: nothing is sent anywhere',
    alive.last_heard_of,
    find_stopped.no_relayer,
    null,
    '{}',
    'select * from outbox.relayer_status; and start one: npm start.',
    null
  from (
    select
      count(*) filter (where outbox.relayer_is_alive(relayers.id, relayers.heartbeat_at, as_of => find_stopped.as_of)) as relayers,
      max(relayers.heartbeat_at) filter (where isfinite(relayers.heartbeat_at)) as last_heard_of
    from outbox.relayers
  ) as alive
  where alive.relayers = 0
    and find_stopped.no_relayer is not null;
$$;

comment on function outbox.find_stopped(interval, interval, interval, timestamptz) is
  'Part of find_alerts(): what stands still. scheduler_stopped: for how long the scheduler (critical from four times as long on), or a gateway, may be paused by a person; gateway_held: for how long a gateway may be held or its circuit not closed (a gateway that only asks for patience is a warning); no_relayer: for how long no relayer may be alive. Each of them null: not looked at. lasting: see there.';
--! EndIncluded functions/find_stopped.sql
--! Included functions/find_full_slots.sql
create or replace function outbox.find_full_slots(
  slot_wal bigint,
  as_of    timestamptz default clock_timestamp(),
  out kind        text,
  out key         text,
  out severity    text,
  out summary     text,
  out since       timestamptz,
  out lasting     interval,
  out count       bigint,
  out sample_ids  bigint[],
  out help        text,
  out request     text
) returns setof record
language sql volatile as $$
  select
    'slot_wal',
    format('slot_wal:%s', slots.slot_name),
    case when slots.retained > 4 * find_full_slots.slot_wal or slots.wal_status in ('unreserved', 'lost') then 'critical' else 'warning' end,
    case
      when slots.wal_status = 'lost' then format(
        'replication slot %s has lost WAL that it needed: its query store has to be made anew', slots.slot_name
      )
      else format(
        'replication slot %s, %s, keeps %s of WAL from being removed, more than %s',
        slots.slot_name,
        case when slots.active then 'in use' else 'not in use' end,
        pg_size_pretty(slots.retained), pg_size_pretty(find_full_slots.slot_wal)
      )
    end,
    null::timestamptz,
    interval '0',
    null::bigint,
    '{}'::bigint[],
    format(
      'npm run query-store -- status; if the store is gone for good: npm run query-store -- drop, or select pg_drop_replication_slot(%L);',
      slots.slot_name
    ),
    null::text
  from (
    select
      pg_replication_slots.slot_name,
      pg_replication_slots.active,
      pg_replication_slots.wal_status,
      pg_wal_lsn_diff(pg_current_wal_lsn(), pg_replication_slots.restart_lsn)::bigint as retained
    from pg_catalog.pg_replication_slots
    where pg_replication_slots.slot_name like 'outbox\_%'
      -- A physical standby's is of all databases.
      and coalesce(pg_replication_slots.database = current_database(), true)
      and not pg_is_in_recovery()
  ) as slots
  where slots.retained > find_full_slots.slot_wal
     or find_full_slots.slot_wal is not null and slots.wal_status = 'lost';
$$;

comment on function outbox.find_full_slots(bigint, timestamptz) is
  'Part of find_alerts(): replication slots of query stores (outbox_…) that keep more than slot_wal bytes of WAL from being removed, which in the end fills the disk (from four times as much on critical), or that have lost what they needed. lasting: see there.';
--! EndIncluded functions/find_full_slots.sql
--! Included functions/find_alerts.sql
create or replace function outbox.find_alerts(
  new_dead_letters  int         default 1,
  dead_letters      int         default 100,
  oldest_due_age    interval    default '5 minutes',
  gateway_held      interval    default '5 minutes',
  scheduler_stopped interval    default '15 minutes',
  no_relayer        interval    default '1 minute',
  slot_wal          bigint      default 1073741824,
  as_of             timestamptz default clock_timestamp(),
  out kind        text,
  out key         text,
  out severity    text,
  out summary     text,
  out since       timestamptz,
  out lasting     interval,
  out count       bigint,
  out sample_ids  bigint[],
  out help        text,
  out request     text
) returns setof record
language sql volatile security definer
set search_path = pg_catalog, pg_temp as $$
  select * from outbox.find_dead_letters(find_alerts.new_dead_letters, find_alerts.dead_letters, find_alerts.as_of)
  union all
  select * from outbox.find_waiting(find_alerts.oldest_due_age, find_alerts.as_of)
  union all
  select *
  from outbox.find_stopped(find_alerts.scheduler_stopped, find_alerts.gateway_held, find_alerts.no_relayer, find_alerts.as_of)
  union all
  select * from outbox.find_full_slots(find_alerts.slot_wal, find_alerts.as_of);
$$;

comment on function outbox.find_alerts(int, int, interval, interval, interval, interval, bigint, timestamptz) is
  'What is not as it should be now, for note_alerts(); it changes nothing. The parameters are the settings alerts.*, null for one that is off: new_dead_letters and dead_letters (see find_dead_letters()), oldest_due_age (find_waiting()), gateway_held, scheduler_stopped and no_relayer (find_stopped()), slot_wal in bytes (find_full_slots()). Each row is one condition by its key. lasting: for how long it has to be so before anybody is told; since null: it is not known since when. Neither numbers nor texts of messages, nor a gateway''s words about one. Every part of it reads a bounded number of rows.';
--! EndIncluded functions/find_alerts.sql
--! Included functions/queue_notice.sql
create or replace function outbox.queue_notice(
  notice  jsonb,
  channel text
) returns boolean
language plpgsql volatile as $$
begin
  -- Graphile Worker's schema is made after ours, step by step; without it nobody would run the job.
  if to_regprocedure('outbox_worker.add_job(text, json, text, timestamptz, int, text, int, text[], text)') is null then
    return false;
  end if;

  perform outbox_worker.add_job(
    'notify_' || queue_notice.channel,
    queue_notice.notice::json,
    -- One at a time: a mail server that hangs never takes the worker that the relay's own jobs need.
    queue_name   => 'notices',
    -- Over about 4 hours. By then it is told anew, if it is still so.
    max_attempts => 10
  );
  return true;
end
$$;

comment on function outbox.queue_notice(jsonb, text) is
  'Part of note_alerts(): a job of Graphile Worker that sends the notice by this channel (slack or email), tried up to 10 times. Returns whether there is one: not while Graphile Worker has no schema yet.';
--! EndIncluded functions/queue_notice.sql
--! Included functions/note_alerts.sql
create or replace function outbox.note_alerts(
  findings      jsonb,
  channels      text[]      default '{}',
  unseen        text[]      default '{}',
  repeat_after  interval    default '4 hours',
  recover_after interval    default '5 minutes',
  as_of         timestamptz default clock_timestamp()
) returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  -- By a channel, or only to the log of whoever calls: what a channel has not told is still news to it.
  heard constant boolean := cardinality(note_alerts.channels) > 0;
  told  jsonb;
begin
  -- Two at a time take turns, and the second finds everything told.
  perform pg_advisory_xact_lock(outbox.lock_key('alerts'));

  with found as materialized (
    select distinct on (finding.key) finding.*
    from jsonb_to_recordset(note_alerts.findings) as finding (
      kind text, key text, severity text, summary text, since timestamptz, lasting interval, count bigint,
      sample_ids bigint[], help text, request text
    )
    order by finding.key, finding.severity -- critical before warning
  ), known as (
    update outbox.alerts
    set
      -- While it is open it never gets less severe: what goes up and down would be told each time.
      severity     = least(alerts.severity, found.severity),
      summary      = found.summary,
      since        = case when alerts.opened_at is null then coalesce(found.since, alerts.since) else least(alerts.since, found.since) end,
      last_seen_at = note_alerts.as_of,
      count        = found.count,
      sample_ids   = coalesce(found.sample_ids, '{}'),
      help         = found.help,
      request      = found.request,
      opened_at    = coalesce(
        alerts.opened_at,
        case when note_alerts.as_of - coalesce(found.since, alerts.since) >= coalesce(found.lasting, '0') then note_alerts.as_of end
      )
    from found
    where alerts.key = found.key
      and alerts.resolved_at is null
    returning alerts.key
  )
  insert into outbox.alerts (
    kind, key, severity, summary, since, last_seen_at, count, sample_ids, help, request, opened_at, returns
  )
  select
    found.kind, found.key, found.severity, found.summary, coalesce(found.since, note_alerts.as_of), note_alerts.as_of, found.count,
    coalesce(found.sample_ids, '{}'), found.help, found.request,
    case when note_alerts.as_of - coalesce(found.since, note_alerts.as_of) >= coalesce(found.lasting, '0') then note_alerts.as_of end,
    coalesce(
      (
        select past.returns + 1
        from outbox.alerts as past
        where past.key = found.key
          and past.resolved_at > note_alerts.as_of - interval '2 hours'
        order by past.resolved_at desc
        limit 1
      ),
      0
    )
  from found
  where found.key not in (select known.key from known);

  -- It passed before it had lasted: nobody was told. One look may miss it: a gateway that asks for patience again and again is
  -- sent to in between.
  delete from outbox.alerts
  where alerts.opened_at is null
    and alerts.last_seen_at <= note_alerts.as_of - interval '2 minutes'
    and alerts.kind <> all (note_alerts.unseen);

  update outbox.alerts
  set resolved_at = note_alerts.as_of
  where alerts.resolved_at is null
    and alerts.kind <> all (note_alerts.unseen)
    -- What comes and goes stays one alert: each time that it came back after its end, it has to be gone for twice as long.
    and alerts.last_seen_at <= note_alerts.as_of - greatest(
      note_alerts.recover_after,
      least(note_alerts.recover_after * (1 << least(alerts.returns, 10)), interval '1 hour')
    )
    and alerts.last_seen_at <> note_alerts.as_of;

  select jsonb_agg(
    jsonb_build_object(
      'event', news.event,
      'id', alerts.id,
      'kind', alerts.kind,
      'key', alerts.key,
      'severity', alerts.severity,
      'summary', alerts.summary,
      'since', outbox.utc(alerts.since),
      'lasted', outbox.in_words(alerts.last_seen_at - alerts.since),
      'count', alerts.count,
      'sample_ids', to_jsonb(alerts.sample_ids),
      'help', alerts.help,
      'request', alerts.request,
      'returns', alerts.returns
    )
    order by news.event = 'recovered', alerts.severity, alerts.since, alerts.id
  )
  into told
  from outbox.alerts
  cross join lateral (
    select
      case when heard then alerts.notified_at else alerts.logged_at end,
      case when heard then alerts.notified_severity else alerts.logged_severity end
  ) as last_told (at, severity)
  cross join lateral (
    select case
      when alerts.opened_at is null then null
      when alerts.resolved_at is not null then
        case when alerts.resolved_at > greatest(last_told.at, note_alerts.as_of - note_alerts.repeat_after) and last_told.at is not null then 'recovered' end
      when alerts.last_seen_at <> note_alerts.as_of then null
      when last_told.at is null then 'opened'
      when alerts.severity < last_told.severity then 'escalated'
      when last_told.at <= note_alerts.as_of - note_alerts.repeat_after then 'repeated'
    end as event
  ) as news
  where news.event is not null;

  delete from outbox.alerts where alerts.resolved_at <= note_alerts.as_of - interval '30 days';

  if told is null then
    return null;
  end if;

  update outbox.alerts
  set
    logged_at         = note_alerts.as_of,
    logged_severity   = alerts.severity,
    notified_at       = case when heard then note_alerts.as_of else alerts.notified_at end,
    notified_severity = case when heard then alerts.severity else alerts.notified_severity end,
    notices           = alerts.notices + heard::int
  where alerts.id in (select (one ->> 'id')::bigint from jsonb_array_elements(told) as one);

  told := jsonb_build_object(
    'id', gen_random_uuid(),
    'at', outbox.utc(note_alerts.as_of),
    'installation', (select scheduler.installation from outbox.scheduler),
    'alerts', told
  );
  perform outbox.queue_notice(told, channel) from unnest(note_alerts.channels) as channel;
  return told;
end
$$;

comment on function outbox.note_alerts(jsonb, text[], text[], interval, interval, timestamptz) is
  'Takes note of what was found: findings are rows of find_alerts() as JSON, and others of the same form; unseen are kinds that this caller cannot look for, whose alerts stay as they are. What has lasted (a look that missed it aside) is opened; what has not been found for recover_after is resolved (for twice as long each time that it came back within 2 hours, at most 1 hour, so that what comes and goes is no storm of notices). What is new, has become critical, was told repeat_after ago, or is over, is one notice: a job of Graphile Worker for each of channels (slack, email), in the same transaction. What is over is kept for 30 days. A caller without channels is told for its log alone, and what it was told is still news to the next one with channels. Two at a time take turns, so that each thing is told once. Returns the notice; null: nothing is to be told.';
--! EndIncluded functions/note_alerts.sql
--! Included views/open_alerts.sql
create or replace view outbox.open_alerts as
with open as (
  select alerts.*
  from outbox.alerts
  where alerts.resolved_at is null
    and alerts.opened_at is not null
)
select
  open.severity,
  open.kind,
  open.summary,
  open.since,
  date_trunc('seconds', open.last_seen_at - open.since) as lasting,
  open.last_seen_at,
  open.count,
  open.sample_ids,
  open.help,
  open.notified_at,
  open.notices,
  open.key
from open
order by open.severity, open.since;

comment on view outbox.open_alerts is
  'What is wrong now, the critical first, as it was told by Slack and e-mail; outbox.alerts also has what is over. It is looked after each minute, see last_seen_at: an alert that was not found then is about to be over.';
comment on column outbox.open_alerts.severity is 'critical or warning.';
comment on column outbox.open_alerts.kind is 'What sort of thing; see outbox.alerts.';
comment on column outbox.open_alerts.summary is 'What.';
comment on column outbox.open_alerts.since is 'Since when.';
comment on column outbox.open_alerts.lasting is 'For how long, up to when it was found last.';
comment on column outbox.open_alerts.last_seen_at is 'When it was found last.';
comment on column outbox.open_alerts.count is 'How many messages; null: it is not about messages.';
comment on column outbox.open_alerts.sample_ids is 'Some of them.';
comment on column outbox.open_alerts.help is 'What helps.';
comment on column outbox.open_alerts.notified_at is 'When it was told last by Slack or e-mail; null: never.';
comment on column outbox.open_alerts.notices is 'How often it was told so.';
comment on column outbox.open_alerts.key is 'Which one; an alert that comes again has the same.';
--! EndIncluded views/open_alerts.sql

drop function outbox.unlock_jobs(timestamptz);
--! Included functions/unlock_jobs.sql
create or replace function outbox.unlock_jobs(
  as_of      timestamptz default clock_timestamp(),
  dead_after interval    default '30 seconds'
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
      and not exists (
        select
        from outbox.relayers
        where relayers.worker = jobs.locked_by
          and (
            outbox.relayer_is_alive(relayers.id, relayers.heartbeat_at, unlock_jobs.dead_after, unlock_jobs.as_of)
            -- One that has lost its connection will soon be back under another number, and has not let go of its jobs.
            or relayers.heartbeat_at > unlock_jobs.as_of - interval '5 seconds'
          )
      )
      and not exists (
        select
        from outbox.watchers
        where watchers.worker = jobs.locked_by
          and watchers.heartbeat_at > unlock_jobs.as_of - unlock_jobs.dead_after
      )
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

comment on function outbox.unlock_jobs(timestamptz, interval) is
  'Frees the jobs of Graphile Workers that no living relayer or watcher has (heard of within dead_after), 5 s after they took them and were last heard of; by itself Graphile Worker would do so after 4 hours. Returns how many workers were gone.';
--! EndIncluded functions/unlock_jobs.sql
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

  perform outbox.unlock_jobs(rescue.as_of, rescue.dead_after);

  gone := array(
    select relayers.id
    from outbox.relayers
    where not outbox.relayer_is_alive(relayers.id, relayers.heartbeat_at, rescue.dead_after, rescue.as_of)
  );
  if cardinality(gone) = 0 then
    return;
  end if;

  -- Waits for a claim of theirs that is under way; after it none can come, and the next statement sees it.
  perform pg_advisory_xact_lock(outbox.lock_key('claims'), number) from unnest(gone) as number;

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
--! Included functions/watch.sql
create or replace function outbox.watch(
  worker     text,
  name       text,
  dead_after interval    default '30 seconds',
  as_of      timestamptz default clock_timestamp()
) returns int
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
begin
  insert into outbox.watchers (worker, name, heartbeat_at)
  values (watch.worker, watch.name, watch.as_of)
  on conflict on constraint watchers_pkey do update set heartbeat_at = excluded.heartbeat_at;
  delete from outbox.watchers where watchers.heartbeat_at < watch.as_of - interval '1 hour';
  return outbox.unlock_jobs(watch.as_of, watch.dead_after);
end
$$;

comment on function outbox.watch(text, text, interval, timestamptz) is
  'Says, every few seconds, that a watcher (npm run watch) is alive, and under which name its Graphile Worker locks jobs; and frees the jobs of those that are gone (not heard of for dead_after), which without a relayer nobody else does. Returns how many of them were gone.';
--! EndIncluded functions/watch.sql

--! Included functions/grant_roles.sql
create or replace function outbox.grant_roles() returns setof text
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  -- What each role may call. Nobody calls the rest, which these functions do as the owner. A name that is wrong raises.
  producer_calls   constant regproc[] := '{outbox.enqueue, outbox.enqueue_batch, outbox.enqueue_once}';
  auditor_calls    constant regproc[] := '{
    outbox.events_horizon, outbox.explain, outbox.find_alerts, outbox.message_timeline, outbox.relayer_is_alive, outbox.sent_horizon, outbox.tally,
    outbox.tally_minute, outbox.tokens}';
  operator_calls   constant regproc[] := '{
    outbox.cancel, outbox.cancel_replay, outbox.edit, outbox.pause, outbox.replay, outbox.replay_where, outbox.resume,
    outbox.toggle}';
  relayer_calls    constant regproc[] := '{
    outbox.claim, outbox.close_minutes, outbox.configure_gateway, outbox.disown, outbox.heartbeat, outbox.lock_message, outbox.maintain, outbox.next_due,
    outbox.note_alerts, outbox.queue_replays, outbox.register_relayer, outbox.release, outbox.replay_slice, outbox.rescue, outbox.settle,
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
select outbox.grant_roles();
