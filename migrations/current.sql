create schema outbox;
comment on schema outbox is
  'SMS messages on their way out. INSERT INTO outbox.messages (recipient, content) VALUES (''+905551234567'', ''hi'') in your own transaction and the relayer delivers it. Begin with: select * from outbox.health;';

-- ------------------------------------------------------------------ words

create domain outbox.outcome as text
  constraint not_an_outcome check (value in ('accepted', 'rejected', 'retry', 'throttled', 'unknown', 'hold'));
comment on domain outbox.outcome is
  'What one attempt showed. accepted: the gateway took it. rejected: it never will. retry: nothing was taken, try again. throttled: the gateway asks to be left alone for a while. unknown: it may or may not have been taken. hold: the account or the URL is at fault, every message would fail.';

create domain outbox.dead_reason as text
  constraint not_a_dead_reason check (value in ('rejected', 'exhausted', 'expired', 'cancelled', 'unknown_outcome'));
comment on domain outbox.dead_reason is
  'Why a message ended without being sent. rejected: by the gateway. exhausted: every attempt failed. expired: expires_at passed. cancelled: by a person. unknown_outcome: it may have been sent, and its gateway''s on_unknown is ''park''.';

--!include functions/lock_key.sql

-- --------------------------------------------------------------- gateways

create table outbox.gateways (
  name          text     constraint gateways_pkey primary key,
  url           text,
  concurrency   int      not null default 64,
  timeout       interval not null default '10 seconds',
  max_attempts  smallint not null default 5,
  base_delay    interval not null default '1 second',
  max_delay     interval not null default '10 minutes',
  jitter        real     not null default 0.2,
  on_unknown    text     not null default 'retry',
  hold_for      interval not null default '5 minutes',
  weights       real[]   not null default '{16,4,1}',
  keep_attempts text     not null default 'failed',
  dedupe_window interval not null default '24 hours',
  paused        boolean  not null default false,
  held_until    timestamptz,
  hold_reason   text,
  hold_detail   text,
  constraint name_not_lowercase_word      check (name ~ '^[a-z][a-z0-9_-]{0,62}$'),
  constraint url_not_http_or_with_secrets check (url ~ '^https?://[^/@?#]+([/?][^#]*)?$'),
  constraint concurrency_not_1_to_4096    check (concurrency between 1 and 4096),
  constraint timeout_not_100ms_to_10min   check (timeout between '100 milliseconds' and '10 minutes'),
  constraint max_attempts_not_1_to_1000   check (max_attempts between 1 and 1000),
  constraint base_delay_not_positive      check (base_delay > '0'),
  constraint max_delay_below_base_delay   check (max_delay >= base_delay),
  constraint jitter_not_0_to_1            check (jitter between 0 and 1),
  constraint on_unknown_not_retry_or_park check (on_unknown in ('retry', 'park')),
  constraint hold_for_not_positive        check (hold_for > '0'),
  constraint weights_not_three_positive   check (array_position(weights, null) is null and cardinality(weights) = 3 and 0 < all (weights)),
  constraint keep_attempts_not_failed_or_all check (keep_attempts in ('failed', 'all')),
  constraint dedupe_window_not_positive   check (dedupe_window > '0'),
  constraint hold_reason_not_throttled_or_hold check (hold_reason in ('throttled', 'hold')),
  constraint hold_without_reason          check (held_until is null or hold_reason is not null)
);

comment on table outbox.gateways is
  'The HTTP peers that take messages. What the relayer''s configuration names for a gateway is written here at its start; every other column is yours to set, and takes effect within about a second. Secrets never stand here.';
comment on column outbox.gateways.name is 'What messages.gateway refers to. ''default'' always exists.';
comment on column outbox.gateways.url is 'Where messages are POSTed. Null: nothing is relayed for it (a relayer outside production sends those of ''default'' to its own demo gateway).';
comment on column outbox.gateways.concurrency is 'The most POSTs one relayer keeps in flight.';
comment on column outbox.gateways.timeout is 'The longest an attempt may take as a whole, connecting included.';
comment on column outbox.gateways.max_attempts is 'Attempts before a message is a dead letter: exhausted. throttled and hold do not count.';
comment on column outbox.gateways.base_delay is 'The wait after the first failed attempt; it doubles with each further one.';
comment on column outbox.gateways.max_delay is 'The longest such wait. A Retry-After of the gateway may be longer.';
comment on column outbox.gateways.jitter is 'The random part of each wait: 0.2 is plus or minus 20 %.';
comment on column outbox.gateways.on_unknown is 'When an attempt may or may not have arrived. retry: POST again with the same Idempotency-Key. park: to dead_letters as unknown_outcome, for a person to decide.';
comment on column outbox.gateways.hold_for is 'How long the gateway is left alone after an answer that faults the account or the URL (401, 403, 404, a redirect, …).';
comment on column outbox.gateways.weights is 'The shares of priorities 0, 1 and 2 in each claim while all of them wait.';
comment on column outbox.gateways.keep_attempts is 'failed: attempts keeps the tries that did not end in accepted. all: every try.';
comment on column outbox.gateways.dedupe_window is 'How long a dedupe_key is remembered after its message was inserted.';
comment on column outbox.gateways.paused is 'Set by outbox.pause(gateway): nothing is claimed for it until outbox.resume(gateway).';
comment on column outbox.gateways.held_until is 'Nothing is claimed for it before this time.';
comment on column outbox.gateways.hold_reason is 'throttled: it answered 429, or 503 with Retry-After. hold: its answer faults the account or the URL.';
comment on column outbox.gateways.hold_detail is 'The answer that led to the hold.';
comment on constraint gateways_pkey on outbox.gateways is 'A name is one gateway.';
comment on constraint name_not_lowercase_word on outbox.gateways is 'Refuses names that could not stand in a setting, a metric label or a URL.';
comment on constraint url_not_http_or_with_secrets on outbox.gateways is 'Refuses what is not http(s), a fragment, and user:password@, for a URL is no place for a secret.';
comment on constraint concurrency_not_1_to_4096 on outbox.gateways is 'Refuses fewer than 1 or more than 4,096 POSTs in flight.';
comment on constraint timeout_not_100ms_to_10min on outbox.gateways is 'Refuses timeouts outside 100 ms to 10 min.';
comment on constraint max_attempts_not_1_to_1000 on outbox.gateways is 'Refuses fewer than 1 or more than 1,000 attempts.';
comment on constraint base_delay_not_positive on outbox.gateways is 'Refuses a first wait of zero or less.';
comment on constraint max_delay_below_base_delay on outbox.gateways is 'Refuses a longest wait that is shorter than the first.';
comment on constraint jitter_not_0_to_1 on outbox.gateways is 'Refuses a random part outside 0 to 1.';
comment on constraint on_unknown_not_retry_or_park on outbox.gateways is 'Refuses any other policy.';
comment on constraint hold_for_not_positive on outbox.gateways is 'Refuses a hold of zero or less.';
comment on constraint weights_not_three_positive on outbox.gateways is 'Refuses anything but three weights above zero.';
comment on constraint keep_attempts_not_failed_or_all on outbox.gateways is 'Refuses any other choice.';
comment on constraint dedupe_window_not_positive on outbox.gateways is 'Refuses a window of zero or less.';
comment on constraint hold_reason_not_throttled_or_hold on outbox.gateways is 'Refuses any other reason.';
comment on constraint hold_without_reason on outbox.gateways is 'Refuses a hold that nobody could explain.';
comment on index outbox.gateways_pkey is 'Finds a gateway by its name.';

-- --------------------------------------------------------------- messages

create table outbox.messages (
  id           bigint      generated always as identity constraint messages_pkey primary key,
  gateway      text        not null default 'default',
  priority     smallint    not null default 1,
  recipient    text        not null,
  content      text        not null,
  metadata     jsonb       not null default '{}',
  dedupe_key   text,
  available_at timestamptz not null default now(),
  expires_at   timestamptz,
  attempts     smallint    not null default 0,
  claimed_by   int,
  claimed_at   timestamptz,
  last_error   text,
  traceparent  text,
  created_at   timestamptz not null default now(),
  constraint recipient_not_e164         check (recipient ~ '^\+[1-9][0-9]{6,14}$'),
  constraint content_empty_or_over_1600 check (length(content) between 1 and 1600),
  constraint priority_not_0_1_or_2      check (priority between 0 and 2),
  constraint metadata_not_an_object     check (jsonb_typeof(metadata) = 'object'),
  constraint dedupe_key_empty_or_over_200 check (length(dedupe_key) between 1 and 200),
  constraint available_at_infinite      check (isfinite(available_at)),
  constraint expires_at_in_the_past     check (expires_at > created_at),
  constraint expires_at_infinite        check (isfinite(expires_at)),
  constraint attempts_negative          check (attempts >= 0),
  constraint claimed_by_without_claimed_at check ((claimed_by is null) = (claimed_at is null)),
  constraint claimed_but_not_counted    check (claimed_by is null or attempts > 0)
)
-- Every row is inserted, claimed (an update) and deleted within moments, so what is dead soon outnumbers what lives.
-- Vacuum by a number of dead rows rather than by a share of the table, and without pauses: the table is small when it
-- works well, and when it is not, the pauses would only let more pile up.
with (
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 20000,
  autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0,
  autovacuum_analyze_threshold = 50000
);

comment on table outbox.messages is
  'The outbox: what is not finished. A row leaves it for sent or dead_letters when it ends, so its size is the backlog. All that a producer needs: INSERT INTO outbox.messages (recipient, content) VALUES (''+905551234567'', ''hi'').';
comment on column outbox.messages.id is 'Stable over every attempt and replay; the gateway sees it in Idempotency-Key.';
comment on column outbox.messages.gateway is 'The name of the gateway that delivers it.';
comment on column outbox.messages.priority is '0 first (one-time codes), 1 normal, 2 bulk. They share by gateways.weights, so none starves.';
comment on column outbox.messages.recipient is 'A phone number in E.164: a plus sign and 7 to 15 digits.';
comment on column outbox.messages.content is 'The text, 1 to 1,600 characters.';
comment on column outbox.messages.metadata is 'Yours: an object that stays with the message. It is never sent.';
comment on column outbox.messages.dedupe_key is 'If set, a second message with the same key is refused for the gateway''s dedupe_window.';
comment on column outbox.messages.available_at is 'Not claimed before this time: the schedule, and the wait between attempts.';
comment on column outbox.messages.expires_at is 'Never sent after this time.';
comment on column outbox.messages.attempts is 'Tries begun. Counted at the claim, before the POST.';
comment on column outbox.messages.claimed_by is 'The number of the relayer that is making an attempt; null while it waits.';
comment on column outbox.messages.claimed_at is 'When it was claimed.';
comment on column outbox.messages.last_error is 'What the last failed attempt showed.';
comment on column outbox.messages.traceparent is 'W3C trace context, passed on in the POST.';
comment on column outbox.messages.created_at is 'Start of the transaction that inserted it.';
comment on constraint messages_pkey on outbox.messages is 'An id is one message.';
comment on constraint recipient_not_e164 on outbox.messages is 'Refuses a recipient that is not a plus sign and 7 to 15 digits, the first not 0 (ITU-T E.164).';
comment on constraint content_empty_or_over_1600 on outbox.messages is 'Refuses an empty text and one of more than 1,600 characters.';
comment on constraint priority_not_0_1_or_2 on outbox.messages is 'Refuses any other priority.';
comment on constraint metadata_not_an_object on outbox.messages is 'Refuses JSON that is not an object.';
comment on constraint dedupe_key_empty_or_over_200 on outbox.messages is 'Refuses an empty key and one of more than 200 characters.';
comment on constraint available_at_infinite on outbox.messages is 'Refuses a schedule that never comes or always was.';
comment on constraint expires_at_in_the_past on outbox.messages is 'Refuses a message that could never be sent.';
comment on constraint expires_at_infinite on outbox.messages is 'Refuses infinity: leave expires_at null for a message that never expires.';
comment on constraint attempts_negative on outbox.messages is 'Refuses a count below zero.';
comment on constraint claimed_by_without_claimed_at on outbox.messages is 'Refuses half a claim.';
comment on constraint claimed_but_not_counted on outbox.messages is 'Refuses a claim whose attempt is not on record.';
comment on index outbox.messages_pkey is 'Finds a message by its id; settling goes by it.';

create index messages_claimable on outbox.messages (gateway, priority, available_at, id) where claimed_by is null;
comment on index outbox.messages_claimable is 'What waits, in the order of claims.';
create index messages_in_flight on outbox.messages (claimed_by) where claimed_by is not null;
comment on index outbox.messages_in_flight is 'The claims of a relayer, for rescue.';
create index messages_expiring on outbox.messages (gateway, expires_at) where claimed_by is null and expires_at is not null;
comment on index outbox.messages_expiring is 'What waits and has an end.';

-- ------------------------------------------------------------------- sent

create table outbox.sent (
  id                 bigint      not null,
  gateway            text        not null,
  priority           smallint    not null,
  recipient          text        not null,
  content            text        not null,
  metadata           jsonb       not null,
  dedupe_key         text,
  available_at       timestamptz not null,
  expires_at         timestamptz,
  attempts           smallint    not null,
  claimed_by         int         not null,
  claimed_at         timestamptz not null,
  last_error         text,
  traceparent        text,
  created_at         timestamptz not null,
  sent_at            timestamptz not null,
  gateway_message_id text        not null,
  duration_ms        int         not null,
  constraint sent_pkey primary key (sent_at, id)
) partition by range (sent_at);

comment on table outbox.sent is
  'Messages that a gateway accepted. Append-only; a partition for each day (UTC) of sent_at. Retention drops whole days.';
comment on column outbox.sent.id is 'The message''s id.';
comment on column outbox.sent.gateway is 'The gateway that accepted it.';
comment on column outbox.sent.priority is 'As inserted.';
comment on column outbox.sent.recipient is 'As sent.';
comment on column outbox.sent.content is 'As sent.';
comment on column outbox.sent.metadata is 'As inserted.';
comment on column outbox.sent.dedupe_key is 'As inserted.';
comment on column outbox.sent.available_at is 'When the attempt that succeeded became due.';
comment on column outbox.sent.expires_at is 'As inserted.';
comment on column outbox.sent.attempts is 'How many tries it took.';
comment on column outbox.sent.claimed_by is 'The number of the relayer that sent it.';
comment on column outbox.sent.claimed_at is 'When it claimed it.';
comment on column outbox.sent.last_error is 'What the last failed attempt before it showed.';
comment on column outbox.sent.traceparent is 'As inserted.';
comment on column outbox.sent.created_at is 'Start of the transaction that inserted it.';
comment on column outbox.sent.sent_at is 'When the acceptance was recorded. All of one settle share it.';
comment on column outbox.sent.gateway_message_id is 'The id the gateway gave it.';
comment on column outbox.sent.duration_ms is 'How long the successful attempt took.';
comment on constraint sent_pkey on outbox.sent is 'The order in which messages were sent; the API pages by it.';
comment on index outbox.sent_pkey is 'The order in which messages were sent; the API pages by it.';

create index sent_id on outbox.sent (id);
comment on index outbox.sent_id is 'Finds a sent message by its id.';

create table outbox.sent_default partition of outbox.sent default;
comment on table outbox.sent_default is 'Takes what no day''s partition would, so that a settle never fails for want of one. maintain() empties it.';

-- ----------------------------------------------------------- dead letters

create table outbox.dead_letters (
  id           bigint      constraint dead_letters_pkey primary key,
  gateway      text        not null,
  priority     smallint    not null,
  recipient    text        not null,
  content      text        not null,
  metadata     jsonb       not null,
  dedupe_key   text,
  available_at timestamptz not null,
  expires_at   timestamptz,
  attempts     smallint    not null,
  claimed_by   int,
  claimed_at   timestamptz,
  last_error   text,
  traceparent  text,
  created_at   timestamptz not null,
  died_at      timestamptz not null,
  reason       outbox.dead_reason not null,
  http_status  int,
  error        text
);

comment on table outbox.dead_letters is 'Messages that ended without being sent, and why.';
comment on column outbox.dead_letters.id is 'The message''s id.';
comment on column outbox.dead_letters.gateway is 'The gateway it was for.';
comment on column outbox.dead_letters.priority is 'As inserted.';
comment on column outbox.dead_letters.recipient is 'As inserted.';
comment on column outbox.dead_letters.content is 'As inserted.';
comment on column outbox.dead_letters.metadata is 'As inserted.';
comment on column outbox.dead_letters.dedupe_key is 'As inserted.';
comment on column outbox.dead_letters.available_at is 'When its last attempt became due.';
comment on column outbox.dead_letters.expires_at is 'As inserted.';
comment on column outbox.dead_letters.attempts is 'Tries made.';
comment on column outbox.dead_letters.claimed_by is 'The relayer whose attempt was the last, if it died of one.';
comment on column outbox.dead_letters.claimed_at is 'When that relayer claimed it.';
comment on column outbox.dead_letters.last_error is 'What the last failed attempt showed.';
comment on column outbox.dead_letters.traceparent is 'As inserted.';
comment on column outbox.dead_letters.created_at is 'Start of the transaction that inserted it.';
comment on column outbox.dead_letters.died_at is 'When it ended.';
comment on column outbox.dead_letters.reason is 'Why it ended; see the domain outbox.dead_reason.';
comment on column outbox.dead_letters.http_status is 'The gateway''s last status, if it died of an answer.';
comment on column outbox.dead_letters.error is 'The same for a person, with the answer.';
comment on constraint dead_letters_pkey on outbox.dead_letters is 'A message dies once.';
comment on index outbox.dead_letters_pkey is 'Finds a dead letter by the message''s id.';

create index dead_letters_died_at on outbox.dead_letters (died_at, id);
comment on index outbox.dead_letters_died_at is 'The order in which messages died.';

-- --------------------------------------------------------------- attempts

create table outbox.attempts (
  message_id         bigint         not null,
  attempt            smallint       not null,
  gateway            text           not null,
  relayer            int            not null,
  outcome            outbox.outcome not null,
  http_status        int,
  gateway_message_id text,
  error              text,
  duration_ms        int,
  ended_at           timestamptz    not null
) partition by range (ended_at);

comment on table outbox.attempts is
  'Tries that did not end in accepted (every try where gateways.keep_attempts is all). Append-only; a partition for each day (UTC) of ended_at.';
comment on column outbox.attempts.message_id is 'The message tried.';
comment on column outbox.attempts.attempt is 'Which try it was. throttled and hold give the number back, so the next try has it again.';
comment on column outbox.attempts.gateway is 'Where it was sent.';
comment on column outbox.attempts.relayer is 'The number of the relayer that made it.';
comment on column outbox.attempts.outcome is 'What it showed; see the domain outbox.outcome.';
comment on column outbox.attempts.http_status is 'The answer''s status, if one came.';
comment on column outbox.attempts.gateway_message_id is 'The id the gateway gave, if it accepted.';
comment on column outbox.attempts.error is 'What went wrong, for a person, with the answer.';
comment on column outbox.attempts.duration_ms is 'How long it took; null when the relayer died of it.';
comment on column outbox.attempts.ended_at is 'When it was recorded.';

create index attempts_message on outbox.attempts (message_id, ended_at);
comment on index outbox.attempts_message is 'The tries of a message, in order.';

create table outbox.attempts_default partition of outbox.attempts default;
comment on table outbox.attempts_default is 'Takes what no day''s partition would. maintain() empties it.';

-- --------------------------------------------------------------- relayers

create table outbox.relayers (
  id           int         generated always as identity constraint relayers_pkey primary key,
  name         text        not null,
  version      text        not null,
  started_at   timestamptz not null default clock_timestamp(),
  heartbeat_at timestamptz not null default clock_timestamp()
);

comment on table outbox.relayers is 'Live processes. Each holds a session advisory lock on its number; when Postgres sees it gone, rescue() frees its claims.';
comment on column outbox.relayers.id is 'Its number; never used twice.';
comment on column outbox.relayers.name is 'Host and process id, for a person.';
comment on column outbox.relayers.version is 'The version it runs.';
comment on column outbox.relayers.started_at is 'When it took the number.';
comment on column outbox.relayers.heartbeat_at is 'When it was last heard of; about every second.';
comment on constraint relayers_pkey on outbox.relayers is 'A number is one process.';
comment on index outbox.relayers_pkey is 'Finds a relayer by its number.';

-- -------------------------------------------------------------- scheduler

create table outbox.scheduler (
  one_row      boolean     not null default true constraint scheduler_pkey primary key,
  running      boolean     not null default true,
  changed_at   timestamptz not null default now(),
  changed_by   text        not null default session_user,
  awake_until  timestamptz not null default '-infinity',
  last_tick    timestamptz not null default '-infinity',
  installation text        not null default substr(replace(gen_random_uuid()::text, '-', ''), 1, 12),
  constraint more_than_one_scheduler check (one_row),
  constraint installation_not_a_word check (installation ~ '^[a-z0-9]{1,32}$')
);

comment on table outbox.scheduler is 'One row: whether anything is relayed at all. outbox.pause(), resume() and toggle() change it for every relayer at once.';
comment on column outbox.scheduler.one_row is 'Always true, so that there is one row.';
comment on column outbox.scheduler.running is 'false: nothing is claimed, anywhere.';
comment on column outbox.scheduler.changed_at is 'When it was last paused or resumed.';
comment on column outbox.scheduler.changed_by is 'Who did.';
comment on column outbox.scheduler.awake_until is 'Until then some relayer looks by itself, so that an INSERT need not NOTIFY. A lease: a crash cannot leave it on.';
comment on column outbox.scheduler.last_tick is 'The last tick of the crontab that was relayed (relay.mode: scheduled).';
comment on column outbox.scheduler.installation is 'Makes ids unique among installations at one gateway: Idempotency-Key is msg_<installation>_<id>.';
comment on constraint scheduler_pkey on outbox.scheduler is 'There is one row.';
comment on constraint more_than_one_scheduler on outbox.scheduler is 'Refuses a second row.';
comment on constraint installation_not_a_word on outbox.scheduler is 'Refuses what could not stand in an HTTP header.';
comment on index outbox.scheduler_pkey is 'Finds the one row.';

-- ------------------------------------------------- dedupe keys and audit

create table outbox.dedupe_keys (
  dedupe_key text        constraint dedupe_key_seen_before primary key,
  message_id bigint      not null,
  expires_at timestamptz not null
);

comment on table outbox.dedupe_keys is 'Keys seen, each with its message, until expires_at; also after the message has left the outbox.';
comment on column outbox.dedupe_keys.dedupe_key is 'The key.';
comment on column outbox.dedupe_keys.message_id is 'The message that has it.';
comment on column outbox.dedupe_keys.expires_at is 'When it may be used again.';
comment on constraint dedupe_key_seen_before on outbox.dedupe_keys is 'Refuses a second message with the same key within the window.';
comment on index outbox.dedupe_key_seen_before is 'Finds a key.';
create index dedupe_keys_expires_at on outbox.dedupe_keys (expires_at);
comment on index outbox.dedupe_keys_expires_at is 'Which keys may be forgotten.';

create table outbox.audit (
  id      bigint      generated always as identity constraint audit_pkey primary key,
  at      timestamptz not null default clock_timestamp(),
  actor   text        not null,
  db_role text        not null default session_user,
  action  text        not null,
  target  text,
  affected bigint     not null default 1,
  details jsonb       not null default '{}'
);

comment on table outbox.audit is 'Every action of an operator, from SQL or REST. Append-only.';
comment on column outbox.audit.id is 'Their order.';
comment on column outbox.audit.at is 'When.';
comment on column outbox.audit.actor is 'Who: a database role, or the name the API knows the caller by.';
comment on column outbox.audit.db_role is 'The database role that was logged in.';
comment on column outbox.audit.action is 'What: pause, resume, …';
comment on column outbox.audit.target is 'On what: a gateway''s name, a message''s id; null: everything.';
comment on column outbox.audit.affected is 'How many things it changed.';
comment on column outbox.audit.details is 'The rest.';
comment on constraint audit_pkey on outbox.audit is 'An entry is one action.';
comment on index outbox.audit_pkey is 'Their order.';

-- -------------------------------------------------------------- functions

--!include functions/notify_relayers.sql
--!include functions/gateway_must_exist.sql
--!include functions/remember_key.sql
--!include functions/admit.sql
--!include functions/guard_gateway.sql
--!include functions/enqueue.sql
--!include functions/configure_gateway.sql
--!include functions/relayer_is_alive.sql
--!include functions/register_relayer.sql
--!include functions/heartbeat.sql
--!include functions/unregister_relayer.sql
--!include functions/stay_awake.sql
--!include functions/take_tick.sql
--!include functions/bury.sql
--!include functions/expire.sql
--!include functions/claim.sql
--!include functions/next_due.sql
--!include functions/retry_delay.sql
--!include functions/settle_lock.sql
--!include functions/settle.sql
--!include functions/sent_horizon.sql
--!include functions/release.sql
--!include functions/rescue.sql
--!include functions/pause.sql
--!include functions/resume.sql
--!include functions/toggle.sql
--!include functions/make_partitions.sql
--!include functions/drop_partitions.sql
--!include functions/maintain.sql

-- --------------------------------------------------------------- triggers

create trigger admit
  before insert on outbox.messages
  for each row
  -- The two columns that need a look-up are rarely set: without this condition every row would pay for it.
  when (new.gateway is distinct from 'default' or new.dedupe_key is not null)
  execute function outbox.admit();
comment on trigger admit on outbox.messages is 'Refuses unknown gateways and keys seen before.';

create trigger notify_relayers
  after insert on outbox.messages
  for each statement
  execute function outbox.notify_relayers();
comment on trigger notify_relayers on outbox.messages is 'Wakes the relayers at the commit, unless one is awake.';

create trigger guard_gateway
  before delete or update of name on outbox.gateways
  for each row
  execute function outbox.guard_gateway();
comment on trigger guard_gateway on outbox.gateways is 'Refuses to remove or rename a gateway that is in use.';

-- ------------------------------------------------------------------ views

--!include views/all_messages.sql
--!include views/backlog.sql
--!include views/health.sql

insert into outbox.scheduler default values;
insert into outbox.gateways (name) values ('default');
select outbox.maintain();
