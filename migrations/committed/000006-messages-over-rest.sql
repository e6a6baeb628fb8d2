--! Previous: sha1:d9355a206357828e96d276392a6cdf3d5d40da0c
--! Hash: sha1:32efc5da81fac1293fa3ffd119e37bdd8808acd0
--! Message: Messages over REST

-- Requests to put messages in that came with a key, so that one sent again is not done again.
create table outbox.idempotency_keys (
  actor           text        not null,
  idempotency_key text        not null,
  request_hash    bytea       not null,
  message_ids     bigint[]    not null default '{}',
  created         boolean[]   not null default '{}',
  expires_at      timestamptz not null,
  constraint idempotency_keys_pkey primary key (actor, idempotency_key),
  constraint idempotency_key_empty_or_over_200 check (length(idempotency_key) between 1 and 200)
);

comment on table outbox.idempotency_keys is
  'Requests to put messages in that came with an Idempotency-Key, until expires_at: the same request gets the same messages again.';
comment on column outbox.idempotency_keys.actor is 'Who asked: a key is one of its caller alone.';
comment on column outbox.idempotency_keys.idempotency_key is 'The key.';
comment on column outbox.idempotency_keys.request_hash is 'SHA-256 of the request as jsonb writes it, which is one for all orders of its keys and all its spaces.';
comment on column outbox.idempotency_keys.message_ids is 'The messages, in the order of the request.';
comment on column outbox.idempotency_keys.created is 'Of each, whether the request put it in; false: its dedupe_key was used before.';
comment on column outbox.idempotency_keys.expires_at is 'When the key may be used for another request; 24 hours after this one.';
comment on constraint idempotency_keys_pkey on outbox.idempotency_keys is 'A key stands for one request of a caller.';
comment on constraint idempotency_key_empty_or_over_200 on outbox.idempotency_keys is 'Refuses an empty key and one of more than 200 characters.';
comment on index outbox.idempotency_keys_pkey is 'Finds a key.';
create index idempotency_keys_expires_at on outbox.idempotency_keys (expires_at);
comment on index outbox.idempotency_keys_expires_at is 'Which keys may be forgotten.';

--! Included functions/broken_rules.sql
create or replace function outbox.broken_rules(
  messages outbox.messages[]
) returns table (place int, rule text)
language plpgsql stable as $$
declare
  checks text;
begin
  -- Read from the table, so that they are the same ones that an INSERT goes by, a DBA's own included.
  select string_agg(
    format('case when not (%s) then %L end', pg_get_expr(pg_constraint.conbin, pg_constraint.conrelid), pg_constraint.conname),
    ', '
  )
  into checks
  from pg_catalog.pg_constraint
  where pg_constraint.conrelid = 'outbox.messages'::regclass
    and pg_constraint.contype = 'c';

  return query execute format(
    $query$
      select (messages.ordinality - 1)::int, broken.rule
      from unnest($1) with ordinality as messages
      cross join lateral unnest(array[
        case when messages.gateway not in (select gateways.name from outbox.gateways) then 'unknown_gateway' end,
        %s
      ]) as broken (rule)
      where broken.rule is not null
      order by messages.ordinality, broken.rule
    $query$, checks) using broken_rules.messages;
end
$$;

comment on function outbox.broken_rules(outbox.messages[]) is
  'Why an INSERT would refuse these messages: every rule that each of them breaks (an INSERT tells only the first), by the name of its constraint, or unknown_gateway. place counts from 0.';
--! EndIncluded functions/broken_rules.sql
--! Included functions/enqueue_batch.sql
create or replace function outbox.enqueue_batch(
  messages jsonb
) returns table (id bigint, created boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  batch    jsonb := case jsonb_typeof(messages) when 'array' then messages else jsonb_build_array(messages) end;
  ids      bigint[] := array(select nextval('outbox.messages_id_seq') from jsonb_array_elements(batch));
  owners   bigint[];
  faults   jsonb;
  defaults outbox.messages;
begin
  defaults.gateway := 'default';
  defaults.priority := 1;
  defaults.metadata := '{}';
  defaults.available_at := now();
  defaults.created_at := now();

  -- In the order of their keys: two batches with keys in common then wait one for the other, and never each for the other.
  owners := array(
    select keyed.owner
    from (
      select
        it.ordinality,
        case
          when it.dedupe_key is not null and it.gateway in (select gateways.name from outbox.gateways)
            then outbox.remember_key(it.dedupe_key, ids[it.ordinality], it.gateway)
          else ids[it.ordinality]
        end as owner
      from jsonb_populate_recordset(defaults, batch) with ordinality as it
      order by it.dedupe_key, it.ordinality
    ) as keyed
    order by keyed.ordinality
  );

  begin
    insert into outbox.messages (
      id, gateway, priority, recipient, content, metadata, dedupe_key, available_at, expires_at, traceparent
    )
    overriding system value
    select
      ids[it.ordinality], it.gateway, it.priority, it.recipient, it.content, it.metadata, it.dedupe_key, it.available_at,
      it.expires_at, it.traceparent
    from jsonb_populate_recordset(defaults, batch) with ordinality as it
    where owners[it.ordinality] = ids[it.ordinality]
    order by it.ordinality;
  exception
    -- The INSERT has told the first fault. Whoever sent a thousand messages wants all of them.
    when check_violation or sqlstate 'OB001' then
      select jsonb_agg(jsonb_build_object(
        'place', case jsonb_typeof(messages) when 'array' then broken.place end,
        'rule', broken.rule
      ))
      into faults
      from outbox.broken_rules(array(select it from jsonb_populate_recordset(defaults, batch) as it)) as broken
      where owners[broken.place + 1] = ids[broken.place + 1];

      if faults is null then
        raise;
      end if;
      raise exception using
        errcode = 'OB009',
        message = format('%s of %s messages were refused, so none was put in',
          (select count(distinct fault -> 'place') from jsonb_array_elements(faults) as fault), cardinality(ids)),
        detail = faults::text,
        schema = 'outbox', table = 'messages';
  end;

  return query
  select put.owner, put.owner = put.id
  from unnest(owners, ids) with ordinality as put (owner, id, ordinality)
  order by put.ordinality;
end
$$;

comment on function outbox.enqueue_batch(jsonb) is
  'Puts many messages into the outbox, in your transaction: all of them or none. messages: an array of objects (or one object), each with recipient and content, and what else enqueue() takes. Returns, in their order, the id of each and whether it was created; if not, its dedupe_key was used within the window, and the id is that of the message that has it, whatever else was asked for. Raises OB009 if any breaks a rule of the table or names an unknown gateway (OB001 if that went while it ran): the detail is a JSON array of each place (from 0; null for one object) and rule.';
--! EndIncluded functions/enqueue_batch.sql
--! Included functions/enqueue_once.sql
create or replace function outbox.enqueue_once(
  idempotency_key text,
  messages        jsonb,
  actor           text        default session_user,
  as_of           timestamptz default clock_timestamp()
) returns table (id bigint, created boolean, replayed boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  hash  bytea := sha256(convert_to(messages::text, 'UTF8'));
  known outbox.idempotency_keys;
begin
  -- Between the two statements the key may be forgotten by maintain(); then it is free, and the next round takes it.
  loop
    -- Waits for whoever is at the same request.
    insert into outbox.idempotency_keys as seen (actor, idempotency_key, request_hash, expires_at)
    values (enqueue_once.actor, enqueue_once.idempotency_key, hash, enqueue_once.as_of + interval '24 hours')
    on conflict on constraint idempotency_keys_pkey do update
    set
      request_hash = excluded.request_hash,
      expires_at   = excluded.expires_at
    where seen.expires_at <= enqueue_once.as_of;
    exit when found;

    select seen.*
    into known
    from outbox.idempotency_keys as seen
    where seen.actor = enqueue_once.actor
      and seen.idempotency_key = enqueue_once.idempotency_key;
    if not found then
      continue;
    end if;

    if known.request_hash <> hash then
      raise exception using
        errcode = 'OB010',
        message = format('the key "%s" came with another request', enqueue_once.idempotency_key),
        detail = format('It stands for that one until %s.', known.expires_at),
        schema = 'outbox', table = 'idempotency_keys', constraint = 'idempotency_keys_pkey';
    end if;
    return query
    select before.id, before.created, true
    from unnest(known.message_ids, known.created) as before (id, created);
    return;
  end loop;

  return query
  with put as (
    select entry.id, entry.created, entry.ordinality
    from outbox.enqueue_batch(enqueue_once.messages) with ordinality as entry
  ), kept as (
    update outbox.idempotency_keys
    set
      message_ids = array(select put.id from put order by put.ordinality),
      created     = array(select put.created from put order by put.ordinality)
    where idempotency_keys.actor = enqueue_once.actor
      and idempotency_keys.idempotency_key = enqueue_once.idempotency_key
  )
  select put.id, put.created, false
  from put
  order by put.ordinality;
end
$$;

comment on function outbox.enqueue_once(text, jsonb, text, timestamptz) is
  'As enqueue_batch(), once: the same key with the same messages, of the same actor and within 24 hours, returns what it returned then (replayed: true) and puts nothing in. Another one at the same time is waited for. Raises OB010 if the key came with other messages, and what enqueue_batch() raises (OB009, OB001); then the key is free.';
--! EndIncluded functions/enqueue_once.sql
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
