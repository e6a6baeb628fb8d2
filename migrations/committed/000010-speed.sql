--! Previous: sha1:b3290eb0ceeb83ad24d9a9994397dab1ee43f0d6
--! Hash: sha1:9c87eb2fc53503f42a47b659e358f0c0bdcc45a8
--! Message: Speed

drop function outbox.claim(int, text, int, timestamptz);
--! Included functions/claim.sql
create or replace function outbox.claim(
  relayer    int,
  gateway    text,
  batch_size int,
  as_of      timestamptz   default clock_timestamp(),
  after_at   timestamptz[] default null,
  after_id   bigint[]      default null
) returns table (
  id            bigint,
  attempt       smallint,
  recipient     text,
  content       text,
  expires_in_ms bigint,
  traceparent   text,
  claimed_at    timestamptz,
  revision      smallint,
  priority      smallint,
  available_at  timestamptz
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- The plan is made once for a session and kept, often when the table is still empty. What reads well in an empty table
-- (a sequential scan, a hash of it) is quadratic work in a full one, so only the walk along the indexes is left. Before
-- PostgreSQL 18 what is off counts as very expensive, and every claim would be compiled first (jit).
set jit = off
set plan_cache_mode = force_generic_plan
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

  -- So that rescue() cannot take the number away between this look and the claim. Not a lock of the row: that would be written
  -- to disk, also by a claim that finds nothing.
  perform pg_advisory_xact_lock_shared(outbox.lock_key('claims'), claim.relayer);
  perform
  from outbox.relayers
  where relayers.id = claim.relayer
    and relayers.heartbeat_at > '-infinity';
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

  -- Left to the claims that begin at the start: the dead rows of what was sent before its end would be walked here as well.
  if claim.after_at is null and exists (
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
      -- Dead rows of what was claimed stand in the index until a vacuum may remove them, which the oldest snapshot of the
      -- whole server forbids. So the scan begins after the last claim; or a little earlier, for what was inserted
      -- before that and committed later.
      select
        position.priority,
        random() as start,
        least(coalesce(position.after_at, '-infinity'), claim.as_of - interval '200 milliseconds') as after_at,
        case when position.after_at <= claim.as_of - interval '200 milliseconds' then position.after_id else 0 end as after_id
      from unnest('{0,1,2}'::smallint[], claim.after_at, claim.after_id) as position (priority, after_at, after_id)
    ) as level
    cross join lateral (
      select messages.id, messages.available_at
      from outbox.messages
      where messages.gateway = claim.gateway
        and messages.priority = level.priority
        and messages.claimed_by is null
        and (messages.available_at, messages.id) > (level.after_at, level.after_id)
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
    returning
      messages.id, messages.priority, messages.available_at, messages.attempts, messages.recipient, messages.content,
      messages.expires_at, messages.traceparent, messages.claimed_at, messages.revision
  )
  select
    claimed.id,
    claimed.attempts,
    claimed.recipient,
    claimed.content,
    (extract(epoch from claimed.expires_at - claim.as_of) * 1000)::bigint,
    claimed.traceparent,
    claimed.claimed_at,
    claimed.revision,
    claimed.priority,
    case
      when lead(claimed.priority) over (order by claimed.priority, claimed.available_at, claimed.id) is distinct from claimed.priority
        then claimed.available_at
    end
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

comment on function outbox.claim(int, text, int, timestamptz, timestamptz[], bigint[]) is
  'Gives a relayer the exclusive right to one attempt each at up to batch_size due messages of a gateway, and counts the attempt. Order: priority by the gateway''s weights, then available_at, then id. expires_in_ms is what is left until expires_at; available_at is given for the last of each priority. With these as after_at and after_id (of priorities 0, 1 and 2) the next claim begins where this one ended, or 200 ms before as_of if that is earlier; without them at the start, for what came late, and it also buries what has expired. Empty while paused or held; at most the tokens there are where the gateway has a rate, and a probe of circuit_probes where its circuit is not closed. Raises OB002 if the relayer is not registered.';
--! EndIncluded functions/claim.sql
drop function outbox.next_due(text, timestamptz);
--! Included functions/next_due.sql
create or replace function outbox.next_due(
  gateway  text,
  as_of    timestamptz   default clock_timestamp(),
  after_at timestamptz[] default null,
  after_id bigint[]      default null
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
  cross join unnest('{0,1,2}'::smallint[], next_due.after_at, next_due.after_id) as level (priority, after_at, after_id)
  cross join lateral (
    select messages.available_at
    from outbox.messages
    where messages.gateway = next_due.gateway
      and messages.priority = level.priority
      and messages.claimed_by is null
      and (messages.available_at, messages.id) > (coalesce(level.after_at, '-infinity'), coalesce(level.after_id, 0))
    order by messages.available_at, messages.id
    limit 1
  ) as earliest
  where gateways.name = next_due.gateway
    and not gateways.paused
    and exists (select from outbox.scheduler where scheduler.running)
  group by gateways.name;
$$;

comment on function outbox.next_due(text, timestamptz, timestamptz[], bigint[]) is
  'Milliseconds until a gateway''s next message may be claimed, by this server''s clock, with its hold and its rate; zero or less: now; null: nothing waits, or it is paused. after_at and after_id: see claim(); nothing before them is looked at.';
--! EndIncluded functions/next_due.sql
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
set plan_cache_mode = force_generic_plan
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
--! Included functions/lock_key.sql
create or replace function outbox.lock_key(
  name text
) returns int
language sql immutable parallel safe as $$
  select hashtext('outbox:' || lock_key.name);
$$;

comment on function outbox.lock_key(text) is
  'The first key of our advisory locks, a different one for each purpose: ''claim'' (shared by claims, exclusive for pause), ''relayer'' (second key: its number), ''claims'' (second key: whose; shared by its claims, exclusive for who ends them), ''rescue'', ''maintain'', ''minutes''.';
--! EndIncluded functions/lock_key.sql
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
--! Included functions/unregister_relayer.sql
create or replace function outbox.unregister_relayer(
  relayer int
) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
begin
  -- Waits for a claim of its own that is under way: what that claims would belong to a number that nobody rescues.
  perform pg_advisory_xact_lock(outbox.lock_key('claims'), unregister_relayer.relayer);

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
select outbox.grant_roles();
