--! Previous: sha1:3e46c68f7334cb16e51ff10d98c8c8029a06c54e
--! Hash: sha1:b275e74b7040bfdebc57a4b4fded922d085c8a99
--! Message: Circuits, rates, edits and replays

-- -------------------------------------------------------------- gateways

alter table outbox.gateways
  add column rate_per_second    double precision,
  add column burst              int,
  add column circuit_failures   smallint    not null default 5,
  add column circuit_ratio      real        not null default 0.5,
  add column circuit_window     interval    not null default '30 seconds',
  add column circuit_pause      interval    not null default '2 seconds',
  add column circuit_max_pause  interval    not null default '1 minute',
  add column circuit_probes     smallint    not null default 3,
  add column tokens             double precision not null default 0,
  add column tokens_at          timestamptz not null default 'epoch',
  add column circuit            text        not null default 'closed',
  add column circuit_changed_at timestamptz not null default '-infinity',
  add column circuit_pauses     int         not null default 0,
  add column run_of_failures    int         not null default 0,
  add column window_started_at  timestamptz,
  add column window_passed      int         not null default 0,
  add column window_failed      int         not null default 0,
  add column probes             smallint    not null default 0,
  add column proved_at          timestamptz not null default '-infinity',
  add constraint rate_per_second_not_positive   check (rate_per_second > 0 and rate_per_second <= 100000),
  add constraint burst_not_1_to_100000          check (burst between 1 and 100000),
  add constraint circuit_failures_not_1_to_1000 check (circuit_failures between 1 and 1000),
  add constraint circuit_ratio_not_above_0_to_1 check (circuit_ratio > 0 and circuit_ratio <= 1),
  add constraint circuit_window_not_1s_to_1h    check (circuit_window between '1 second' and '1 hour'),
  add constraint circuit_pause_not_positive     check (circuit_pause > '0'),
  add constraint circuit_max_pause_below_circuit_pause check (circuit_max_pause >= circuit_pause),
  add constraint circuit_max_pause_over_7_days  check (circuit_max_pause <= '7 days'),
  add constraint circuit_probes_not_1_to_100    check (circuit_probes between 1 and 100),
  add constraint circuit_not_a_state            check (circuit in ('closed', 'open', 'half_open')),
  drop constraint hold_reason_not_throttled_or_hold,
  add constraint hold_reason_not_a_reason       check (hold_reason in ('throttled', 'hold', 'circuit_open'));

comment on column outbox.gateways.rate_per_second is 'The most POSTs a second, for all relayers together; null: no limit.';
comment on column outbox.gateways.burst is 'With rate_per_second: how many may go at once after a quiet time. Null: what the rate gives in 100 ms, at least 10.';
comment on column outbox.gateways.circuit_failures is 'So many failures in a row open the circuit. A failure is an attempt that ended as retry or unknown.';
comment on column outbox.gateways.circuit_ratio is 'This share of failures within circuit_window, of at least 20 attempts, opens the circuit too.';
comment on column outbox.gateways.circuit_window is 'See circuit_ratio. A window begins with a failure.';
comment on column outbox.gateways.circuit_pause is 'The wait before the first probe; it doubles after each round of probes that failed, varied by jitter.';
comment on column outbox.gateways.circuit_max_pause is 'The longest such wait.';
comment on column outbox.gateways.circuit_probes is 'How many messages a probe sends. The circuit closes when half of them or more pass.';
comment on column outbox.gateways.tokens is 'The token bucket of rate_per_second, as it was at tokens_at: a claim takes one for each message, time brings rate_per_second of them a second, up to burst. See the function outbox.tokens.';
comment on column outbox.gateways.tokens_at is 'When tokens was written.';
comment on column outbox.gateways.circuit is 'closed: messages are claimed. open: the gateway fails, or its answer faulted the account or the URL; nothing is claimed until held_until, then a few as a probe. half_open: the probe is under way.';
comment on column outbox.gateways.circuit_changed_at is 'When the circuit last changed. Only attempts claimed since then say anything about it.';
comment on column outbox.gateways.circuit_pauses is 'Pauses since the circuit was last closed; the next one is longer.';
comment on column outbox.gateways.run_of_failures is 'Failures since the last attempt that passed.';
comment on column outbox.gateways.window_started_at is 'The first failure of the current circuit_window; null: none lately.';
comment on column outbox.gateways.window_passed is 'Attempts of the window that passed: the gateway answered, whatever it said of the message. While half_open: of the probe.';
comment on column outbox.gateways.window_failed is 'Attempts of the window that failed. While half_open: of the probe.';
comment on column outbox.gateways.probes is 'While half_open: how many messages the probe sent.';
comment on column outbox.gateways.proved_at is 'When a probe last passed: then the account and the URL were in order. A message that found fault with them before, and does again, is at fault itself.';
comment on column outbox.gateways.held_until is 'Nothing is claimed for it before this time. While the circuit is half_open: when the probe is given up and made again.';
comment on column outbox.gateways.hold_for is 'How long the gateway is left alone after an answer that faults the account or the URL (401, 403, 404, a redirect, …). Then a probe finds out.';
comment on column outbox.gateways.hold_reason is 'throttled: it answered 429, or 503 with Retry-After. hold: its answer faults the account or the URL. circuit_open: it fails.';
comment on constraint rate_per_second_not_positive on outbox.gateways is 'Refuses a rate of zero or less, and one above 100,000. Null is no limit.';
comment on constraint burst_not_1_to_100000 on outbox.gateways is 'Refuses a burst outside 1 to 100,000.';
comment on constraint circuit_failures_not_1_to_1000 on outbox.gateways is 'Refuses a run outside 1 to 1,000.';
comment on constraint circuit_ratio_not_above_0_to_1 on outbox.gateways is 'Refuses a share of zero or less and one above 1.';
comment on constraint circuit_window_not_1s_to_1h on outbox.gateways is 'Refuses windows outside 1 s to 1 h.';
comment on constraint circuit_pause_not_positive on outbox.gateways is 'Refuses a wait of zero or less.';
comment on constraint circuit_max_pause_below_circuit_pause on outbox.gateways is 'Refuses a longest wait that is shorter than the first.';
comment on constraint circuit_max_pause_over_7_days on outbox.gateways is 'Refuses a wait that nobody would wait out.';
comment on constraint circuit_probes_not_1_to_100 on outbox.gateways is 'Refuses a probe of none or of more than 100 messages.';
comment on constraint circuit_not_a_state on outbox.gateways is 'Refuses any other state.';
comment on constraint hold_reason_not_a_reason on outbox.gateways is 'Refuses any other reason.';

-- A gateway that is held now came by it through an answer that faults it: it is probed like one that is held from now on.
update outbox.gateways set circuit = 'open' where hold_reason = 'hold' and held_until is not null;

-- -------------------------------------------------------------- messages

alter table outbox.messages
  add column revision smallint not null default 0,
  add constraint revision_negative check (revision >= 0);
alter table outbox.sent add column revision smallint not null default 0;
-- Not valid: what died was valid once, and to read all of it would keep everybody waiting. An edit is checked all the same.
alter table outbox.dead_letters
  add column revision smallint not null default 0,
  add constraint recipient_not_e164         check (recipient ~ '^\+[1-9][0-9]{6,14}$') not valid,
  add constraint content_empty_or_over_1600 check (length(content) between 1 and 1600) not valid,
  add constraint priority_not_0_1_or_2      check (priority between 0 and 2) not valid,
  add constraint available_at_infinite      check (isfinite(available_at)) not valid,
  add constraint expires_at_infinite        check (isfinite(expires_at)) not valid;

comment on column outbox.messages.revision is 'Raised when a rejected message is changed and tried again: the gateway then sees it as another one (Idempotency-Key msg_<installation>_<id>_<revision>), for it may remember its answer to the first.';
comment on column outbox.sent.revision is 'The revision that was sent.';
comment on column outbox.dead_letters.revision is 'The revision that ended.';
comment on constraint revision_negative on outbox.messages is 'Refuses a revision below zero.';
comment on constraint recipient_not_e164 on outbox.dead_letters is 'Refuses, in an edit, a recipient that is not a plus sign and 7 to 15 digits, the first not 0 (ITU-T E.164).';
comment on constraint content_empty_or_over_1600 on outbox.dead_letters is 'Refuses, in an edit, an empty text and one of more than 1,600 characters.';
comment on constraint priority_not_0_1_or_2 on outbox.dead_letters is 'Refuses, in an edit, any other priority.';
comment on constraint available_at_infinite on outbox.dead_letters is 'Refuses, in an edit, a schedule that never comes or always was.';
comment on constraint expires_at_infinite on outbox.dead_letters is 'Refuses infinity: null is a message that never expires.';

comment on table outbox.sent is
  'Messages that a gateway accepted. Append-only, but for what a person replays by force; a partition for each day (UTC) of sent_at. Retention drops whole days.';

-- -------------------------------------------------------------- relayers

alter table outbox.relayers add column worker text;
comment on column outbox.relayers.worker is 'The name under which its Graphile Worker locks jobs; unlock_jobs() frees those of workers that no relayer has.';

-- --------------------------------------------------------------- replays

create table outbox.replays (
  id           bigint      generated always as identity constraint replays_pkey primary key,
  status       text        not null default 'running',
  actor        text        not null,
  reason       outbox.dead_reason,
  gateway      text,
  since        timestamptz,
  until        timestamptz not null,
  error_like   text,
  max_messages bigint,
  expires_at   timestamptz,
  force        boolean     not null default false,
  matched      bigint      not null,
  replayed     bigint      not null default 0,
  skipped      bigint      not null default 0,
  reached_at   timestamptz not null default '-infinity',
  reached_id   bigint      not null default 0,
  created_at   timestamptz not null default clock_timestamp(),
  finished_at  timestamptz,
  constraint status_not_running_done_or_cancelled check (status in ('running', 'done', 'cancelled')),
  constraint finished_without_finished_at check ((status = 'running') = (finished_at is null)),
  constraint max_messages_not_positive check (max_messages > 0)
);

comment on table outbox.replays is 'Replays of many dead letters, by outbox.replay_where(): what was asked for, and how far it is. They run in slices, so that what is new is not kept waiting; outbox.cancel_replay(id) ends one.';
comment on column outbox.replays.id is 'Its number.';
comment on column outbox.replays.status is 'running, done, or cancelled.';
comment on column outbox.replays.actor is 'Who asked for it.';
comment on column outbox.replays.reason is 'Only dead letters of this reason; null: of any.';
comment on column outbox.replays.gateway is 'Only those of this gateway; null: of any.';
comment on column outbox.replays.since is 'Only those that died at this time or later; null: from the first.';
comment on column outbox.replays.until is 'Only those that died before this time, at the latest the time it was asked for: what dies again is not replayed again.';
comment on column outbox.replays.error_like is 'Only those whose error matches this pattern of ILIKE; null: any.';
comment on column outbox.replays.max_messages is 'At most so many go back, the oldest first; null: all.';
comment on column outbox.replays.expires_at is 'The new end of what is replayed; infinity: none; null: each keeps its own.';
comment on column outbox.replays.force is 'Whether those of unknown_outcome are replayed too, which may send them twice.';
comment on column outbox.replays.matched is 'How many there were when it was asked for.';
comment on column outbox.replays.replayed is 'How many are back in the outbox.';
comment on column outbox.replays.skipped is 'How many were left: of unknown_outcome without force, expired without a new end, their gateway gone, their dedupe_key used again, being changed at that moment, or refused by the outbox.';
comment on column outbox.replays.reached_at is 'How far it is: died_at of the last one looked at.';
comment on column outbox.replays.reached_id is 'How far it is: id of the last one looked at.';
comment on column outbox.replays.created_at is 'When it was asked for.';
comment on column outbox.replays.finished_at is 'When it ended.';
comment on constraint replays_pkey on outbox.replays is 'A number is one replay.';
comment on constraint status_not_running_done_or_cancelled on outbox.replays is 'Refuses any other status.';
comment on constraint finished_without_finished_at on outbox.replays is 'Refuses an end without its time.';
comment on constraint max_messages_not_positive on outbox.replays is 'Refuses a limit of none.';
comment on index outbox.replays_pkey is 'Finds a replay by its number.';

create index replays_running on outbox.replays (id) where status = 'running';
comment on index outbox.replays_running is 'What is still to do.';

-- ------------------------------------------------------------- functions

drop function outbox.heartbeat(int, timestamptz);
drop function outbox.register_relayer(text, text);
drop function outbox.claim(int, text, int, timestamptz);
drop function outbox.settle(int, bigint[], smallint[], outbox.outcome[], int[], text[], text[], int[], bigint[], timestamptz[], timestamptz);

--! Included functions/bucket_size.sql
create or replace function outbox.bucket_size(
  gateway outbox.gateways
) returns int
language sql immutable as $$
  select coalesce((bucket_size.gateway).burst, greatest(10, ceil((bucket_size.gateway).rate_per_second / 10))::int);
$$;

comment on function outbox.bucket_size(outbox.gateways) is
  'The burst of a gateway with a rate: how many tokens its bucket holds.';
--! EndIncluded functions/bucket_size.sql
--! Included functions/tokens.sql
create or replace function outbox.tokens(
  gateway outbox.gateways,
  as_of   timestamptz default clock_timestamp()
) returns double precision
language sql volatile as $$
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
--! Included functions/is_own_fault.sql
create or replace function outbox.is_own_fault(
  message_id bigint,
  proved_at  timestamptz
) returns boolean
language sql stable as $$
  select exists (
    select
    from outbox.attempts
    where attempts.message_id = is_own_fault.message_id
      and attempts.outcome = 'hold'
      and attempts.ended_at <= is_own_fault.proved_at
  );
$$;

comment on function outbox.is_own_fault(bigint, timestamptz) is
  'Of a message whose attempt ended as hold: whether the message is at fault, and neither the account nor the URL. It is if it found the same before its gateway''s proved_at, when others passed.';
--! EndIncluded functions/is_own_fault.sql
--! Included functions/heartbeat.sql
create or replace function outbox.heartbeat(
  relayer int,
  worker  text        default null,
  as_of   timestamptz default clock_timestamp()
) returns boolean
language sql volatile as $$
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
--! Included functions/register_relayer.sql
create or replace function outbox.register_relayer(
  name    text,
  version text,
  worker  text default null
) returns int
language plpgsql volatile as $$
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
--! Included functions/unlock_jobs.sql
create or replace function outbox.unlock_jobs(
  as_of timestamptz default clock_timestamp()
) returns int
language plpgsql volatile
set lock_timeout = '1s' as $$
declare
  gone text[];
begin
  -- Graphile Worker makes its schema itself, step by step, when the first relayer starts. This is about its last step.
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
--! Included functions/rescue.sql
create or replace function outbox.rescue(
  dead_after  interval    default '30 seconds',
  as_of       timestamptz default clock_timestamp(),
  out relayer int,
  out name    text,
  out rescued int
) returns setof record
language plpgsql volatile as $$
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
  'Frees the claims of relayers that are gone, at once claimable again (parked or exhausted where the gateway''s policy says so), and forgets those relayers. The attempts stay counted and are on record as unknown. Any relayer runs it, each second; two at a time do it once. Never waits for a claim that is locked: the next run frees it, unless it was being settled. Also frees the jobs of their Graphile Workers, see unlock_jobs(). Returns who was gone, and how many claims it freed.';
--! EndIncluded functions/rescue.sql
--! Included functions/configure_gateway.sql
create or replace function outbox.configure_gateway(
  name     text,
  settings jsonb
) returns void
language plpgsql volatile as $$
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
--! Included functions/bury.sql
create or replace function outbox.bury(
  ids           bigint[],
  reasons       outbox.dead_reason[],
  http_statuses int[],
  errors        text[],
  as_of         timestamptz default clock_timestamp()
) returns int
language sql volatile
-- As in settle(): by id, whatever the statistics say. Hashed also when claim() calls it, which wants no hash for itself.
set jit = off
set enable_hashjoin = on
set enable_seqscan = off
set enable_bitmapscan = off
set enable_nestloop = off
set enable_mergejoin = off as $$
  with ending as (
    delete from outbox.messages
    using unnest(bury.ids, bury.reasons, bury.http_statuses, bury.errors) as verdict (id, reason, http_status, error)
    where messages.id = any (bury.ids)
      and messages.id = verdict.id
    returning messages.*, verdict.reason, verdict.http_status, verdict.error
  ), buried as (
    insert into outbox.dead_letters (
      id, gateway, priority, recipient, content, metadata, dedupe_key, available_at, expires_at, attempts, claimed_by,
      claimed_at, last_error, traceparent, created_at, revision, died_at, reason, http_status, error
    )
    select
      id, gateway, priority, recipient, content, metadata, dedupe_key, available_at, expires_at, attempts, claimed_by,
      claimed_at, coalesce(error, last_error), traceparent, created_at, revision, bury.as_of, reason, http_status, error
    from ending
    returning 1
  )
  select count(*)::int from buried;
$$;

comment on function outbox.bury(bigint[], outbox.dead_reason[], int[], text[], timestamptz) is
  'Moves messages to dead_letters; parallel arrays, one verdict a message. The caller has made sure that they are its to end. Returns how many it moved.';
--! EndIncluded functions/bury.sql
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
language plpgsql volatile
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
--! Included functions/judge_gateway.sql
create or replace function outbox.judge_gateway(
  gateway         text,
  judged_since    timestamptz,
  passed          int,
  failed          int,
  failure         text,
  faults          int,
  fault           text,
  throttled_until timestamptz,
  throttle        text,
  as_of           timestamptz default clock_timestamp()
) returns boolean
language plpgsql volatile
set lock_timeout = '1s' as $$
declare
  it     outbox.gateways;
  was    outbox.gateways;
  opens  text; -- why
  closed boolean := false;
  until  timestamptz;
begin
  select gateways.*
  into it
  from outbox.gateways
  where gateways.name = judge_gateway.gateway
  for no key update;
  if not found then
    return false;
  end if;
  was := it;

  -- What was claimed before the circuit changed says nothing about what is now: not of a probe, nor of a gateway that a
  -- person has just mended.
  if it.circuit_changed_at = judge_gateway.judged_since then
    if it.circuit = 'half_open' then
      it.window_passed := it.window_passed + judge_gateway.passed;
      it.window_failed := it.window_failed + judge_gateway.failed + judge_gateway.faults;
      if 2 * it.window_passed >= it.probes then
        closed := true;
      elsif 2 * it.window_failed > it.probes then
        opens := format('%s of %s probes failed', it.window_failed, it.probes);
      end if;
    elsif it.circuit = 'closed' then
      it.run_of_failures := case when judge_gateway.passed > 0 then 0 else it.run_of_failures + judge_gateway.failed end;
      if it.window_started_at <= judge_gateway.as_of - it.circuit_window then
        it.window_started_at := null;
      end if;
      if it.window_started_at is null and judge_gateway.failed > 0 then
        it.window_started_at := judge_gateway.as_of;
        it.window_passed := 0;
        it.window_failed := 0;
      end if;
      if it.window_started_at is not null then
        it.window_passed := it.window_passed + judge_gateway.passed;
        it.window_failed := it.window_failed + judge_gateway.failed;
      end if;

      if judge_gateway.faults > 0 then
        opens := 'fault';
      elsif it.run_of_failures >= it.circuit_failures then
        opens := format('%s failures in a row', it.run_of_failures);
      elsif it.window_started_at is not null
        and it.window_passed + it.window_failed >= 20
        and it.window_failed >= it.circuit_ratio * (it.window_passed + it.window_failed)
      then
        opens := format('%s of %s attempts failed', it.window_failed, it.window_passed + it.window_failed);
      end if;
    end if;
  end if;

  if closed then
    it.circuit := 'closed';
    it.circuit_changed_at := judge_gateway.as_of;
    it.circuit_pauses := 0;
    it.proved_at := judge_gateway.as_of;
    if it.hold_reason <> 'throttled' or it.held_until <= judge_gateway.as_of then
      it.held_until := null;
      it.hold_reason := null;
      it.hold_detail := null;
    end if;
  elsif opens is not null then
    it.circuit := 'open';
    it.circuit_changed_at := judge_gateway.as_of;
    it.circuit_pauses := it.circuit_pauses + (judge_gateway.faults = 0)::int;
    until := judge_gateway.as_of + case
      when judge_gateway.faults > 0 then it.hold_for
      else outbox.retry_delay(it.circuit_pause, it.circuit_max_pause, it.jitter, it.circuit_pauses)
    end;
    -- A gateway that asked to be left alone for longer keeps that.
    if it.hold_reason is distinct from 'throttled' or it.held_until <= until then
      it.held_until := until;
      it.hold_reason := case when judge_gateway.faults > 0 then 'hold' else 'circuit_open' end;
      it.hold_detail := case
        when judge_gateway.faults > 0 then judge_gateway.fault
        else format('%s; the last: %s', opens, judge_gateway.failure)
      end;
    end if;
  end if;
  if closed or opens is not null then
    it.run_of_failures := 0;
    it.window_started_at := null;
  end if;

  -- A hold that lasts longer keeps its own reason.
  if judge_gateway.throttled_until > coalesce(it.held_until, '-infinity') then
    it.held_until := judge_gateway.throttled_until;
    it.hold_reason := 'throttled';
    it.hold_detail := judge_gateway.throttle;
  end if;

  if it is not distinct from was then
    return false;
  end if;
  update outbox.gateways
  set
    circuit            = it.circuit,
    circuit_changed_at = it.circuit_changed_at,
    circuit_pauses     = it.circuit_pauses,
    run_of_failures    = it.run_of_failures,
    window_started_at  = it.window_started_at,
    window_passed      = it.window_passed,
    window_failed      = it.window_failed,
    proved_at          = it.proved_at,
    held_until         = it.held_until,
    hold_reason        = it.hold_reason,
    hold_detail        = it.hold_detail
  where gateways.name = judge_gateway.gateway;

  -- Other relayers stop and start with this one.
  if it.held_until is distinct from was.held_until then
    perform pg_notify('outbox', case when it.held_until is null then 'resume' else 'hold' end);
  end if;
  return it.held_until is not null and it.held_until is distinct from was.held_until;
exception
  -- A person has the row open. Results are recorded all the same; the next ones will say what these did.
  when lock_not_available then
    return false;
end
$$;

comment on function outbox.judge_gateway(text, timestamptz, int, int, text, int, text, timestamptz, text, timestamptz) is
  'Part of settle(): what attempts showed of their gateway, not of their messages. passed, failed and faults count those claimed since judged_since, which has to be circuit_changed_at still; failure is the error of a failed one. faults are answers that fault the account or the URL; fault is one of them. throttled_until: what the gateway asked for, with its answer. A fault opens the circuit for hold_for, failures in a row or a share of failures for a growing pause; a probe is judged by its majority. Returns whether the gateway is held by this. Tells the relayers by NOTIFY. A row that somebody else has locked for a second is left as it is.';
--! EndIncluded functions/judge_gateway.sql
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
language plpgsql volatile
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
  'Records what attempts showed, all of them or none; parallel arrays, one element an attempt, ids sorted. accepted: to sent. rejected, or the last of max_attempts: to dead_letters. retry and unknown: back, after retry_delay or a longer Retry-After; uncounted if the gateway''s circuit is not closed, which these attempts may have opened, see judge_gateway(). throttled and hold: back at once and uncounted, and the gateway is held; but a hold that only this message leads to, see is_own_fault(), is a failed attempt like any other. Only claims that are still this relayer''s, with this attempt number and (unless null) this claimed_at, change; the ids of which nothing was recorded come back as stale. moot: ids whose attempt says nothing of the gateway, because the relayer cut it short. held: the gateways that are held by this. as_of null means now.';
--! EndIncluded functions/settle.sql
--! Included functions/release.sql
create or replace function outbox.release(
  relayer int,
  ids     bigint[]
) returns int
language sql volatile
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
--! Included functions/next_due.sql
create or replace function outbox.next_due(
  gateway text,
  as_of   timestamptz default clock_timestamp()
) returns bigint
language sql volatile
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
--! Included functions/resume.sql
create or replace function outbox.resume(
  gateway text default null,
  actor   text default session_user
) returns boolean
language plpgsql volatile as $$
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
  'Every message, wherever it stands. status: pending (waits), sending (claimed), sent, failed (rejected, exhausted, unknown_outcome), expired, cancelled. Ask by id; a question about many goes faster to the table itself.';
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
  gateways.url
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
order by gateways.name;

comment on view outbox.gateway_status is 'Each gateway: is it relayed to, if not why and until when, and what waits for it. outbox.resume(gateway) ends a pause and a hold.';
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
--! EndIncluded views/gateway_status.sql
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
  (select count(*) from outbox.sent where sent.sent_at > now() - interval '1 minute') as sent_last_minute,
  (select count(*) from outbox.dead_letters where dead_letters.died_at > now() - interval '1 minute') as dead_last_minute,
  (
    select coalesce(array_agg(gateways.name order by gateways.name), '{}')
    from outbox.gateways
    where gateways.paused or gateways.held_until > now() or gateways.circuit <> 'closed'
  ) as stopped_gateways
from outbox.scheduler
cross join (
  select
    coalesce(sum(backlog.due), 0)::bigint as due,
    coalesce(sum(backlog.scheduled), 0)::bigint as scheduled,
    coalesce(sum(backlog.in_flight), 0)::bigint as in_flight,
    max(backlog.oldest_due_age) as oldest_due_age
  from outbox.backlog
) as waiting;

comment on view outbox.health is
  'One row: is it running, who relays, what waits and for how long, what happened in the last minute, which gateways are paused or held.';
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
--! EndIncluded views/health.sql
--! Included functions/lock_message.sql
create or replace function outbox.lock_message(
  id bigint
) returns outbox.all_messages
language plpgsql volatile as $$
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
--! Included functions/wrong_state.sql
create or replace function outbox.wrong_state(
  it   outbox.all_messages,
  deed text
) returns void
language plpgsql volatile as $$
begin
  raise exception using
    errcode = 'OB005',
    message = format('message %s ', it.id) || case it.status
      when 'pending' then 'is in the outbox'
      when 'sending' then format('is being sent by relayer %s', it.claimed_by)
      when 'sent' then format('was sent at %s', it.sent_at)
      else format('ended at %s: %s', it.died_at, it.reason)
    end,
    detail = case it.status
      when 'pending' then format('It is due at %s.', it.available_at)
      when 'sending' then format('Claimed at %s for attempt %s. If that fails, it can be %s then.', it.claimed_at, it.attempts, wrong_state.deed)
      when 'sent' then format('The gateway accepted it as %s. It can no longer be %s.', it.gateway_message_id, wrong_state.deed)
      else coalesce(it.error, 'It was never sent.')
    end;
end
$$;

comment on function outbox.wrong_state(outbox.all_messages, text) is
  'Raises OB005: a message is not in a state for this deed (cancelled, edited, …). Says in which it is, and since when.';
--! EndIncluded functions/wrong_state.sql
--! Included functions/amend.sql
create or replace function outbox.amend(
  it           outbox.all_messages,
  recipient    text,
  content      text,
  available_at timestamptz,
  expires_at   timestamptz,
  priority     int,
  as_of        timestamptz default clock_timestamp()
) returns outbox.all_messages
language plpgsql volatile as $$
declare
  becomes outbox.all_messages := it;
begin
  becomes.recipient := coalesce(amend.recipient, it.recipient);
  becomes.content := coalesce(amend.content, it.content);
  becomes.available_at := coalesce(amend.available_at, it.available_at);
  becomes.expires_at := nullif(coalesce(amend.expires_at, it.expires_at), 'infinity');
  becomes.priority := coalesce(amend.priority, it.priority);

  if becomes.expires_at is distinct from it.expires_at and becomes.expires_at <= amend.as_of then
    raise exception using
      errcode = 'check_violation',
      message = format('expires_at %s is in the past', becomes.expires_at),
      detail = format('Message %s could never be sent.', it.id),
      hint = 'A message with expires_at => ''infinity'' never expires.',
      schema = 'outbox', table = 'messages', column = 'expires_at', constraint = 'expires_at_in_the_past';
  end if;

  -- The gateway may remember that it rejected this Idempotency-Key, whatever comes with it; of other failures it should.
  -- A rejected one that was replayed unchanged has nothing but the record of its attempts to tell.
  if (becomes.recipient, becomes.content) <> (it.recipient, it.content) and (
    it.reason = 'rejected'
    or 'rejected' = (
      select attempts.outcome
      from outbox.attempts
      where attempts.message_id = it.id
        and attempts.outcome not in ('throttled', 'hold')
      order by attempts.ended_at desc
      limit 1
    )
  ) then
    becomes.revision := it.revision + 1;
  end if;
  return becomes;
end
$$;

comment on function outbox.amend(outbox.all_messages, text, text, timestamptz, timestamptz, int, timestamptz) is
  'What a message becomes by a change; changes nothing itself. Null leaves a column as it is; expires_at ''infinity'' is never. Another recipient or content of a rejected message raises its revision. Raises 23514 (constraint expires_at_in_the_past) for a new expires_at in the past.';
--! EndIncluded functions/amend.sql
--! Included functions/changes.sql
create or replace function outbox.changes(
  it      outbox.all_messages,
  becomes outbox.all_messages
) returns jsonb
language sql stable as $$
  select
    jsonb_build_object('changed', coalesce(jsonb_agg(after.key order by after.key), '[]'))
    || coalesce(jsonb_object_agg(after.key, after.value) filter (where after.key not in ('recipient', 'content')), '{}')
  from jsonb_each(to_jsonb(changes.becomes)) as after
  where after.value <> to_jsonb(changes.it) -> after.key;
$$;

comment on function outbox.changes(outbox.all_messages, outbox.all_messages) is
  'The details of a change for outbox.audit: the names of the columns that differ, and their new values, but never a recipient or a text.';
--! EndIncluded functions/changes.sql
--! Included functions/cancel.sql
create or replace function outbox.cancel(
  id    bigint,
  actor text        default session_user,
  as_of timestamptz default clock_timestamp()
) returns void
language plpgsql volatile as $$
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
language plpgsql volatile as $$
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
language plpgsql volatile as $$
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
--! Included functions/revive.sql
create or replace function outbox.revive(
  ids        bigint[],
  expires_at timestamptz default null,
  as_of      timestamptz default clock_timestamp()
) returns int
language sql volatile
-- As in settle(): by id, whatever the statistics say.
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off as $$
  with back as (
    delete from outbox.dead_letters
    where dead_letters.id = any (revive.ids)
    returning dead_letters.*
  ), revived as (
    insert into outbox.messages (
      id, gateway, priority, recipient, content, metadata, dedupe_key, available_at, expires_at, last_error, traceparent,
      created_at, revision
    )
    overriding system value
    select
      back.id, back.gateway, back.priority, back.recipient, back.content, back.metadata, back.dedupe_key,
      greatest(back.available_at, revive.as_of), nullif(coalesce(revive.expires_at, back.expires_at), 'infinity'),
      back.last_error, back.traceparent, back.created_at, back.revision
    from back
    returning 1
  )
  select count(*)::int from revived;
$$;

comment on function outbox.revive(bigint[], timestamptz, timestamptz) is
  'Part of replay_slice(): moves dead letters back to the outbox. expires_at: their new end, ''infinity'' for never; null: each keeps its own. The caller has locked them. Returns how many it moved. Raises what an INSERT would.';
--! EndIncluded functions/revive.sql
--! Included functions/replay_candidates.sql
create or replace function outbox.replay_candidates(
  asked  outbox.replays,
  as_of  timestamptz
) returns table (
  id         bigint,
  died_at    timestamptz,
  gateway    text,
  dedupe_key text,
  reason     outbox.dead_reason,
  error      text,
  obstacle   text
)
-- Stable, for only then does Postgres plan this as a part of the query that asks, which needs but the first few.
language sql stable as $$
  select
    dead_letters.id,
    dead_letters.died_at,
    dead_letters.gateway,
    dead_letters.dedupe_key,
    dead_letters.reason,
    dead_letters.error,
    case
      when dead_letters.reason = 'unknown_outcome' and not asked.force then 'needs_force'
      when coalesce(asked.expires_at, dead_letters.expires_at) <= replay_candidates.as_of then 'needs_expires_at'
      when not exists (select from outbox.gateways where gateways.name = dead_letters.gateway) then 'unknown_gateway'
      -- Only the key in its condition, so that nothing but the key's index will do.
      when (
        select dedupe_keys.message_id <> dead_letters.id and dedupe_keys.expires_at > replay_candidates.as_of
        from outbox.dedupe_keys
        where dedupe_keys.dedupe_key = dead_letters.dedupe_key
      ) then 'dedupe_key_used_again'
    end
  from outbox.dead_letters
  where (dead_letters.died_at, dead_letters.id) > (asked.reached_at, asked.reached_id)
    and dead_letters.died_at < asked.until
    and (asked.reason is null or dead_letters.reason = asked.reason)
    and (asked.gateway is null or dead_letters.gateway = asked.gateway)
    and (asked.error_like is null or dead_letters.error ilike asked.error_like);
$$;

comment on function outbox.replay_candidates(outbox.replays, timestamptz) is
  'The dead letters that a replay of many has still to look at. obstacle: why one cannot go back (needs_force, needs_expires_at, unknown_gateway, dedupe_key_used_again); null: it can.';
--! EndIncluded functions/replay_candidates.sql
--! Included functions/queue_replays.sql
create or replace function outbox.queue_replays(
  replay  bigint default null,
  wait_ms int    default null
) returns int
language plpgsql volatile as $$
declare
  queued int;
begin
  -- Graphile Worker makes its schema itself, step by step, when the first relayer starts; that relayer then queues what is
  -- running.
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
  'Sees to it that a running replay (null: each of them) has a job of Graphile Worker, one, which does its slices. wait_ms: not before so many milliseconds; null: as a job that is there says, else at once. Returns how many it saw to; 0 also where no relayer has ever run.';
--! EndIncluded functions/queue_replays.sql
--! Included functions/replay_room.sql
create or replace function outbox.replay_room(
  gateway    text,
  batch_size int,
  as_of      timestamptz default clock_timestamp()
) returns int
language sql volatile
-- Along the index, whatever the statistics say.
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off as $$
  select case when waiting.due <= share.size then share.size else 0 end
  from outbox.gateways
  cross join lateral (
    -- About what the gateway takes in a second.
    select least(replay_room.batch_size, ceil(gateways.rate_per_second))::int as size
  ) as share
  cross join lateral (
    select count(*) as due
    from unnest('{0,1,2}'::smallint[]) as level (priority)
    cross join lateral (
      select
      from outbox.messages
      where messages.gateway = gateways.name
        and messages.priority = level.priority
        and messages.claimed_by is null
        and messages.available_at <= replay_room.as_of
      limit share.size + 1
    ) as due
  ) as waiting
  where gateways.name = replay_room.gateway;
$$;

comment on function outbox.replay_room(text, int, timestamptz) is
  'How many dead letters a slice of a replay may add for a gateway: batch_size, or what its rate takes in a second; none while more than that are due, so that what is new waits no longer.';
--! EndIncluded functions/replay_room.sql
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
language plpgsql volatile
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
language plpgsql volatile as $$
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
  'Replays all dead letters that match (null matches all): of a reason, for a gateway, that died at since or later and before until, whose error is ILIKE error_like; the oldest first, at most max_messages. Unless dry_run is false, it only looks: matched is how many there are, replayable how many of them can go back, sample the first ten, each with its obstacle. Those that need force or a new end (expires_at, ''infinity'' for never), whose gateway is gone or whose dedupe_key was used again are skipped. Up to a thousand go back at once (replayed); the relayers do the rest in slices, see outbox.replays and replay_slice(). Raises OB001 for an unknown gateway, 23514 for a limit below 1 and an end in the past.';
--! EndIncluded functions/replay_where.sql
--! Included functions/cancel_replay.sql
create or replace function outbox.cancel_replay(
  replay bigint,
  actor  text        default session_user,
  as_of  timestamptz default clock_timestamp()
) returns void
language plpgsql volatile as $$
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
--! Included functions/maintain.sql
create or replace function outbox.maintain(
  sent_kept         interval    default '90 days',
  attempts_kept     interval    default '30 days',
  dead_letters_kept interval    default null,
  audit_kept        interval    default null,
  as_of             timestamptz default clock_timestamp()
) returns setof text
language plpgsql volatile as $$
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

  perform outbox.queue_replays();

  return query select outbox.make_partitions('sent', 'sent_at', maintain.as_of);
  return query select outbox.make_partitions('attempts', 'ended_at', maintain.as_of);
  -- Last, for their locks last until the commit.
  return query select outbox.drop_partitions('sent', maintain.sent_kept, maintain.as_of);
  return query select outbox.drop_partitions('attempts', maintain.attempts_kept, maintain.as_of);
end
$$;

comment on function outbox.maintain(interval, interval, interval, interval, timestamptz) is
  'Housekeeping, run by the relayers every few minutes: expires what waits past its time, makes the coming days'' partitions and empties the default ones, forgets dedupe keys, drops what is older than kept (null: for ever), and sees to it that replays of many go on. Two at a time do it once. Returns what it did.';
--! EndIncluded functions/maintain.sql
