--! Previous: sha1:7a2a0da901f339d2a248ba6d31d1a7ccb4710b4c
--! Hash: sha1:e01318b18be938d3a8f8947d5d10a943038bf2b1
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
