--! Previous: sha1:60254fcc27719316501140c2a6dd1851a8cf270c
--! Hash: sha1:6ab6fb468453e90a7b85067b1bf563f9ced17c0a
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
