--! Previous: sha1:9d755c745ae64bb2a37c905c4f01fd181044b019
--! Hash: sha1:575f9882ad9c1272a04d2281e82d186890305f01
--! Message: Figures for metrics; how long a message has waited

-- One column more: how long a message has been due.
drop function outbox.claim(int, text, int, timestamptz, timestamptz[], bigint[]);
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
  available_at  timestamptz,
  waited_ms     bigint
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
      messages.expires_at, messages.traceparent, messages.claimed_at, messages.revision, messages.created_at
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
    end,
    -- date_part reckons in double precision, extract in numeric, which is slow.
    (date_part('epoch', claim.as_of - case claimed.attempts
      when 1 then greatest(claimed.created_at, claimed.available_at)
      else claimed.created_at
    end) * 1000)::bigint
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
  'Gives a relayer the exclusive right to one attempt each at up to batch_size due messages of a gateway, and counts the attempt. Order: priority by the gateway''s weights, then available_at, then id. expires_in_ms is what is left until expires_at; waited_ms is for how long the message has been due, counted from created_at for a later attempt, because the time between attempts is written over available_at; available_at is given for the last of each priority. With these as after_at and after_id (of priorities 0, 1 and 2) the next claim begins where this one ended, or 200 ms before as_of if that is earlier; without them at the start, for what came late, and it also buries what has expired. Empty while paused or held; at most the tokens there are where the gateway has a rate, and a probe of circuit_probes where its circuit is not closed. Raises OB002 if the relayer is not registered.';
--! EndIncluded functions/claim.sql

-- What /metrics shows of the database, at a bounded cost.
--! Included functions/queue_figures.sql
create or replace function outbox.queue_figures(
  most  int         default 100000,
  as_of timestamptz default clock_timestamp()
) returns table (
  gateway        text,
  priority       smallint,
  due            bigint,
  scheduled      bigint,
  in_flight      bigint,
  oldest_due_age interval
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- As in claim(): one plan for good, along the indexes, that stops at the most it may count. Statistics of an empty table, or of
-- a full one, would have it read all of it.
set jit = off
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off as $$
begin
  return query
  -- Materialized: it has no order in which a gateway's could be found, and is to be counted once.
  with claimed as materialized (
    select counted.gateway, counted.priority, count(*) as n
    from (
      select messages.gateway, messages.priority
      from outbox.messages
      where messages.claimed_by is not null
      limit queue_figures.most
    ) as counted
    group by counted.gateway, counted.priority
  )
  select
    gateways.name,
    level.priority,
    due.n,
    scheduled.n,
    coalesce(claimed.n, 0),
    queue_figures.as_of - oldest.available_at
  from outbox.gateways
  cross join unnest('{0,1,2}'::smallint[]) as level (priority)
  cross join lateral (
    select count(*)
    from (
      select
      from outbox.messages
      where messages.gateway = gateways.name
        and messages.priority = level.priority
        and messages.claimed_by is null
        and messages.available_at <= queue_figures.as_of
      limit queue_figures.most
    ) as counted
  ) as due (n)
  cross join lateral (
    select count(*)
    from (
      select
      from outbox.messages
      where messages.gateway = gateways.name
        and messages.priority = level.priority
        and messages.claimed_by is null
        and messages.available_at > queue_figures.as_of
      limit queue_figures.most
    ) as counted
  ) as scheduled (n)
  left join lateral (
    select messages.available_at
    from outbox.messages
    where messages.gateway = gateways.name
      and messages.priority = level.priority
      and messages.claimed_by is null
      and messages.available_at <= queue_figures.as_of
    order by messages.available_at, messages.id
    limit 1
  ) as oldest on true
  left join claimed
    on claimed.gateway = gateways.name
    and claimed.priority = level.priority
  order by gateways.name, level.priority;
end
$$;

comment on function outbox.queue_figures(int, timestamptz) is
  'What waits, for /metrics: as outbox.backlog, but at a bounded cost. It counts no further than most what is due, and what is scheduled, for each gateway and priority, and what is in_flight for all together, so a figure that is most means so many or more; and it has a row for each gateway and priority, also where nothing waits. oldest_due_age is exact, and null where nothing is due.';
--! EndIncluded functions/queue_figures.sql
--! Included functions/server_figures.sql
create or replace function outbox.server_figures() returns table (
  relayers_alive         bigint,
  messages_estimated     bigint,
  connections            bigint,
  max_connections        int,
  oldest_transaction_age interval,
  slot_retained_bytes    bigint
)
language sql volatile security definer
set search_path = pg_catalog, pg_temp as $$
  select
    (
      select count(*)
      from outbox.relayers
      where outbox.relayer_is_alive(relayers.id, relayers.heartbeat_at)
    ),
    -- -1 until it has been counted for the first time.
    (select nullif(pg_class.reltuples, -1)::bigint from pg_class where pg_class.oid = 'outbox.messages'::regclass),
    -- Not pg_stat_activity, which tells the kind of a session only to its own role.
    (select sum(pg_stat_database.numbackends)::bigint from pg_stat_database),
    current_setting('max_connections')::int,
    (select max(snapshots.age) from outbox.snapshots),
    (
      select max(pg_wal_lsn_diff(here.lsn, pg_replication_slots.restart_lsn))::bigint
      from pg_replication_slots
      cross join (
        select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end
      ) as here (lsn)
      where starts_with(pg_replication_slots.slot_name, 'outbox_')
    );
$$;

comment on function outbox.server_figures() is
  'One row for /metrics, of catalogues and statistics alone. relayers_alive: as in outbox.health. messages_estimated: rows of outbox.messages when it was last vacuumed or analysed; null: never. connections: of the whole server, which allows max_connections. oldest_transaction_age: see outbox.snapshots; null: none, or not known to the owner of the schema, who needs pg_read_all_stats for other roles'' transactions. slot_retained_bytes: the most WAL that a replication slot whose name begins with outbox_ holds back; null: there is none.';
--! EndIncluded functions/server_figures.sql
--! Included functions/table_figures.sql
create or replace function outbox.table_figures() returns table (
  name      text,
  bytes     bigint,
  dead_rows bigint
)
language sql volatile security definer
set search_path = pg_catalog, pg_temp as $$
  select
    listed.name,
    sum(pg_total_relation_size(part.oid))::bigint,
    sum(pg_stat_get_dead_tuples(part.oid))::bigint
  from unnest('{messages, sent, dead_letters, attempts}'::text[]) as listed (name)
  cross join lateral (
    select format('outbox.%I', listed.name)::regclass
  ) as whole (oid)
  cross join lateral (
    select whole.oid::oid
    union all
    select pg_inherits.inhrelid from pg_inherits where pg_inherits.inhparent = whole.oid
  ) as part (oid)
  group by listed.name
  order by listed.name;
$$;

comment on function outbox.table_figures() is
  'The large tables, for /metrics: their bytes on disk, with indexes and partitions, and their dead_rows, which a vacuum has yet to remove, as estimated by Postgres. Reads no table.';
--! EndIncluded functions/table_figures.sql

--! Included functions/grant_roles.sql
create or replace function outbox.grant_roles() returns setof text
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  -- What each role may call. Nobody calls the rest, which these functions do as the owner. A name that is wrong raises.
  producer_calls   constant regproc[] := '{outbox.enqueue, outbox.enqueue_batch, outbox.enqueue_once}';
  auditor_calls    constant regproc[] := '{
    outbox.events_horizon, outbox.explain, outbox.find_alerts, outbox.message_timeline, outbox.queue_figures,
    outbox.relayer_is_alive, outbox.sent_horizon, outbox.server_figures, outbox.table_figures, outbox.tally,
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
