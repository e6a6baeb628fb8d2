--! Previous: sha1:b275e74b7040bfdebc57a4b4fded922d085c8a99
--! Hash: sha1:7a2a0da901f339d2a248ba6d31d1a7ccb4710b4c
--! Message: REST

-- Signs the cursors of the REST API.
alter table outbox.scheduler
  add column cursor_key bytea not null default sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8'));
comment on column outbox.scheduler.cursor_key is 'Signs the cursors of the REST API, so that one that was changed is told apart. Made once; a secret of no more worth than that.';
