--! Previous: sha1:b275e74b7040bfdebc57a4b4fded922d085c8a99
--! Hash: sha1:da06bcba6273bacc59291dc6ebe71009bf3bd6c9
--! Message: REST

-- ----------------------------------------------------------- cursor_keys

-- A table of its own, because whoever may read the scheduler's row may not read this.
create table outbox.cursor_keys (
  one_row boolean not null default true constraint cursor_keys_pkey primary key,
  key     bytea   not null default sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')),
  constraint more_than_one_key_row check (one_row)
);

comment on table outbox.cursor_keys is 'One row: what signs the cursors and the ETags of the REST API, so that one that was changed is told apart. Made once; for relayers alone.';
comment on column outbox.cursor_keys.one_row is 'Always true, so that there is one row.';
comment on column outbox.cursor_keys.key is 'The key, 32 random bytes.';
comment on constraint cursor_keys_pkey on outbox.cursor_keys is 'There is one row.';
comment on constraint more_than_one_key_row on outbox.cursor_keys is 'Refuses a second row.';
comment on index outbox.cursor_keys_pkey is 'Finds the one row.';

insert into outbox.cursor_keys default values;
