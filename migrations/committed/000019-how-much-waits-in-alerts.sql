--! Previous: sha1:72c1f7e34468ab5941427b900ce50a6175efc6bf
--! Hash: sha1:f760a4b512685d200f94627e6eb3903e127f9e80
--! Message: How much waits in alerts

-- A flood of one reason, or of what a person cancelled, is not read whole, and hides no other reason. What stands still is told with
-- how many messages are due meanwhile, and which. What nobody looks for any more is over after a day. That a
-- channel fails is told by the other.
--! Included functions/count_due.sql
create or replace function outbox.count_due(
  gateway text,
  as_of   timestamptz,
  out how_many bigint,
  out in_words text,
  out oldest   timestamptz,
  out ids      bigint[]
)
language sql volatile
-- As next_due(): along the index, from the oldest on.
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off as $$
  select
    count(*),
    case
      when count(*) = 0 then 'no message'
      when count(*) = 1 then '1 message'
      when count(*) < 1000 then count(*) || ' messages'
      else 'at least 1000 messages'
    end,
    min(waiting.available_at),
    coalesce((array_agg(waiting.id order by waiting.available_at, waiting.id))[1:5], '{}')
  from (
    select messages.id, messages.available_at
    from outbox.gateways
    cross join unnest('{0,1,2}'::smallint[]) as level (priority)
    cross join lateral (
      select its.id, its.available_at
      from outbox.messages as its
      where its.gateway = gateways.name
        and its.priority = level.priority
        and its.claimed_by is null
        and its.available_at <= count_due.as_of
      order by its.available_at, its.id
      limit 1000
    ) as messages
    where gateways.name = coalesce(count_due.gateway, gateways.name)
  ) as waiting;
$$;

comment on function outbox.count_due(text, timestamptz) is
  'Part of find_alerts(): how many messages of the gateway (null: of all) were due by as_of and are not claimed (how_many, and in_words as a sentence has it), since when the oldest of them is, and the ids of the oldest five. It counts to 1000 a gateway and priority.';
--! EndIncluded functions/count_due.sql
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
-- Along the index on reason and died_at, from the newest on, also where the planner takes what is there for little.
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off as $$
  with lately as materialized (
    select dead.id, dead.gateway, reasons.reason, dead.died_at
    -- What a person cancelled was that person's wish.
    from unnest('{rejected,exhausted,expired,unknown_outcome}'::text[]) as reasons (reason)
    cross join lateral (
      select its.id, its.gateway, its.died_at
      from outbox.dead_letters as its
      where its.reason = reasons.reason
        and its.died_at > find_dead_letters.as_of - interval '10 minutes'
        and its.died_at <= find_dead_letters.as_of
      order by its.died_at desc, its.id desc
      -- A flood is told from a trickle without reading all of it, and hides no other reason.
      limit 10000
    ) as dead
  ), of_a_reason as (
    select
      lately.gateway,
      lately.reason,
      count(*) as how_many,
      sum(count(*)) over (partition by lately.reason) >= 10000 as or_more,
      min(lately.died_at) as first_at,
      (array_agg(lately.id order by lately.died_at desc, lately.id desc))[1:5] as ids
    from lately
    group by lately.gateway, lately.reason
  ), of_all as (
    select
      count(*) as how_many,
      (select bool_or(of_a_reason.or_more) from of_a_reason) as or_more,
      min(lately.died_at) as first_at,
      (array_agg(lately.id order by lately.died_at desc, lately.id desc))[1:5] as ids
    from lately
  )
  select
    'new_dead_letters',
    format('new_dead_letters:%s:%s', of_a_reason.gateway, of_a_reason.reason),
    'warning',
    format(
      '%s%s new dead letter%s within 10 minutes at gateway %s: %s',
      case when of_a_reason.or_more then 'at least ' end,
      of_a_reason.how_many,
      case when of_a_reason.how_many > 1 then 's' end,
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
      '%s%s dead letters within 10 minutes, more than %s',
      case when of_all.or_more then 'at least ' end,
      of_all.how_many,
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
  'Part of find_alerts(): messages that ended unsent within 10 minutes, those aside that a person cancelled. new_dead_letters: from so many on of one gateway and reason, a warning for each; dead_letters: more of all together are critical. It counts to 10000 of each reason. lasting: see there.';
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
language sql volatile as $$
  select
    'oldest_due_age',
    format('oldest_due_age:%s', gateways.name),
    case when overdue.oldest <= find_waiting.as_of - 5 * find_waiting.oldest_due_age then 'critical' else 'warning' end,
    format(
      'gateway %s: %s %s been due for more than %s, the oldest for %s',
      gateways.name,
      overdue.in_words,
      case overdue.how_many when 1 then 'has' else 'have' end,
      outbox.in_words(find_waiting.oldest_due_age),
      outbox.in_words(find_waiting.as_of - overdue.oldest)
    ),
    overdue.oldest,
    interval '0',
    overdue.how_many,
    overdue.ids,
    format('select outbox.explain(%s);', overdue.ids[1]),
    format('GET /messages/%s/explanation', overdue.ids[1])
  from outbox.gateways
  cross join lateral outbox.count_due(gateways.name, find_waiting.as_of - find_waiting.oldest_due_age) as overdue
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
    format('the scheduler was stopped by %s: nothing is sent anywhere, with %s due', scheduler.changed_by, due.in_words),
    scheduler.changed_at,
    find_stopped.scheduler_stopped,
    due.how_many,
    due.ids,
    'select outbox.resume();',
    'POST /scheduler/start'
  from outbox.scheduler
  cross join lateral outbox.count_due(null, find_stopped.as_of) as due
  where not scheduler.running
    and find_stopped.scheduler_stopped is not null
  union all
  select
    'gateway_paused',
    format('gateway_paused:%s', gateways.name),
    'warning',
    format('gateway %s was paused%s: nothing is sent to it, with %s due', gateways.name, ' by ' || switched.actor, due.in_words),
    switched.at,
    find_stopped.scheduler_stopped,
    due.how_many,
    due.ids,
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
  cross join lateral outbox.count_due(gateways.name, find_stopped.as_of) as due
  where gateways.paused
    and find_stopped.scheduler_stopped is not null
  union all
  select
    'gateway_held',
    format('gateway_held:%s', gateways.name),
    case gateways.hold_reason when 'throttled' then 'warning' else 'critical' end,
    format(
      'gateway %s %s: nothing but probes is sent to it, with %s due (%s)',
      gateways.name,
      case gateways.hold_reason
        when 'throttled' then 'asks to be left alone'
        when 'hold' then 'is held, for its answer faults the account or the URL'
        else 'fails, and its circuit is open'
      end,
      due.in_words,
      -- Of whichever message it was; outbox.gateway_status has the whole.
      coalesce(outbox.discreet(null, gateways.hold_detail), 'no answer on record')
    ),
    -- Each probe that fails begins a hold anew: what is known of the whole is since when it has been found.
    null,
    find_stopped.gateway_held,
    due.how_many,
    due.ids,
    format(
      'select * from outbox.gateway_status where gateway = %1$L; select outbox.resume(%1$L); ends the hold.',
      gateways.name
    ),
    format('GET /gateways/%s', gateways.name)
  from outbox.gateways
  cross join lateral outbox.count_due(gateways.name, find_stopped.as_of) as due
  where not gateways.paused
    and (gateways.held_until > find_stopped.as_of or gateways.circuit <> 'closed')
    and find_stopped.gateway_held is not null
  union all
  select
    'no_relayer',
    'no_relayer',
    'critical',
    format('no relayer is alive: nothing is sent anywhere, with %s due', due.in_words),
    alive.last_heard_of,
    find_stopped.no_relayer,
    due.how_many,
    due.ids,
    'select * from outbox.relayer_status; and start one: npm start.',
    null
  from (
    select
      count(*) filter (where outbox.relayer_is_alive(relayers.id, relayers.heartbeat_at, as_of => find_stopped.as_of)) as relayers,
      max(relayers.heartbeat_at) filter (where isfinite(relayers.heartbeat_at)) as last_heard_of
    from outbox.relayers
  ) as alive
  cross join lateral outbox.count_due(null, find_stopped.as_of) as due
  where alive.relayers = 0
    and find_stopped.no_relayer is not null;
$$;

comment on function outbox.find_stopped(interval, interval, interval, timestamptz) is
  'Part of find_alerts(): what stands still. scheduler_stopped: for how long the scheduler (critical from four times as long on), or a gateway, may be paused by a person; gateway_held: for how long a gateway may be held or its circuit not closed (a gateway that only asks for patience is a warning); no_relayer: for how long no relayer may be alive. Each of them null: not looked at. With what is due meanwhile. lasting: see there.';
--! EndIncluded functions/find_stopped.sql
--! Included functions/find_unsent_notices.sql
create or replace function outbox.find_unsent_notices(
  as_of timestamptz default clock_timestamp(),
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
language plpgsql volatile as $$
begin
  -- Graphile Worker's schema is made after ours, step by step.
  if to_regclass('outbox_worker.jobs') is null then
    return;
  end if;

  return query
  select
    'notices_unsent',
    format('notices_unsent:%s', unsent.channel),
    'warning',
    format(
      '%s could not be sent by %s for more than 15 min',
      case unsent.how_many when 1 then 'a notice' else unsent.how_many || ' notices' end,
      unsent.channel
    ),
    unsent.oldest,
    interval '0',
    null::bigint,
    '{}'::bigint[],
    'npm run alert:test',
    null::text
  from (
    select
      substr(jobs.task_identifier, length('notify_') + 1) as channel,
      count(*) as how_many,
      min(jobs.created_at) as oldest
    from outbox_worker.jobs
    where jobs.task_identifier like 'notify\_%'
      and jobs.attempts < jobs.max_attempts
      and jobs.created_at <= find_unsent_notices.as_of - interval '15 minutes'
      -- Older ones are no news, and left out by whoever comes to send them.
      and jobs.created_at > find_unsent_notices.as_of - interval '1 day'
    group by channel
  ) as unsent;
end
$$;

comment on function outbox.find_unsent_notices(timestamptz) is
  'Part of find_alerts(): channels (slack, email) by which a notice has not been sent for more than 15 minutes, be it that its attempts fail or that no process has the channel. The other channel tells it. lasting: see there.';
--! EndIncluded functions/find_unsent_notices.sql
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
  select * from outbox.find_full_slots(find_alerts.slot_wal, find_alerts.as_of)
  union all
  select * from outbox.find_unsent_notices(find_alerts.as_of);
$$;

comment on function outbox.find_alerts(int, int, interval, interval, interval, interval, bigint, timestamptz) is
  'What is not as it should be now, for note_alerts(); it changes nothing. The parameters are the settings alerts.*, null for one that is off: new_dead_letters and dead_letters (see find_dead_letters()), oldest_due_age (find_waiting()), gateway_held, scheduler_stopped and no_relayer (find_stopped()), slot_wal in bytes (find_full_slots()). Always looked for: find_unsent_notices(). Each row is one condition by its key. lasting: for how long it has to be so before anybody is told; since null: it is not known since when. Neither numbers nor texts of messages, nor a gateway''s words about one. Every part of it reads a bounded number of rows.';
--! EndIncluded functions/find_alerts.sql
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
    and (alerts.kind <> all (note_alerts.unseen) or alerts.last_seen_at <= note_alerts.as_of - interval '1 day');

  update outbox.alerts
  set resolved_at = note_alerts.as_of
  where alerts.resolved_at is null
    -- Unless nobody looks for it any more: there is no query store any longer, say.
    and (alerts.kind <> all (note_alerts.unseen) or alerts.last_seen_at <= note_alerts.as_of - interval '1 day')
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
  'Takes note of what was found: findings are rows of find_alerts() as JSON, and others of the same form; unseen are kinds that this caller cannot look for, whose alerts stay as they are, for a day. What has lasted (a look that missed it aside) is opened; what has not been found for recover_after is resolved (for twice as long each time that it came back within 2 hours, at most 1 hour, so that what comes and goes is no storm of notices). What is new, has become critical, was told repeat_after ago, or is over, is one notice: a job of Graphile Worker for each of channels (slack, email), in the same transaction. What is over is kept for 30 days. A caller without channels is told for its log alone, and what it was told is still news to the next one with channels. Two at a time take turns, so that each thing is told once. Returns the notice; null: nothing is to be told.';
--! EndIncluded functions/note_alerts.sql

comment on column outbox.alerts.kind is 'What sort of thing: new_dead_letters, dead_letters, oldest_due_age, scheduler_stopped, gateway_paused, gateway_held, no_relayer, slot_wal, query_store_lag, notices_unsent.';

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
select outbox.grant_roles();
