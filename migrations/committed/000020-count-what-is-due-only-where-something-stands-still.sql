--! Previous: sha1:f760a4b512685d200f94627e6eb3903e127f9e80
--! Hash: sha1:a9a7ee48f6cec6f7877a10b0708350b35ae91373
--! Message: Count what is due only where something stands still

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
  -- An outer join, so that nothing is counted where nobody is to be told.
  left join lateral outbox.count_due(null, find_stopped.as_of) as due on true
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
  left join lateral outbox.count_due(null, find_stopped.as_of) as due on true
  where alive.relayers = 0
    and find_stopped.no_relayer is not null;
$$;

comment on function outbox.find_stopped(interval, interval, interval, timestamptz) is
  'Part of find_alerts(): what stands still. scheduler_stopped: for how long the scheduler (critical from four times as long on), or a gateway, may be paused by a person; gateway_held: for how long a gateway may be held or its circuit not closed (a gateway that only asks for patience is a warning); no_relayer: for how long no relayer may be alive. Each of them null: not looked at. With what is due meanwhile. lasting: see there.';
--! EndIncluded functions/find_stopped.sql
