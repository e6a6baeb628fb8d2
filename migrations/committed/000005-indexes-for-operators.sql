--! Previous: sha1:2a98870bb6182aafede042a0240f38b8d47f8ae9
--! Hash: sha1:bd0af0f601bc3c10c3ec661b07ca47fb77702b9e
--! Message: Indexes for operators

-- ---------------------------------------------------------- dead letters

create index dead_letters_reason on outbox.dead_letters (reason, died_at, id);
comment on index outbox.dead_letters_reason is 'The order in which messages died of one reason.';

-- ----------------------------------------------------------------- audit

create index audit_at on outbox.audit (at, id);
comment on index outbox.audit_at is 'What was done, in order.';
create index audit_actor on outbox.audit (actor, at, id);
comment on index outbox.audit_actor is 'What somebody did, in order.';
create index audit_action on outbox.audit (action, at, id);
comment on index outbox.audit_action is 'When something was done, in order.';
