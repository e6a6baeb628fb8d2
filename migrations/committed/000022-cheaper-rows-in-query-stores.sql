--! Previous: sha1:d23f2d050a170b0b210e4946a338e423b2703f51
--! Hash: sha1:6d665bd6b01cfa4c8b4429f57f8e328cffb83778
--! Message: Cheaper rows in query stores

--! Included functions/equip_query_store.sql
create or replace function outbox.equip_query_store() returns setof text
language plpgsql volatile
set lock_timeout = '2s' as $$
declare
  place   text;
  made    text;
  columns text;
begin
  if not exists (select from outbox.query_store) then
    raise exception 'this database is no query store';
  end if;

  for place in
    select listed.place
    from outbox.query_store_tables() as published
    cross join unnest(published.tables) as listed (place)
  loop
    continue when exists (
      select from pg_catalog.pg_trigger
      where pg_trigger.tgrelid = format('outbox.%I', place)::regclass and pg_trigger.tgname = 'refuse_writes'
    );
    execute format('create trigger refuse_writes before insert or update or delete or truncate on outbox.%I for each statement execute function outbox.refuse_writes()', place);
    execute format('comment on trigger refuse_writes on outbox.%I is %L', place, 'Lets in only what comes from the primary.');
  end loop;

  if not exists (select from pg_catalog.pg_trigger where tgrelid = 'outbox.housekeeping'::regclass and tgname = 'note_housekeeping') then
    create trigger note_housekeeping before insert or update on outbox.housekeeping for each row execute function outbox.note_housekeeping();
    comment on trigger note_housekeeping on outbox.housekeeping is 'Notes in which transaction it came.';
    -- For what is replicated, and for nothing else.
    alter table outbox.housekeeping enable replica trigger note_housekeeping;
  end if;
  foreach place in array '{sent, dead_letters}'::text[] loop
    continue when exists (
      select from pg_catalog.pg_trigger
      where pg_trigger.tgrelid = format('outbox.%I', place)::regclass and pg_trigger.tgname = 'keep_deleted'
    );
    execute format('create trigger keep_deleted before delete on outbox.%I for each row execute function outbox.keep_deleted()', place);
    execute format('comment on trigger keep_deleted on outbox.%I is %L', place, 'Keeps what the primary drops by retention.');
    execute format('alter table outbox.%I enable replica trigger keep_deleted', place);
  end loop;
  foreach place in array '{dead_letters, minutes}'::text[] loop
    continue when exists (
      select from pg_catalog.pg_trigger
      where pg_trigger.tgrelid = format('outbox.%I', place)::regclass and pg_trigger.tgname = 'make_way'
    );
    execute format('create trigger make_way before insert on outbox.%I for each row execute function outbox.make_way()', place);
    execute format('comment on trigger make_way on outbox.%I is %L', place, 'What the primary inserts takes the place of what was kept.');
    execute format('alter table outbox.%I enable replica trigger make_way', place);
  end loop;

  -- A CHECK is compiled anew for each row that comes: these were half of what a message costs here, and the primary has made them.
  -- The names stay, for the migrations to come.
  for place in
    select pg_constraint.conname
    from pg_catalog.pg_constraint
    where pg_constraint.conrelid = 'outbox.messages'::regclass
      and pg_constraint.contype = 'c'
      and pg_get_expr(pg_constraint.conbin, pg_constraint.conrelid) <> 'true'
  loop
    execute format('alter table outbox.messages drop constraint %1$I, add constraint %1$I check (true) not valid', place);
    execute format('comment on constraint %I on outbox.messages is %L', place, 'The primary makes it.');
  end loop;

  return query select outbox.create_search_indexes();
  for made, place, columns in
    values
      ('messages_recipient', 'messages', 'recipient, id'),
      ('sent_recipient', 'sent', 'recipient, id'),
      ('sent_created_at', 'sent', 'created_at, id'),
      ('dead_letters_recipient', 'dead_letters', 'recipient, id'),
      ('dead_letters_created_at', 'dead_letters', 'created_at, id')
  loop
    continue when to_regclass(format('outbox.%I', made)) is not null;
    execute format('create index %I on outbox.%I (%s)', made, place, columns);
    execute format('comment on index outbox.%I is %L', made, 'For questions: only a query store has it.');
    return next format('made outbox.%s', made);
  end loop;
end
$$;

comment on function outbox.equip_query_store() is
  'Part of npm run query-store -- init, and of each start of a relayer: gives a logical query store what it has besides the primary''s tables, where that is missing: triggers that keep history and refuse other writes, and indexes for questions; and takes from it the CHECKs of messages, which the primary has made. Returns which indexes it made.';
--! EndIncluded functions/equip_query_store.sql
