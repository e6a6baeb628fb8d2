--! Previous: sha1:d415a8a6b0696206fb510c809877522eee196acf
--! Hash: sha1:aa4520d3ba3c3feab2b470ba690f4b4be228de5e
--! Message: Traces

-- A message has the trace of who puts it in, also by a plain INSERT or COPY.

--! Included functions/current_traceparent.sql
create or replace function outbox.current_traceparent() returns text
language sql stable as $$
  -- The default of messages.traceparent is the same expression, spelled out: a default calls its functions with the rights of
  -- whoever inserts, and an INSERT must not need the right to call one of ours. LIKE does the counting: a regular expression with
  -- {32} in it takes five times as long.
  select
    case
      when current_setting('outbox.traceparent', true) like '__-________________________________-________________-__'
        and current_setting('outbox.traceparent', true) ~ '^[0-9a-f]+-[0-9a-f]+-[0-9a-f]+-[0-9a-f]+$'
      then current_setting('outbox.traceparent', true)
    end;
$$;

comment on function outbox.current_traceparent() is
  'The trace that the setting outbox.traceparent names; null if it names none, or does not have the form of a traceparent (W3C Trace Context).';
--! EndIncluded functions/current_traceparent.sql

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
      coalesce(enqueue.traceparent, outbox.current_traceparent())
    );
  end if;
  return owner;
end
$$;

comment on function outbox.enqueue(text, text, text, int, timestamptz, timestamptz, jsonb, text, text) is
  'Puts a message into the outbox, in your transaction, and returns its id; with a dedupe_key used within the window, the id of the message that has it. Without a traceparent it has that of the setting outbox.traceparent. A plain INSERT does the same, but refuses a used key. Raises what the table refuses: 23514 with the name of the rule, OB001 for an unknown gateway.';
--! EndIncluded functions/enqueue.sql

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
  defaults.traceparent := outbox.current_traceparent();
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
  'Puts many messages into the outbox, in your transaction: all of them or none. messages: an array of objects (or one object), each with recipient and content, and what else enqueue() takes; one without traceparent has that of the setting outbox.traceparent, and one whose traceparent is null has none. Returns, in their order, the id of each and whether it was created; if not, its dedupe_key was used within the window, and the id is that of the message that has it, whatever else was asked for. Raises OB009 if any breaks a rule of the table or names an unknown gateway (OB001 if that went while it ran): the detail is a JSON array of each place (from 0; null for one object) and rule.';
--! EndIncluded functions/enqueue_batch.sql

-- As in outbox.current_traceparent(), which it does not call: see there.
alter table outbox.messages alter column traceparent set default
  case
    when current_setting('outbox.traceparent', true) like '__-________________________________-________________-__'
      and current_setting('outbox.traceparent', true) ~ '^[0-9a-f]+-[0-9a-f]+-[0-9a-f]+-[0-9a-f]+$'
    then current_setting('outbox.traceparent', true)
  end;
comment on column outbox.messages.traceparent is
  'W3C trace context, of which each attempt is a part; passed on in the POST. By default that of the setting outbox.traceparent: select set_config(''outbox.traceparent'', ''00-…'', true) before the INSERT, in its transaction. A setting of another form is ignored.';

select outbox.grant_roles();
