--! Previous: sha1:b17150c62ea1e11a406a327e1a4cc36449a91274
--! Hash: sha1:d9355a206357828e96d276392a6cdf3d5d40da0c
--! Message: Explain

-- ----------------------------------------------------------------- audit

create index audit_target on outbox.audit (target, at) where target is not null;
comment on index outbox.audit_target is 'What was done to a message or a gateway, in order.';
create index audit_switches on outbox.audit (coalesce(target, ''), at) where action in ('pause', 'resume') and affected > 0;
comment on index outbox.audit_switches is 'When everything (an empty word) or a gateway was paused and resumed.';

-- ------------------------------------------------------------- functions

--! Included functions/utc.sql
create or replace function outbox.utc(
  at timestamptz
) returns text
language sql stable as $$
  select coalesce(to_char(utc.at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC', utc.at::text);
$$;

comment on function outbox.utc(timestamptz) is
  'A time (at) as a sentence has it: 2030-06-01 12:00:00 UTC, whatever the session''s time zone is.';
--! EndIncluded functions/utc.sql
--! Included functions/in_words.sql
create or replace function outbox.in_words(
  length interval
) returns text
language sql immutable as $$
  select case
    when s < 1 then round(s * 1000) || ' ms'
    when s < 60 then trim_scale(trunc(s, 1)) || ' s'
    when s < 3600 then concat_ws(' ', div(s, 60) || ' min', nullif(trunc(mod(s, 60)), 0) || ' s')
    when s < 86400 then concat_ws(' ', div(s, 3600) || ' h', nullif(div(mod(s, 3600), 60), 0) || ' min')
    else concat_ws(' ', div(s, 86400) || ' d', nullif(div(mod(s, 86400), 3600), 0) || ' h')
  end
  from (select greatest(extract(epoch from in_words.length), 0)) as seconds (s);
$$;

comment on function outbox.in_words(interval) is
  'A length of time as a sentence has it: 120 ms, 3.2 s, 2 min 5 s, 3 h, 4 d 7 h. Below zero is zero.';
--! EndIncluded functions/in_words.sql
--! Included functions/discreet.sql
create or replace function outbox.discreet(
  it    outbox.all_messages,
  error text
) returns text
language sql stable as $$
  select case
    when coalesce(answer.quotes, true) then regexp_replace(discreet.error, '(HTTP \d+)[: ].*', '\1')
    else discreet.error
  end
  from (
    -- By digits and letters alone: a gateway may write a number with spaces, or half a text.
    select
      regexp_replace(discreet.error, '\D', '', 'g') as digits,
      lower(regexp_replace(discreet.error, '\W', '', 'g')) as letters,
      lower(it.content) as content
  ) as plain
  cross join lateral (
    select
      position(right(it.recipient, 7) in plain.digits) > 0
      or position(left(regexp_replace(plain.content, '\W', '', 'g'), 12) in plain.letters) > 0
      or exists (
        select
        from regexp_matches(plain.content, '\w{4,}', 'g') as word
        where position(left(word[1], 6) in plain.letters) > 0
      )
      or discreet.error ~ '\+[1-9]\d{6}'
      -- Nobody knows what letters these are.
      or discreet.error ~ '\\u[[:xdigit:]]{4}'
      -- What they were before is not on record.
      or exists (
        select
        from outbox.audit
        where audit.target = it.id::text
          and audit.details -> 'changed' ?| '{recipient,content}'
      )
  ) as answer (quotes);
$$;

comment on function outbox.discreet(outbox.all_messages, text) is
  'What an attempt showed (error), for those who may not read the message (it): where the gateway''s answer may quote its recipient or a word of its content, as they are or were, or the message is not known here (null), only the HTTP status of it is left.';
--! EndIncluded functions/discreet.sql
--! Included functions/lingering_session.sql
create or replace function outbox.lingering_session(
  pid   int,
  as_of timestamptz default clock_timestamp()
) returns text
language sql stable as $$
  select format(
    'session %s%s',
    lingering_session.pid,
    ' (' || nullif(
      concat_ws(
        ', ', activity.usename, nullif(activity.application_name, ''),
        'in a transaction since ' || outbox.utc(activity.xact_start)
      ),
      ''
    ) || ')'
  )
  from (select) as asked
  left join pg_catalog.pg_stat_activity as activity on activity.pid = lingering_session.pid
  -- Unknown where the caller may not see it.
  where activity.xact_start <= lingering_session.as_of - interval '1 second' is not false;
$$;

comment on function outbox.lingering_session(int, timestamptz) is
  'A session of Postgres, by its process id (pid), for a person: its user, application and since when its transaction is open, as far as the owner of this function may see that. Null if that is less than a second: claims and settles come and go.';
--! EndIncluded functions/lingering_session.sql
--! Included functions/queue_ahead.sql
create or replace function outbox.queue_ahead(
  it    outbox.all_messages,
  as_of timestamptz default clock_timestamp()
) returns int
language sql stable
-- Along the index, whatever the statistics say, and no further than a person cares.
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off as $$
  select count(*)::int
  from (
    select
    from outbox.messages
    where messages.gateway = it.gateway
      and messages.priority = it.priority
      and messages.claimed_by is null
      and messages.available_at <= queue_ahead.as_of
      and (messages.available_at, messages.id) < (it.available_at, it.id)
    limit 10001
  ) as before_it;
$$;

comment on function outbox.queue_ahead(outbox.all_messages, timestamptz) is
  'How many due messages of the same gateway and priority stand before a message (it) in the order of claims; 10001: more than 10,000.';
--! EndIncluded functions/queue_ahead.sql
--! Included functions/gateway_obstacles.sql
create or replace function outbox.gateway_obstacles(
  gateway    text,
  as_of      timestamptz default clock_timestamp(),
  out rank   int,
  out reason text
) returns setof record
language sql stable as $$
  with its as materialized (
    select gateways.*
    from outbox.gateways
    where gateways.name = gateway_obstacles.gateway
  ), alive as materialized (
    select
      count(*) filter (where outbox.relayer_is_alive(relayers.id, relayers.heartbeat_at, as_of => gateway_obstacles.as_of)) as relayers,
      max(relayers.heartbeat_at) filter (where isfinite(relayers.heartbeat_at)) as last_heard_of
    from outbox.relayers
  )
  select 1, format(
    'there is no gateway %1$s any more. insert into outbox.gateways (name, url) values (%1$L, ''https://…''); brings it back.',
    gateway_obstacles.gateway
  )
  where not exists (select from its)
  union all
  select 2, format(
    'the scheduler was stopped by %s at %s. select outbox.resume(); starts it.',
    scheduler.changed_by, outbox.utc(scheduler.changed_at)
  )
  from outbox.scheduler
  where not scheduler.running
  union all
  -- What pause() and resume() hold until they commit, and every claim needs.
  select 3, format(
    '%s has not committed its pause or resume, and until it does nothing is claimed anywhere. select pg_terminate_backend(%s); ends it.',
    session.shown, pg_locks.pid
  )
  from pg_catalog.pg_locks
  cross join lateral outbox.lingering_session(pg_locks.pid, gateway_obstacles.as_of) as session (shown)
  where pg_locks.locktype = 'advisory'
    and pg_locks.database = (select pg_database.oid from pg_catalog.pg_database where pg_database.datname = current_database())
    and pg_locks.objsubid = 1
    and (pg_locks.classid::bigint << 32) | pg_locks.objid::bigint = outbox.lock_key('claim')
    and pg_locks.mode = 'ExclusiveLock'
    and pg_locks.granted
    and session.shown is not null
  union all
  select 4, format(
    'gateway %s %s. select outbox.resume(%L); starts it.',
    its.name,
    coalesce(
      (
        select format('was paused by %s at %s', audit.actor, outbox.utc(audit.at))
        from outbox.audit
        where audit.target = its.name
          and audit.action = 'pause'
          and audit.affected > 0
        order by audit.at desc
        limit 1
      ),
      'is paused, and there is no record of by whom'
    ),
    its.name
  )
  from its
  where its.paused
  union all
  select case its.name when 'default' then 10 else 5 end, format(
    'gateway %1$s has no url%2$s. update outbox.gateways set url = ''https://…'' where name = %1$L; gives it one.',
    its.name,
    case its.name when 'default' then ': only a relayer outside production sends its messages, to a demo gateway of its own' end
  )
  from its
  where its.url is null
  union all
  select 6, format(
    'no relayer is alive%s. Start one.',
    coalesce('; one was last heard of at ' || outbox.utc(alive.last_heard_of), '')
  )
  from alive
  where alive.relayers = 0
  union all
  select 7, case
    when its.held_until > gateway_obstacles.as_of then
      case
        when its.circuit = 'half_open' then format(
          'gateway %s failed (%s), and is being probed with %s since %s. If half of them pass, everything goes on',
          its.name, why.shown, why.probes, outbox.utc(its.circuit_changed_at)
        )
        when its.hold_reason = 'throttled' then format(
          'gateway %s asked (%s) to be left alone until %s, for another %s',
          its.name, why.shown, why.until, why.wait
        )
        when its.hold_reason = 'hold' then format(
          'gateway %s is held until %s, for another %s: its answer (%s) faults the account or the URL. Then it is probed',
          its.name, why.until, why.wait, why.shown
        )
        else format(
          'gateway %s fails (%s), so its circuit is open until %s, for another %s. Then it is probed',
          its.name, why.shown, why.until, why.wait
        )
      end || format('. select outbox.resume(%L); ends that at once.', its.name)
    else format(
      'gateway %s failed (%s), and is due to be probed: the next claim takes at most %s. If half of them pass, everything goes on.',
      its.name, why.shown, why.probes_due
    )
  end
  from its
  cross join lateral (
    select
      -- Of whichever message it was; outbox.gateway_status has the whole.
      coalesce(outbox.discreet(null, its.hold_detail), 'no answer on record') as shown,
      outbox.utc(its.held_until) as until,
      outbox.in_words(its.held_until - gateway_obstacles.as_of) as wait,
      case its.probes when 1 then '1 message' else its.probes || ' messages' end as probes,
      case its.circuit_probes when 1 then '1 message' else its.circuit_probes || ' messages' end as probes_due
  ) as why
  where its.held_until > gateway_obstacles.as_of
     or its.circuit <> 'closed'
  union all
  select 11, format(
    '%s has the row of gateway %s locked, and while it does nothing is claimed for one that has a rate or is to be probed. select pg_terminate_backend(%s); ends it.',
    session.shown, its.name, pg_locks.pid
  )
  from its
  join outbox.gateways on gateways.name = its.name
  join pg_catalog.pg_locks
    on pg_locks.locktype = 'transactionid'
    and pg_locks.transactionid = gateways.xmax
    and pg_locks.mode = 'ExclusiveLock'
    and pg_locks.granted
  cross join lateral outbox.lingering_session(pg_locks.pid, gateway_obstacles.as_of) as session (shown)
  where session.shown is not null
    and (its.rate_per_second is not null or its.circuit <> 'closed');
$$;

comment on function outbox.gateway_obstacles(text, timestamptz) is
  'Part of explain(): what keeps every message of a gateway from being claimed at as_of. rank: the most decisive first; reason: for a person, with what ends it. Empty: nothing.';
--! EndIncluded functions/gateway_obstacles.sql
--! Included functions/message_obstacles.sql
create or replace function outbox.message_obstacles(
  it         outbox.all_messages,
  as_of      timestamptz default clock_timestamp(),
  out rank   int,
  out reason text
) returns setof record
language sql stable as $$
  with locker as (
    select pg_locks.pid
    from outbox.messages
    join pg_catalog.pg_locks
      on pg_locks.locktype = 'transactionid'
      -- Who has locked the row, or is changing it; or, only seen by the same session, has just inserted it.
      and pg_locks.transactionid in (messages.xmin, messages.xmax)
      and pg_locks.mode = 'ExclusiveLock'
      and pg_locks.granted
    where messages.id = it.id
    limit 1
  )
  select 0, 'what this session did to it is not committed.'
  from locker
  where locker.pid = pg_backend_pid()
  union all
  select 8, format(
    '%s has its row locked, and until that ends it is neither claimed nor settled. select pg_terminate_backend(%s); ends it.',
    session.shown, locker.pid
  )
  from locker
  cross join lateral outbox.lingering_session(locker.pid, message_obstacles.as_of) as session (shown)
  where locker.pid <> pg_backend_pid()
    and session.shown is not null
  union all
  select 9, format(
    case
      when it.attempts = 0 and it.last_error is null then 'it is scheduled for %s, in %s. select outbox.edit(%s, available_at => now()); makes it due.'
      else 'its next attempt is due at %s, in %s. select outbox.edit(%s, available_at => now()); makes it due.'
    end,
    outbox.utc(it.available_at), outbox.in_words(it.available_at - message_obstacles.as_of), it.id
  )
  where it.available_at > message_obstacles.as_of
  union all
  select 12, case
    when gateways.rate_per_second is null then format('%s before it.', queue.shown)
    when queue.ahead = 0 then format(
      'gateway %s takes %s a second (rate_per_second), and the next is allowed in %s.',
      gateways.name, gateways.rate_per_second, queue.wait
    )
    else format(
      '%s before it, and the gateway takes %s a second (rate_per_second): its turn comes in %s %s.',
      queue.shown, gateways.rate_per_second, case when queue.ahead > 10000 then 'more than' else 'about' end, queue.wait
    )
  end
  from outbox.gateways
  cross join lateral (
    select
      ahead.count as ahead,
      format(
        '%s of gateway %s and priority %s %s',
        case
          when ahead.count = 1 then '1 due message'
          when ahead.count <= 10000 then to_char(ahead.count, 'FM99,999') || ' due messages'
          else 'more than 10,000 due messages'
        end,
        it.gateway, it.priority, case ahead.count when 1 then 'stands' else 'stand' end
      ) as shown,
      outbox.in_words(make_interval(secs => needed.tokens / gateways.rate_per_second)) as wait,
      needed.tokens
    from outbox.queue_ahead(it, message_obstacles.as_of) as ahead (count)
    cross join lateral (
      select ahead.count + 1 - outbox.tokens(gateways, message_obstacles.as_of) as tokens
    ) as needed
  ) as queue
  where gateways.name = it.gateway
    and it.available_at <= message_obstacles.as_of
    -- As a claim counts them.
    and (queue.tokens > 0.000001 or gateways.rate_per_second is null and queue.ahead > 0);
$$;

comment on function outbox.message_obstacles(outbox.all_messages, timestamptz) is
  'Part of explain(): what keeps one message that waits (it) from being claimed at as_of, beside what keeps all of its gateway''s. rank and reason as in gateway_obstacles().';
--! EndIncluded functions/message_obstacles.sql
--! Included functions/replays_of.sql
create or replace function outbox.replays_of(
  it         outbox.all_messages,
  out replay bigint,
  out part   text
) returns setof record
language sql stable as $$
  with asked as materialized (
    select replays.*
    from outbox.replays
    where replays.created_at > it.created_at
      and (replays.gateway is null or replays.gateway = it.gateway)
    order by replays.id desc
    limit 100
  ), tried as materialized (
    select
      latest.*,
      lead(latest.attempt) over (order by latest.ended_at) as next_attempt
    from (
      select attempts.*
      from outbox.attempts
      where attempts.message_id = it.id
      order by attempts.ended_at desc
      limit 1000
    ) as latest
  ), ended as (
    -- What it ended by before it came back: a rejection, a withdrawal, or an attempt after which the count began anew.
    -- (An attempt that is given back has its number again; only a fresh budget has a lower one.)
    select
      tried.ended_at as at,
      tried.error,
      case tried.outcome when 'rejected' then '{rejected}' else '{exhausted,unknown_outcome}' end::text[] as reasons
    from tried
    where tried.outcome <> 'accepted'
      and (
        tried.outcome = 'rejected'
        or coalesce(tried.next_attempt, it.attempts + (it.status = 'pending')::int) < tried.attempt
      )
    union all
    select audit.at, null, '{cancelled}'
    from outbox.audit
    where audit.target = it.id::text
      and audit.action = 'cancel'
  ), back as (
    select
      ended.*,
      least(
        (select min(tried.ended_at) from tried where tried.ended_at > ended.at),
        (select min(audit.at) from outbox.audit where audit.target = it.id::text and audit.action = 'replay' and audit.at > ended.at),
        it.sent_at
      ) as seen_at
    from ended
    where it.died_at is null
       or it.died_at > ended.at
  )
  select asked.id, 'took'
  from back
  join asked
    on asked.created_at > back.at
    and asked.created_at < coalesce(back.seen_at, 'infinity')
    and asked.until > back.at
    and (asked.since is null or asked.since <= back.at)
    and (asked.reason is null or asked.reason = any (back.reasons))
    and (asked.error_like is null or back.error ilike asked.error_like)
    and asked.replayed > 0
    -- An action is on record a moment after what it did.
    and asked.reached_at > back.at - interval '1 second'
  where not exists (
    select
    from outbox.audit
    where audit.target = it.id::text
      and audit.action = 'replay'
      and audit.at = back.seen_at
  )
  union
  -- One that expired leaves no other trace than the end it was given.
  select asked.id, 'took'
  from asked
  where coalesce(asked.reason, 'expired') = 'expired'
    and asked.replayed > 0
    and isfinite(asked.expires_at)
    and it.expires_at = asked.expires_at
    and it.available_at >= asked.until
  union all
  select
    asked.id,
    case
      when (it.died_at, it.id) <= (asked.reached_at, asked.reached_id) then 'passed'
      when asked.status = 'running' then 'will take'
      else 'missed'
    end
  from asked
  where it.died_at < asked.until
    and (asked.since is null or asked.since <= it.died_at)
    and (asked.reason is null or asked.reason::text = it.reason)
    and (asked.error_like is null or it.error ilike asked.error_like);
$$;

comment on function outbox.replays_of(outbox.all_messages) is
  'Part of explain(): the replays of many (replay: its number), among the last 100, that had to do with a message (it). part: took, which brought it back, as far as can be inferred, for they record no ids. Of a dead letter: passed (looked at it and left it), will take (in its turn, if nothing keeps it), missed (ended before its turn).';
--! EndIncluded functions/replays_of.sql
--! Included functions/explain_replay.sql
create or replace function outbox.explain_replay(
  it outbox.all_messages
) returns text
language sql stable as $$
  select format(
    'It had ended before, and is back by %s at %s, with a fresh budget of attempts.',
    back.shown, outbox.utc(back.at)
  )
  from (
    select audit.at, format('a replay of %s', audit.actor) as shown
    from outbox.audit
    where audit.target = it.id::text
      and audit.action = 'replay'
    union all
    select replays.created_at, format('replay %s of %s%s', replays.id, replays.actor, case replays.status when 'running' then ' (still running)' end)
    from outbox.replays_of(it) as its
    join outbox.replays on replays.id = its.replay
    where its.part = 'took'
  ) as back
  order by back.at desc
  limit 1;
$$;

comment on function outbox.explain_replay(outbox.all_messages) is
  'Part of explain(): what last brought a message (it) back from dead_letters or sent; null: nothing that is on record.';
--! EndIncluded functions/explain_replay.sql
--! Included functions/explain_waiting.sql
create or replace function outbox.explain_waiting(
  it    outbox.all_messages,
  as_of timestamptz default clock_timestamp()
) returns setof text
language sql stable as $$
  with obstacle as materialized (
    select its.rank, its.reason
    from outbox.gateway_obstacles(it.gateway, explain_waiting.as_of) as its
    union all
    select its.rank, its.reason
    from outbox.message_obstacles(it, explain_waiting.as_of) as its
    union all
    select -1, format(
      'it expired at %s, and the next claim of its gateway or outbox.maintain() makes it a dead letter. select outbox.edit(%s, expires_at => now() + interval ''1 hour''); gives it a new end.',
      outbox.utc(it.expires_at), it.id
    )
    where it.expires_at <= explain_waiting.as_of
  ), ordered as (
    select obstacle.*, row_number() over (order by obstacle.rank) as nth
    from obstacle
  ), line as (
    select 1 as part, ordered.nth, case
      when ordered.nth > 1 then 'Also: '
      when ordered.rank = -1 then format('Message %s will not be sent: ', it.id)
      else format('Message %s waits: ', it.id)
    end || ordered.reason as shown
    from ordered
    union all
    select 2, 1, format(
      'Message %s is due since %s, and nothing is in its way: it goes at any moment. %s.',
      it.id, outbox.utc(it.available_at),
      (
        select case count(*) when 1 then '1 relayer is alive' else count(*) || ' relayers are alive' end
        from outbox.relayers
        where outbox.relayer_is_alive(relayers.id, relayers.heartbeat_at, as_of => explain_waiting.as_of)
      )
    )
    where not exists (select from obstacle)
    union all
    select 3, 1, format(
      'Attempts used: %s of %s; the last one showed: %s',
      it.attempts, gateways.max_attempts, outbox.discreet(it, it.last_error)
    )
    from outbox.gateways
    where gateways.name = it.gateway
      and it.last_error is not null
    union all
    select 4, 1, format(
      'It expires at %s, in %s%s.',
      outbox.utc(it.expires_at), outbox.in_words(it.expires_at - explain_waiting.as_of),
      case
        when it.expires_at <= it.available_at then ', which is before it is due: it will not be sent unless one of the two is changed (outbox.edit)'
        when it.expires_at <= gateways.held_until then ', which is before its gateway is claimed for again'
      end
    )
    from (select) as it_does
    left join outbox.gateways on gateways.name = it.gateway
    where it.expires_at > explain_waiting.as_of
    union all
    select 5, 1, outbox.explain_replay(it)
    union all
    select 6, 1, format(
      'Relayers with relay.mode ''scheduled'' send at the ticks of their crontab only; the last one was at %s.',
      outbox.utc(scheduler.last_tick)
    )
    from outbox.scheduler
    where isfinite(scheduler.last_tick)
  )
  select line.shown
  from line
  where line.shown is not null
  order by line.part, line.nth;
$$;

comment on function outbox.explain_waiting(outbox.all_messages, timestamptz) is
  'Part of explain(): a message that waits (it). Every reason at as_of, the most decisive first, then what else is of use.';
--! EndIncluded functions/explain_waiting.sql
--! Included functions/explain_sending.sql
create or replace function outbox.explain_sending(
  it    outbox.all_messages,
  as_of timestamptz default clock_timestamp()
) returns setof text
language sql stable as $$
  with claimer as materialized (
    select
      relayers.id,
      format('relayer %s%s', it.claimed_by, ' (' || relayers.name || ')') as shown,
      outbox.relayer_is_alive(relayers.id, relayers.heartbeat_at, as_of => explain_sending.as_of) as alive,
      relayers.heartbeat_at,
      explain_sending.as_of - it.claimed_at as for_long
    from (select) as asked
    left join outbox.relayers on relayers.id = it.claimed_by
  ), line as (
    select 1 as nth, format(
      'Message %s is being sent: %s, which is alive, claimed it at %s, %s ago, for attempt %s of %s.',
      it.id, claimer.shown, outbox.utc(it.claimed_at), outbox.in_words(claimer.for_long), it.attempts, gateways.max_attempts
    ) as shown
    from claimer
    left join outbox.gateways on gateways.name = it.gateway
    where claimer.alive
    union all
    select 2, format(
      'That is longer than its gateway''s timeout of %s: it waits at the relayer for a free connection, or its result cannot be recorded; the log of the relayer says more.',
      outbox.in_words(gateways.timeout)
    )
    from claimer
    join outbox.gateways on gateways.name = it.gateway
    where claimer.alive
      and claimer.for_long > gateways.timeout + interval '1 second'
    union all
    select 3, format(
      'Message %s was being sent: %s claimed it at %s for attempt %s, and is gone%s. Nobody knows whether that attempt arrived. %s',
      it.id, claimer.shown, outbox.utc(it.claimed_at), it.attempts,
      case when isfinite(claimer.heartbeat_at) then format(' (last heard of at %s)', outbox.utc(claimer.heartbeat_at)) end,
      case
        when claimer.id is null then format('It is not registered, so no rescue will free it: select outbox.release(%s, array[%s]); gives it back.', it.claimed_by, it.id)
        else format(
          '%s, and then %s.',
          case
            when exists (
              select
              from outbox.relayers
              where outbox.relayer_is_alive(relayers.id, relayers.heartbeat_at, as_of => explain_sending.as_of)
            ) then 'Another relayer frees it within seconds'
            else 'No relayer is alive to free it: start one'
          end,
          case
            when gateways.on_unknown = 'park' then 'it is parked as a dead letter (unknown_outcome), as its gateway''s on_unknown says'
            when it.attempts >= gateways.max_attempts and gateways.circuit = 'closed' then 'it is a dead letter (exhausted), for that was its last attempt'
            else 'it is tried again'
          end
        )
      end
    )
    from claimer
    left join outbox.gateways on gateways.name = it.gateway
    where claimer.alive is not true
    union all
    select 4, 'Also: ' || its.reason
    from outbox.message_obstacles(it, explain_sending.as_of) as its
    where its.rank in (0, 8)
    union all
    select 5, format('The last attempt before it showed: %s', outbox.discreet(it, it.last_error))
    where it.last_error is not null
    union all
    select 6, format(
      case when it.expires_at > explain_sending.as_of then 'It expires at %s: it is not sent after that.' else 'It expired at %s: it is not sent unless it has left already.' end,
      outbox.utc(it.expires_at)
    )
    where it.expires_at is not null
    union all
    select 7, outbox.explain_replay(it)
  )
  select line.shown
  from line
  where line.shown is not null
  order by line.nth;
$$;

comment on function outbox.explain_sending(outbox.all_messages, timestamptz) is
  'Part of explain(): a message that is claimed (it). By whom, since when, whether that relayer is alive at as_of, and what follows if not.';
--! EndIncluded functions/explain_sending.sql
--! Included functions/explain_sent.sql
create or replace function outbox.explain_sent(
  it outbox.all_messages
) returns setof text
language sql stable as $$
  select line.shown
  from (
    select 1 as nth, format(
      'Message %s was sent: gateway %s accepted it at %s as %s, in attempt %s by relayer %s, %s after it was inserted.',
      it.id, it.gateway, outbox.utc(it.sent_at), it.gateway_message_id, it.attempts, it.claimed_by,
      outbox.in_words(it.sent_at - it.created_at)
    ) as shown
    union all
    select 2, outbox.explain_replay(it)
  ) as line
  where line.shown is not null
  order by line.nth;
$$;

comment on function outbox.explain_sent(outbox.all_messages) is
  'Part of explain(): a message that was sent (it). When, by whom, as what, and how long it took.';
--! EndIncluded functions/explain_sent.sql
--! Included functions/explain_dead.sql
create or replace function outbox.explain_dead(
  it    outbox.all_messages,
  as_of timestamptz default clock_timestamp()
) returns setof text
language sql stable as $$
  with obstacle as (
    -- The message as a replay sees it.
    select
      it.reason = 'unknown_outcome' as needs_force,
      coalesce(it.expires_at <= explain_dead.as_of, false) as needs_expires_at,
      not exists (select from outbox.gateways where gateways.name = it.gateway) as without_gateway,
      (
        select dedupe_keys.message_id
        from outbox.dedupe_keys
        where dedupe_keys.dedupe_key = it.dedupe_key
          and dedupe_keys.message_id <> it.id
          and dedupe_keys.expires_at > explain_dead.as_of
      ) as key_owner
  ), help as (
    select obstacle.*, format(
      'select outbox.replay(%s%s%s);',
      it.id,
      case when obstacle.needs_force then ', force => true' end,
      case when obstacle.needs_expires_at then ', expires_at => now() + interval ''1 hour''' end
    ) as replay
    from obstacle
  ), line as (
    select 1 as nth, 0::bigint as then_by, case it.reason
      when 'rejected' then format(
        'Message %s was not sent: gateway %s rejected it at %s, in attempt %s (%s). %s tries it again; with recipient => ''…'' or content => ''…'' changed.',
        it.id, it.gateway, outbox.utc(it.died_at), it.attempts, why.shown, help.replay
      )
      when 'exhausted' then format(
        'Message %s was not sent: all of its attempts (%s) failed; the last one, at %s, showed: %s. %s tries again with a fresh budget.',
        it.id, it.attempts, outbox.utc(it.died_at), why.shown, help.replay
      )
      when 'expired' then format(
        'Message %s was not sent: it expired at %s, %s. %s gives it a new end (''infinity'': none) and sends it.',
        it.id, outbox.utc(it.expires_at),
        case it.attempts
          when 0 then 'before any attempt'
          when 1 then 'after 1 attempt that failed (' || why.shown || ')'
          else 'after ' || it.attempts || ' attempts that failed, the last one with ' || why.shown
        end,
        help.replay
      )
      when 'cancelled' then format(
        'Message %s was not sent: %s cancelled it at %s. %s sends it all the same.',
        it.id,
        coalesce(
          (
            select audit.actor
            from outbox.audit
            where audit.target = it.id::text
              and audit.action = 'cancel'
            order by audit.at desc
            limit 1
          ),
          'somebody'
        ),
        outbox.utc(it.died_at), help.replay
      )
      when 'unknown_outcome' then format(
        'Message %s may have been sent: what came of attempt %s at %s is unknown (%s), and its gateway''s on_unknown was ''park''. Ask the gateway for Idempotency-Key %s; %s sends it, perhaps for the second time.',
        it.id, it.attempts, outbox.utc(it.died_at), why.shown,
        (
          select concat_ws('_', 'msg', scheduler.installation, it.id, nullif(dead_letters.revision, 0))
          from outbox.scheduler, outbox.dead_letters
          where dead_letters.id = it.id
        ),
        help.replay
      )
    end as shown
    from help
    cross join lateral (
      select coalesce(outbox.discreet(it, coalesce(it.error, it.last_error)), 'nothing on record')
    ) as why (shown)
    union all
    select 2, 0, format('Its gateway %s is gone: a replay needs it back (insert into outbox.gateways …).', it.gateway)
    from help
    where help.without_gateway
    union all
    select 3, 0, format('Message %s has its dedupe_key now: until that is forgotten, it cannot be replayed.', help.key_owner)
    from help
    where help.key_owner is not null
    union all
    select 4, replays.id, format(
      'Replay %s of %s is running (%s of %s are back), and takes it in its turn%s.',
      replays.id, replays.actor, replays.replayed, replays.matched,
      case
        when help.needs_force and not replays.force
          or help.needs_expires_at and replays.expires_at is null
          or help.without_gateway
          or help.key_owner is not null
        then ', or rather passes it by, for it cannot go back as it is'
      end
    )
    from outbox.replays_of(it) as its
    join outbox.replays on replays.id = its.replay
    cross join help
    where its.part = 'will take'
  )
  select line.shown
  from line
  order by line.nth, line.then_by;
$$;

comment on function outbox.explain_dead(outbox.all_messages, timestamptz) is
  'Part of explain(): a message that ended unsent (it). Why, what sends it all the same, and what stands in the way of that at as_of.';
--! EndIncluded functions/explain_dead.sql
--! Included functions/explain_missing.sql
create or replace function outbox.explain_missing(
  id bigint
) returns text
language sql stable as $$
  select case
    when explain_missing.id < 1 or given.last_id is null or explain_missing.id > given.last_id then format(
      'There is no message %s, and there never was: %s.',
      explain_missing.id, coalesce('the last id given out is ' || given.last_id, 'no id was given out yet')
    )
    when exists (select from outbox.attempts where attempts.message_id = explain_missing.id)
      or exists (select from outbox.audit where audit.target = explain_missing.id::text)
    then format(
      'There is no message %s any more: it ended, and was dropped by retention or deleted. What is still on record of it:',
      explain_missing.id
    )
    else format(
      'There is no message %s, though its id was given out: the transaction that inserted it is still open or was rolled back, or the message ended and is no longer kept (outbox.sent %s).',
      explain_missing.id,
      coalesce((select 'goes back to ' || outbox.utc(min(sent.sent_at)) from outbox.sent), 'is empty')
    )
  end
  from (
    select case when messages_id_seq.is_called then messages_id_seq.last_value end as last_id
    from outbox.messages_id_seq
  ) as given;
$$;

comment on function outbox.explain_missing(bigint) is
  'Part of explain(): an id that no table has. Whether it was ever given out, and what may have become of it.';
--! EndIncluded functions/explain_missing.sql
--! Included functions/message_timeline.sql
create or replace function outbox.message_timeline(
  id         bigint,
  out at     timestamptz,
  out event  text,
  out detail text
) returns setof record
language sql stable security definer
set search_path = pg_catalog, pg_temp
-- By id, whatever the statistics say.
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off as $$
  with it as materialized (
    select all_messages as message
    from outbox.all_messages
    where all_messages.id = message_timeline.id
  ), acts as materialized (
    select audit.*
    from outbox.audit
    where audit.target = message_timeline.id::text
    order by audit.at desc
    limit 100
  ), tried as materialized (
    select attempts.*, row_number() over (order by attempts.ended_at desc) as nth
    from outbox.attempts
    where attempts.message_id = message_timeline.id
    order by attempts.ended_at desc
    limit 101
  ), shown as (
    select tried.*, outbox.discreet(it.message, tried.error) as shown_error
    from tried
    left join it on true
  ), event as (
    select 1 as rank, (it.message).created_at as at, 'inserted' as event, format(
      'for gateway %s, priority %s%s',
      (it.message).gateway, (it.message).priority, ', to expire at ' || outbox.utc((it.message).expires_at)
    ) as detail
    from it
    union all
    select 2, shown.ended_at, 'attempt', format('%s and those before it are in outbox.attempts', shown.attempt)
    from shown
    where shown.nth = 101
    union all
    select 3, shown.ended_at, 'rescue', format('of attempt %s: %s', shown.attempt, shown.shown_error)
    from shown
    where shown.nth <= 100
      and shown.outcome = 'unknown'
      and shown.duration_ms is null
    union all
    select 3, shown.ended_at, 'attempt', concat_ws(
      ': ',
      format('%s by relayer %s', shown.attempt, shown.relayer),
      shown.outcome || coalesce(' after ' || shown.duration_ms || ' ms', '') || coalesce(' as ' || shown.gateway_message_id, ''),
      shown.shown_error
    )
    from shown
    left join it on true
    where shown.nth <= 100
      and not (shown.outcome = 'unknown' and shown.duration_ms is null)
      -- The row of sent says it.
      and (shown.outcome <> 'accepted' or shown.ended_at is distinct from (it.message).sent_at)
    union all
    select 4, (it.message).claimed_at, 'claim', format('by relayer %s for attempt %s', (it.message).claimed_by, (it.message).attempts)
    from it
    where (it.message).status = 'sending'
    union all
    select 4, (it.message).sent_at, 'sent', format(
      'by relayer %s in attempt %s, after %s ms, as %s',
      (it.message).claimed_by, (it.message).attempts, (it.message).duration_ms, (it.message).gateway_message_id
    )
    from it
    where (it.message).status = 'sent'
    union all
    select 4, (it.message).died_at, 'ended', format('as %s', (it.message).reason)
    from it
    where (it.message).reason <> 'cancelled'
       or (it.message).reason = 'cancelled' and not exists (select from acts where acts.action = 'cancel')
    union all
    select 5, acts.at, acts.action, concat_ws(
      ', ',
      format('by %s', acts.actor),
      'of one ' || (acts.details ->> 'was'),
      case when (acts.details ->> 'force')::boolean then 'with force' end,
      'changed ' || (
        select string_agg(changed.name, ' and ' order by changed.name)
        from jsonb_array_elements_text(acts.details -> 'changed') as changed (name)
      )
    )
    from acts
    union all
    select 5, replays.created_at, 'replay_where', format(
      'by %s: replay %s %s',
      replays.actor, replays.id, case part.part
        when 'took' then 'brought it back (inferred: a replay of many records no ids)'
        when 'passed' then 'passed it by'
        when 'will take' then 'is to take it in its turn'
        else format('was %s before its turn', case replays.status when 'done' then 'at its limit' else replays.status end)
      end
    )
    from it
    cross join lateral outbox.replays_of(it.message) as part
    join outbox.replays on replays.id = part.replay
    union all
    select 6, switched.at, switched.action, format(
      'of %s by %s',
      coalesce('gateway ' || switched.target, 'everything'), switched.actor
    )
    from it
    cross join lateral (
      values (null), ((it.message).gateway)
    ) as scope (target)
    cross join lateral (
      -- While it waited, and the last one before that.
      (
        select audit.*
        from outbox.audit
        where audit.action in ('pause', 'resume')
          and audit.affected > 0
          and coalesce(audit.target, '') = coalesce(scope.target, '')
          and audit.at >= (it.message).created_at
          and audit.at <= coalesce((it.message).sent_at, (it.message).died_at, 'infinity')
        order by audit.at desc
        limit 50
      )
      union all
      (
        select before.*
        from (
          select audit.*
          from outbox.audit
          where audit.action in ('pause', 'resume')
            and audit.affected > 0
            and coalesce(audit.target, '') = coalesce(scope.target, '')
            and audit.at < (it.message).created_at
          order by audit.at desc
          limit 1
        ) as before
        where before.action = 'pause'
      )
    ) as switched
  )
  select event.at, event.event, event.detail
  from event
  order by event.at, event.rank;
$$;

comment on function outbox.message_timeline(bigint) is
  'What happened to a message (id), wherever it stands, in order of time: event is inserted, attempt, rescue (of a claim whose relayer died), claim (of the attempt under way), sent, ended, the action of an operator as in outbox.audit (cancel, edit, replay, replay_where), or a pause or resume of everything or its gateway while it waited; detail says the rest. The last 100 attempts and actions. Never its recipient or content: of a gateway''s answer that quotes them only the status is left. Also of a message that is gone, as far as there is a record.';
--! EndIncluded functions/message_timeline.sql
--! Included functions/explain.sql
create or replace function outbox.explain(
  id    bigint,
  as_of timestamptz default clock_timestamp()
) returns setof text
-- Stable, so that all of it is of one snapshot: the verdict and the timeline cannot contradict each other.
language sql stable security definer
set search_path = pg_catalog, pg_temp
-- By id, whatever the statistics say.
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off as $$
  with found_one as materialized (
    select all_messages as it, all_messages.status
    from outbox.all_messages
    where all_messages.id = explain.id
  ), verdict (part, nth, line) as (
    select 1, verdict.nth, verdict.line
    from found_one
    cross join lateral outbox.explain_waiting(found_one.it, explain.as_of) with ordinality as verdict (line, nth)
    where found_one.status = 'pending'
    union all
    select 1, verdict.nth, verdict.line
    from found_one
    cross join lateral outbox.explain_sending(found_one.it, explain.as_of) with ordinality as verdict (line, nth)
    where found_one.status = 'sending'
    union all
    select 1, verdict.nth, verdict.line
    from found_one
    cross join lateral outbox.explain_sent(found_one.it) with ordinality as verdict (line, nth)
    where found_one.status = 'sent'
    union all
    select 1, verdict.nth, verdict.line
    from found_one
    cross join lateral outbox.explain_dead(found_one.it, explain.as_of) with ordinality as verdict (line, nth)
    where found_one.status not in ('pending', 'sending', 'sent')
    union all
    select 1, 1, outbox.explain_missing(explain.id)
    where explain.id is not null
      and not exists (select from found_one)
    union all
    select 2, timeline.nth, format(
      '%s UTC  %s %s',
      to_char(timeline.at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS'), timeline.event, timeline.detail
    )
    from outbox.message_timeline(explain.id) with ordinality as timeline (at, event, detail, nth)
  )
  select verdict.line
  from verdict
  order by verdict.part, verdict.nth;
$$;

comment on function outbox.explain(bigint, timestamptz) is
  'Why a message (id) has not gone, or has: first the verdict at as_of, in sentences, with every reason that applies, the most decisive first, and what helps; then its timeline (see message_timeline), a line an event, in UTC. For an id that is nowhere, what may have become of it. Changes and waits for nothing. Never shows a recipient or a content.';
--! EndIncluded functions/explain.sql

-- -------------------------------------------------------------- comments

comment on schema outbox is
  'SMS messages on their way out. INSERT INTO outbox.messages (recipient, content) VALUES (''+905551234567'', ''hi'') in your own transaction and the relayer delivers it. Begin with: select * from outbox.health; and, for one message, select outbox.explain(id); In its functions, as_of is the time to go by, by default now, and actor who is on record for what is done, by default the role that is logged in.';
comment on sequence outbox.messages_id_seq is 'The ids of messages. A transaction that is rolled back leaves a gap.';
comment on sequence outbox.relayers_id_seq is 'The numbers of relayers.';
comment on sequence outbox.replays_id_seq is 'The numbers of replays of many.';
comment on sequence outbox.audit_id_seq is 'The order of actions.';

comment on function outbox.bury(bigint[], outbox.dead_reason[], int[], text[], timestamptz) is
  'Moves messages to dead_letters. ids, reasons, http_statuses and errors are parallel arrays, one verdict a message. The caller has made sure that they are its to end. Returns how many it moved.';
comment on function outbox.changes(outbox.all_messages, outbox.all_messages) is
  'The details of a change for outbox.audit, from what a message is (it) to what it becomes: the names of the columns that differ, and their new values, but never a recipient or a text.';
comment on function outbox.drop_partitions(text, interval, timestamptz) is
  'Drops the partitions of outbox.sent or outbox.attempts (parent) whose whole day is older than keep. Returns what it did.';
comment on function outbox.judge_gateway(text, timestamptz, int, int, text, int, text, timestamptz, text, timestamptz) is
  'Part of settle(): what attempts showed of their gateway, not of their messages. passed, failed and faults count those claimed since judged_since, which has to be circuit_changed_at still; failure is the error of a failed one. faults are answers that fault the account or the URL; fault is one of them. throttled_until: what the gateway asked for; throttle: its answer. A fault opens the circuit for hold_for, failures in a row or a share of failures for a growing pause; a probe is judged by its majority. Returns whether the gateway is held by this. Tells the relayers by NOTIFY. A row that somebody else has locked for a second is left as it is.';
comment on function outbox.replay_candidates(outbox.replays, timestamptz) is
  'The dead letters that a replay of many (asked) has still to look at. obstacle: why one cannot go back (needs_force, needs_expires_at, unknown_gateway, dedupe_key_used_again); null: it can.';
comment on function outbox.replay_where(outbox.dead_reason, text, timestamptz, timestamptz, text, bigint, boolean, boolean, timestamptz, text, timestamptz) is
  'Replays all dead letters that match (null matches all): of a reason, for a gateway, that died at since or later and before until, whose error is ILIKE error_like; the oldest first, at most max_messages. Unless dry_run is false, it only looks: matched is how many there are, replayable how many of them can go back, sample the first ten, each with its obstacle. Those that need force or a new end (expires_at, ''infinity'' for never), whose gateway is gone or whose dedupe_key was used again are skipped. Up to a thousand go back at once (replayed); the relayers do the rest in slices, see replay_slice() and the row replay_id of outbox.replays; outbox.cancel_replay(replay_id) ends it. Raises OB001 for an unknown gateway, 23514 for a limit below 1 and an end in the past.';
comment on function outbox.rescue(interval, timestamptz) is
  'Frees the claims of relayers that are gone (their process is, or they were not heard of for dead_after), at once claimable again (parked or exhausted where the gateway''s policy says so), and forgets those relayers. The attempts stay counted and are on record as unknown. Any relayer runs it, each second; two at a time do it once. Never waits for a claim that is locked: the next run frees it, unless it was being settled. Also frees the jobs of their Graphile Workers, see unlock_jobs(). Returns who was gone (relayer, name), and how many claims it freed (rescued).';
comment on function outbox.revive(bigint[], timestamptz, timestamptz) is
  'Part of replay_slice(): moves dead letters (ids) back to the outbox. expires_at: their new end, ''infinity'' for never; null: each keeps its own. The caller has locked them. Returns how many it moved. Raises what an INSERT would.';
comment on function outbox.settle(int, bigint[], smallint[], outbox.outcome[], int[], text[], text[], int[], bigint[], timestamptz[], bigint[], timestamptz) is
  'Records what attempts showed, all of them or none. ids (sorted), attempts, outcomes, http_statuses, gateway_message_ids, errors, durations_ms, retry_afters_ms (what the gateway asked for) and claimed_ats are parallel arrays, one element an attempt. accepted: to sent. rejected, or the last of max_attempts: to dead_letters. retry and unknown: back, after retry_delay or a longer Retry-After; uncounted if the gateway''s circuit is not closed, which these attempts may have opened, see judge_gateway(). throttled and hold: back at once and uncounted, and the gateway is held; but a hold that only this message leads to, see is_own_fault(), is a failed attempt like any other. Only claims that are still this relayer''s, with this attempt number and (unless null) this claimed_at, change; the ids of which nothing was recorded come back as stale. moot: ids whose attempt says nothing of the gateway, because the relayer cut it short. Returns settled_at (the sent_at of all that was accepted), how many were sent, which messages are dead, with their dead_reasons, and the gateways that are held by this. as_of null means now.';
comment on function outbox.take_tick(timestamptz) is
  'Whether this caller is the one to relay for a tick (its time) of the crontab (relay.mode: scheduled): true once for each tick, for the whole cluster, also when its job is run again.';
comment on function outbox.toggle(text) is
  'pause() if the scheduler runs, resume() if it is stopped; two at once take turns. Returns whether it runs now.';
comment on function outbox.unregister_relayer(int) is
  'A relayer''s farewell, from the session that registered it: forgets its number and frees its lock. With claims left the number stays, for rescue() to free them.';
