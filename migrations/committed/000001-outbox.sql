--! Previous: -
--! Hash: sha1:3e46c68f7334cb16e51ff10d98c8c8029a06c54e
--! Message: Outbox

create schema outbox;
comment on schema outbox is
  'SMS messages on their way out. INSERT INTO outbox.messages (recipient, content) VALUES (''+905551234567'', ''hi'') in your own transaction and the relayer delivers it. Begin with: select * from outbox.health;';

-- ------------------------------------------------------------------ words

create domain outbox.outcome as text
  constraint not_an_outcome check (value in ('accepted', 'rejected', 'retry', 'throttled', 'unknown', 'hold'));
comment on domain outbox.outcome is
  'What one attempt showed. accepted: the gateway took it. rejected: it never will. retry: nothing was taken, try again. throttled: the gateway asks to be left alone for a while. unknown: it may or may not have been taken. hold: the account or the URL is at fault, every message would fail.';
comment on constraint not_an_outcome on domain outbox.outcome is 'Refuses any other word.';

create domain outbox.dead_reason as text
  constraint not_a_dead_reason check (value in ('rejected', 'exhausted', 'expired', 'cancelled', 'unknown_outcome'));
comment on domain outbox.dead_reason is
  'Why a message ended without being sent. rejected: by the gateway. exhausted: every attempt failed. expired: expires_at passed. cancelled: by a person. unknown_outcome: it may have been sent, and its gateway''s on_unknown is ''park''.';
comment on constraint not_a_dead_reason on domain outbox.dead_reason is 'Refuses any other word.';

--! Included functions/lock_key.sql
create or replace function outbox.lock_key(
  name text
) returns int
language sql immutable parallel safe as $$
  select hashtext('outbox:' || lock_key.name);
$$;

comment on function outbox.lock_key(text) is
  'The first key of our advisory locks, a different one for each purpose: ''claim'' (shared by claims, exclusive for pause), ''relayer'' (second key: its number), ''rescue'', ''maintain''.';
--! EndIncluded functions/lock_key.sql

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
  constraint hold_for_over_7_days         check (hold_for <= '7 days'),
  constraint max_delay_over_7_days        check (max_delay <= '7 days'),
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
comment on constraint hold_for_over_7_days on outbox.gateways is 'Refuses a hold that nobody would wait out.';
comment on constraint max_delay_over_7_days on outbox.gateways is 'Refuses a wait that nobody would wait out.';
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
comment on column outbox.relayers.heartbeat_at is 'When it was last heard of; about every second. -infinity: taken for dead, with claims that are still to be freed.';
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

--! Included functions/notify_relayers.sql
create or replace function outbox.notify_relayers() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
begin
  -- A NOTIFY takes a lock that lets one transaction commit at a time, so it is sent only when it is needed: not while a
  -- relayer looks by itself, nor while everything is paused (resume notifies). A row that slips between costs a poll.
  if not exists (
    select
    from outbox.scheduler
    where not scheduler.running
       or scheduler.awake_until > clock_timestamp()
  ) then
    perform pg_notify('outbox', 'insert');
  end if;
  return null;
end
$$;

comment on function outbox.notify_relayers() is
  'Trigger: NOTIFY on the channel outbox at the commit, unless a relayer is awake. A hint: losing one costs latency, never a message.';
--! EndIncluded functions/notify_relayers.sql
--! Included functions/gateway_must_exist.sql
create or replace function outbox.gateway_must_exist(
  gateway text
) returns void
language plpgsql stable as $$
begin
  if not exists (select from outbox.gateways where gateways.name = gateway_must_exist.gateway) then
    raise exception using
      errcode = 'OB001',
      message = format('unknown gateway "%s"', gateway_must_exist.gateway),
      hint = format('Known: %s. Add one with INSERT INTO outbox.gateways (name, url) VALUES (…).',
        (select string_agg(gateways.name, ', ' order by gateways.name) from outbox.gateways)),
      schema = 'outbox', table = 'messages', column = 'gateway', constraint = 'unknown_gateway';
  end if;
end
$$;

comment on function outbox.gateway_must_exist(text) is
  'Raises OB001 (constraint unknown_gateway), naming the gateways there are, if there is none of that name.';
--! EndIncluded functions/gateway_must_exist.sql
--! Included functions/remember_key.sql
create or replace function outbox.remember_key(
  dedupe_key text,
  message_id bigint,
  gateway    text
) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  owner bigint;
begin
  -- Between the two statements the key may be forgotten by maintain(); then it is free, and the next round takes it.
  while owner is null loop
    insert into outbox.dedupe_keys as seen (dedupe_key, message_id, expires_at)
    select remember_key.dedupe_key, remember_key.message_id, clock_timestamp() + gateways.dedupe_window
    from outbox.gateways
    where gateways.name = remember_key.gateway
    on conflict on constraint dedupe_key_seen_before do update
    set
      message_id = excluded.message_id,
      expires_at = excluded.expires_at
    where seen.expires_at <= clock_timestamp()
       or seen.message_id = excluded.message_id
    returning seen.message_id into owner;

    if owner is null then
      select dedupe_keys.message_id
      into owner
      from outbox.dedupe_keys
      where dedupe_keys.dedupe_key = remember_key.dedupe_key;
    end if;

    -- Without the gateway there is no window, and the key would be neither taken nor found, for ever.
    if owner is null then
      perform outbox.gateway_must_exist(remember_key.gateway);
    end if;
  end loop;
  return owner;
end
$$;

comment on function outbox.remember_key(text, bigint, text) is
  'Gives a dedupe_key to a message for the gateway''s dedupe_window, unless another message has it. Returns the id of the message that has it now. Raises OB001 for an unknown gateway.';
--! EndIncluded functions/remember_key.sql
--! Included functions/admit.sql
create or replace function outbox.admit() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  owner bigint;
begin
  if tg_op = 'INSERT' and (new.claimed_by is not null or new.attempts > 0) then
    raise exception using
      errcode = 'OB004',
      message = 'claimed_by, claimed_at and attempts are the relayers'' to set',
      schema = 'outbox', table = 'messages', column = 'claimed_by', constraint = 'claimed_at_insert';
  end if;

  perform outbox.gateway_must_exist(new.gateway);

  if new.dedupe_key is not null then
    owner := outbox.remember_key(new.dedupe_key, new.id, new.gateway);
    if owner <> new.id then
      raise exception using
        errcode = 'unique_violation',
        message = format('dedupe_key "%s" was used before', new.dedupe_key),
        detail = format('Message %s has it.', owner),
        hint = 'outbox.enqueue(…) returns the id of that message instead of failing.',
        schema = 'outbox', table = 'messages', column = 'dedupe_key', constraint = 'dedupe_key_seen_before';
    end if;
  end if;

  return new;
end
$$;

comment on function outbox.admit() is
  'Trigger: refuses a message that claims to be claimed or tried (OB004, constraint claimed_at_insert), one for an unknown gateway (OB001, constraint unknown_gateway) and one whose dedupe_key was used within the window (23505, constraint dedupe_key_seen_before).';
--! EndIncluded functions/admit.sql
--! Included functions/guard_gateway.sql
create or replace function outbox.guard_gateway() returns trigger
language plpgsql volatile as $$
begin
  -- Tools that write a row back name every column.
  if tg_op = 'UPDATE' and new.name = old.name then
    return new;
  end if;

  if old.name = 'default' or exists (select from outbox.messages where messages.gateway = old.name) then
    raise exception using
      errcode = 'OB003',
      message = case
        when old.name = 'default' then 'gateway "default" cannot be removed or renamed'
        else format('gateway "%s" still has messages in the outbox', old.name)
      end,
      hint = 'outbox.pause(gateway) stops it.';
  end if;
  return case when tg_op = 'DELETE' then old else new end;
end
$$;

comment on function outbox.guard_gateway() is
  'Trigger: refuses to remove or rename ''default'' and gateways that messages wait for (OB003).';
--! EndIncluded functions/guard_gateway.sql
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
language plpgsql volatile as $$
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
      enqueue.traceparent
    );
  end if;
  return owner;
end
$$;

comment on function outbox.enqueue(text, text, text, int, timestamptz, timestamptz, jsonb, text, text) is
  'Puts a message into the outbox, in your transaction, and returns its id; with a dedupe_key used within the window, the id of the message that has it. A plain INSERT does the same, but refuses a used key. Raises what the table refuses: 23514 with the name of the rule, OB001 for an unknown gateway.';
--! EndIncluded functions/enqueue.sql
--! Included functions/configure_gateway.sql
create or replace function outbox.configure_gateway(
  name     text,
  settings jsonb
) returns void
language plpgsql volatile as $$
begin
  insert into outbox.gateways (name)
  values (configure_gateway.name)
  on conflict on constraint gateways_pkey do nothing;

  update outbox.gateways
  set
    url          = named.url,
    concurrency  = named.concurrency,
    timeout      = named.timeout,
    max_attempts = named.max_attempts,
    base_delay   = named.base_delay,
    max_delay    = named.max_delay,
    jitter       = named.jitter,
    on_unknown   = named.on_unknown,
    hold_for     = named.hold_for
  from outbox.gateways as kept
  -- What the settings do not name stays as it is.
  cross join lateral jsonb_populate_record(kept, configure_gateway.settings) as named
  where kept.name = configure_gateway.name
    and gateways.name = configure_gateway.name
    and named is distinct from kept;
end
$$;

comment on function outbox.configure_gateway(text, jsonb) is
  'Writes what a relayer''s configuration names for a gateway; settings is an object of columns of outbox.gateways: url, concurrency, timeout, max_attempts, base_delay, max_delay, jitter, on_unknown, hold_for. Makes the gateway if there is none.';
--! EndIncluded functions/configure_gateway.sql
--! Included functions/relayer_is_alive.sql
create or replace function outbox.relayer_is_alive(
  relayer      int,
  heartbeat_at timestamptz,
  dead_after   interval    default '30 seconds',
  as_of        timestamptz default clock_timestamp()
) returns boolean
language sql volatile as $$
  select
    relayer_is_alive.heartbeat_at > relayer_is_alive.as_of - relayer_is_alive.dead_after
    -- Looked up rather than tried: a session gets a lock that it already holds.
    and exists (
      select
      from pg_catalog.pg_locks
      where pg_locks.locktype = 'advisory'
        and pg_locks.database = (select pg_database.oid from pg_catalog.pg_database where pg_database.datname = current_database())
        and pg_locks.objsubid = 2
        and pg_locks.classid::bigint = outbox.lock_key('relayer')::bigint & 4294967295
        and pg_locks.objid::bigint = relayer_is_alive.relayer
        and pg_locks.granted
    );
$$;

comment on function outbox.relayer_is_alive(int, timestamptz, interval, timestamptz) is
  'Whether a relayer holds its lock (Postgres frees it the moment the process is gone) and was heard of within dead_after (its host may be gone without closing the connection).';
--! EndIncluded functions/relayer_is_alive.sql
--! Included functions/register_relayer.sql
create or replace function outbox.register_relayer(
  name    text,
  version text
) returns int
language plpgsql volatile as $$
declare
  relayer int;
begin
  insert into outbox.relayers (name, version)
  values (register_relayer.name, register_relayer.version)
  returning relayers.id into relayer;

  -- Taken before the row can be seen, so that nobody ever sees a living relayer without its lock.
  perform pg_advisory_lock(outbox.lock_key('relayer'), relayer);
  return relayer;
end
$$;

comment on function outbox.register_relayer(text, text) is
  'Gives a relayer its number and locks it for this session, which must stay open for as long as the relayer lives.';
--! EndIncluded functions/register_relayer.sql
--! Included functions/heartbeat.sql
create or replace function outbox.heartbeat(
  relayer int,
  as_of   timestamptz default clock_timestamp()
) returns boolean
language sql volatile as $$
  with heard as (
    update outbox.relayers
    set heartbeat_at = heartbeat.as_of
    where relayers.id = heartbeat.relayer
      and relayers.heartbeat_at > '-infinity'
    returning 1
  )
  select exists (select from heard);
$$;

comment on function outbox.heartbeat(int, timestamptz) is
  'Says that a relayer is alive. false: it was taken for dead and its claims were rescued; it must register again.';
--! EndIncluded functions/heartbeat.sql
--! Included functions/unregister_relayer.sql
create or replace function outbox.unregister_relayer(
  relayer int
) returns void
language plpgsql volatile as $$
begin
  -- Waits for a claim of its own that is under way: what that claims would belong to a number that nobody rescues.
  perform from outbox.relayers where relayers.id = unregister_relayer.relayer for update;

  -- With claims left it stays registered: once its lock is free, rescue() frees them.
  delete from outbox.relayers
  where relayers.id = unregister_relayer.relayer
    and not exists (select from outbox.messages where messages.claimed_by = unregister_relayer.relayer);

  perform pg_advisory_unlock(outbox.lock_key('relayer'), unregister_relayer.relayer);
end
$$;

comment on function outbox.unregister_relayer(int) is
  'A relayer''s farewell, from the session that registered it.';
--! EndIncluded functions/unregister_relayer.sql
--! Included functions/stay_awake.sql
create or replace function outbox.stay_awake(
  lease interval,
  as_of timestamptz default clock_timestamp()
) returns void
language sql volatile as $$
  update outbox.scheduler
  set awake_until = stay_awake.as_of + stay_awake.lease
  where scheduler.awake_until < stay_awake.as_of + stay_awake.lease;
$$;

comment on function outbox.stay_awake(interval, timestamptz) is
  'Promises that a relayer looks by itself for the length of the lease, so that an INSERT need not NOTIFY.';
--! EndIncluded functions/stay_awake.sql
--! Included functions/take_tick.sql
create or replace function outbox.take_tick(
  tick timestamptz
) returns boolean
language sql volatile as $$
  with taken as (
    update outbox.scheduler
    set last_tick = take_tick.tick
    where scheduler.last_tick < take_tick.tick
    returning 1
  )
  select exists (select from taken);
$$;

comment on function outbox.take_tick(timestamptz) is
  'Whether this caller is the one to relay for a tick of the crontab (relay.mode: scheduled): true once for each tick, for the whole cluster, also when its job is run again.';
--! EndIncluded functions/take_tick.sql
--! Included functions/bury.sql
create or replace function outbox.bury(
  ids           bigint[],
  reasons       outbox.dead_reason[],
  http_statuses int[],
  errors        text[],
  as_of         timestamptz default clock_timestamp()
) returns int
language sql volatile
-- As in settle(): by id, whatever the statistics say. Hashed also when claim() calls it, which wants no hash for itself.
set enable_hashjoin = on
set enable_seqscan = off
set enable_bitmapscan = off
set enable_nestloop = off
set enable_mergejoin = off as $$
  with ending as (
    delete from outbox.messages
    using unnest(bury.ids, bury.reasons, bury.http_statuses, bury.errors) as verdict (id, reason, http_status, error)
    where messages.id = any (bury.ids)
      and messages.id = verdict.id
    returning messages.*, verdict.reason, verdict.http_status, verdict.error
  ), buried as (
    insert into outbox.dead_letters (
      id, gateway, priority, recipient, content, metadata, dedupe_key, available_at, expires_at, attempts, claimed_by,
      claimed_at, last_error, traceparent, created_at, died_at, reason, http_status, error
    )
    select
      id, gateway, priority, recipient, content, metadata, dedupe_key, available_at, expires_at, attempts, claimed_by,
      claimed_at, coalesce(error, last_error), traceparent, created_at, bury.as_of, reason, http_status, error
    from ending
    returning 1
  )
  select count(*)::int from buried;
$$;

comment on function outbox.bury(bigint[], outbox.dead_reason[], int[], text[], timestamptz) is
  'Moves messages to dead_letters; parallel arrays, one verdict a message. The caller has made sure that they are its to end. Returns how many it moved.';
--! EndIncluded functions/bury.sql
--! Included functions/expire.sql
create or replace function outbox.expire(
  gateway    text,
  batch_size int         default 1000,
  as_of      timestamptz default clock_timestamp()
) returns int
language plpgsql volatile as $$
declare
  expired bigint[];
begin
  expired := array(
    select messages.id
    from outbox.messages
    where messages.gateway = expire.gateway
      and messages.claimed_by is null
      and messages.expires_at <= expire.as_of
    order by messages.expires_at
    limit expire.batch_size
    for update skip locked
  );

  return outbox.bury(
    expired,
    array_fill('expired'::outbox.dead_reason, array[cardinality(expired)]),
    array_fill(null::int, array[cardinality(expired)]),
    array_fill(null::text, array[cardinality(expired)]),
    expire.as_of
  );
end
$$;

comment on function outbox.expire(text, int, timestamptz) is
  'Moves a gateway''s waiting messages whose expires_at has passed to dead_letters, at most batch_size. Returns how many.';
--! EndIncluded functions/expire.sql
--! Included functions/claim.sql
create or replace function outbox.claim(
  relayer    int,
  gateway    text,
  batch_size int,
  as_of      timestamptz default clock_timestamp()
) returns table (
  id            bigint,
  attempt       smallint,
  recipient     text,
  content       text,
  expires_in_ms bigint,
  traceparent   text,
  claimed_at    timestamptz
)
language plpgsql volatile
-- The plan is made once for a session and kept, often when the table is still empty. What reads well in an empty table
-- (a sequential scan, a hash of it) is quadratic work in a full one, so only the walk along the indexes is left.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off as $$
declare
  weights real[];
begin
  -- The pause barrier: pause() holds this lock exclusively while it changes the switch, and the switch is read in a later
  -- statement than the lock, so with a later snapshot. One statement for both would race.
  if not pg_try_advisory_xact_lock_shared(outbox.lock_key('claim')) then
    return;
  end if;

  -- Locked, so that rescue() cannot take the number away between this look and the claim.
  perform
  from outbox.relayers
  where relayers.id = claim.relayer
    and relayers.heartbeat_at > '-infinity'
  for key share;
  if not found then
    raise exception using
      errcode = 'OB002',
      message = format('relayer %s is not registered', claim.relayer),
      detail = 'It was taken for dead and its claims were rescued, or it never registered.';
  end if;

  select gateways.weights
  into weights
  from outbox.gateways
  where gateways.name = claim.gateway
    and not gateways.paused
    and (gateways.held_until is null or gateways.held_until <= claim.as_of)
    and exists (select from outbox.scheduler where scheduler.running);
  if not found then
    return;
  end if;

  if exists (
    select
    from outbox.messages
    where messages.gateway = claim.gateway
      and messages.claimed_by is null
      and messages.expires_at <= claim.as_of
  ) then
    perform outbox.expire(claim.gateway, claim.batch_size, claim.as_of);
  end if;

  return query
  -- Materialized: a nested loop that ran the limited, locking scan again for each row would lock more than it claims.
  with due as materialized (
    select
      level.priority,
      waiting.id,
      waiting.available_at,
      (row_number() over (partition by level.priority order by waiting.available_at, waiting.id) - level.start)
        / weights[level.priority + 1] as turn
    from (
      select priority, random() as start
      from unnest('{0,1,2}'::smallint[]) as level (priority)
    ) as level
    cross join lateral (
      select messages.id, messages.available_at
      from outbox.messages
      where messages.gateway = claim.gateway
        and messages.priority = level.priority
        and messages.claimed_by is null
        and messages.available_at <= claim.as_of
        and (messages.expires_at is null or messages.expires_at > claim.as_of)
      order by messages.available_at, messages.id
      limit claim.batch_size
      for update skip locked
    ) as waiting
  ), chosen as materialized (
    -- Weighted fair shares: each priority's n-th message has its turn at n ÷ weight, less a random start. Without that, a
    -- claim of fewer than 21 would never have room for bulk, and small claims are the rule while a gateway is slow.
    select due.id
    from due
    order by due.turn, due.priority
    limit claim.batch_size
  ), claimed as (
    update outbox.messages
    set
      claimed_by = claim.relayer,
      claimed_at = claim.as_of,
      attempts   = messages.attempts + 1
    -- An array, for a join could have the table on the outside.
    where messages.id = any (array(select chosen.id from chosen))
    returning messages.*
  )
  select
    claimed.id,
    claimed.attempts,
    claimed.recipient,
    claimed.content,
    (extract(epoch from claimed.expires_at - claim.as_of) * 1000)::bigint,
    claimed.traceparent,
    claimed.claimed_at
  from claimed
  order by claimed.priority, claimed.available_at, claimed.id;
end
$$;

comment on function outbox.claim(int, text, int, timestamptz) is
  'Gives a relayer the exclusive right to one attempt each at up to batch_size due messages of a gateway, and counts the attempt. Order: priority by the gateway''s weights, then available_at, then id. expires_in_ms is what is left until expires_at. Empty while paused or held. Raises OB002 if the relayer is not registered.';
--! EndIncluded functions/claim.sql
--! Included functions/next_due.sql
create or replace function outbox.next_due(
  gateway text,
  as_of   timestamptz default clock_timestamp()
) returns bigint
language sql volatile as $$
  select ceil(extract(epoch from greatest(min(earliest.available_at), gateways.held_until) - next_due.as_of) * 1000)::bigint
  from outbox.gateways
  cross join unnest('{0,1,2}'::smallint[]) as level (priority)
  cross join lateral (
    select messages.available_at
    from outbox.messages
    where messages.gateway = next_due.gateway
      and messages.priority = level.priority
      and messages.claimed_by is null
    order by messages.available_at, messages.id
    limit 1
  ) as earliest
  where gateways.name = next_due.gateway
    and not gateways.paused
    and exists (select from outbox.scheduler where scheduler.running)
  group by gateways.held_until;
$$;

comment on function outbox.next_due(text, timestamptz) is
  'Milliseconds until a gateway''s next message may be claimed, by this server''s clock; zero or less: now; null: nothing waits, or it is paused.';
--! EndIncluded functions/next_due.sql
--! Included functions/retry_delay.sql
create or replace function outbox.retry_delay(
  base_delay interval,
  max_delay  interval,
  jitter     real,
  attempt    int
) returns interval
language sql volatile as $$
  -- In seconds, and no interval before it is cut to max_delay: 2^30 times an hour is more than an interval holds.
  select make_interval(secs => least(
    extract(epoch from retry_delay.max_delay)::float8,
    extract(epoch from retry_delay.base_delay)::float8
      * power(2::float8, least(retry_delay.attempt - 1, 60))
      * (1 + retry_delay.jitter * (2 * random() - 1))
  ));
$$;

comment on function outbox.retry_delay(interval, interval, real, int) is
  'The wait after failed attempt number attempt (from 1): base_delay, doubled for each further one, plus or minus jitter, at most max_delay.';
--! EndIncluded functions/retry_delay.sql
--! Included functions/settle_lock.sql
create or replace function outbox.settle_lock(
  started_at timestamptz
) returns bigint
language sql immutable parallel safe as $$
  -- The upper bits tell our keys from other advisory locks, the lower 42 hold the milliseconds until the year 2109.
  select (710341::bigint << 42) | floor(extract(epoch from settle_lock.started_at) * 1000)::bigint;
$$;

comment on function outbox.settle_lock(timestamptz) is
  'The advisory lock that a settle holds to its commit: it carries the time at which the settle started, for sent_horizon() to read.';
--! EndIncluded functions/settle_lock.sql
--! Included functions/settle.sql
create or replace function outbox.settle(
  relayer             int,
  ids                 bigint[],
  attempts            smallint[],
  outcomes            outbox.outcome[],
  http_statuses       int[],
  gateway_message_ids text[],
  errors              text[],
  durations_ms        int[],
  retry_afters_ms     bigint[],
  claimed_ats         timestamptz[] default null,
  as_of               timestamptz default null,
  out settled_at      timestamptz,
  out sent            int,
  out stale           bigint[],
  out dead            bigint[],
  -- Not dead_reason[]: clients know arrays of text, but take an array of our domain for a string.
  out dead_reasons    text[]
)
language plpgsql volatile
-- Whatever the statistics say, and they may be of an empty table or from before anything was claimed: the rows are found by
-- id (the condition "= any (ids)", in the order of ids), and hashed. A nested loop could have the table on the outside, and
-- messages_in_flight all that is in flight; both are quadratic work.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_nestloop = off
set enable_mergejoin = off as $$
declare
  keep_all      boolean := exists (select from outbox.gateways where gateways.keep_attempts = 'all');
  others        bigint[] := '{}';
  dead_statuses int[];
  dead_errors   text[];
begin
  -- Held to the commit, taken before the time is read: see sent_horizon().
  perform pg_advisory_xact_lock_shared(outbox.settle_lock(clock_timestamp()));
  settled_at := coalesce(settle.as_of, clock_timestamp());
  stale := '{}';
  dead := '{}';
  dead_reasons := '{}';

  with accepted as (
    delete from outbox.messages
    using unnest(settle.ids, settle.attempts, settle.outcomes, settle.http_statuses, settle.gateway_message_ids, settle.durations_ms, settle.claimed_ats)
      as result (id, attempt, outcome, http_status, gateway_message_id, duration_ms, claimed_at)
    where messages.id = any (settle.ids)
      and messages.id = result.id
      and messages.attempts = result.attempt
      -- Not "=": that would let the planner go through the index on claimed_by.
      and messages.claimed_by is not distinct from settle.relayer
      and settle.relayer is not null
      -- An attempt that was given back has its number again at the next claim, which a late settle must not end.
      and messages.claimed_at = coalesce(result.claimed_at, messages.claimed_at)
      and result.outcome = 'accepted'
    returning messages.*, result.http_status, result.gateway_message_id, result.duration_ms
  ), recorded as (
    insert into outbox.attempts (
      message_id, attempt, gateway, relayer, outcome, http_status, gateway_message_id, duration_ms, ended_at
    )
    select
      accepted.id, accepted.attempts, accepted.gateway, settle.relayer, 'accepted', accepted.http_status,
      accepted.gateway_message_id, accepted.duration_ms, settled_at
    from accepted
    where keep_all
      and exists (select from outbox.gateways where gateways.name = accepted.gateway and gateways.keep_attempts = 'all')
  )
  insert into outbox.sent (
    id, gateway, priority, recipient, content, metadata, dedupe_key, available_at, expires_at, attempts, claimed_by,
    claimed_at, last_error, traceparent, created_at, sent_at, gateway_message_id, duration_ms
  )
  select
    accepted.id, accepted.gateway, accepted.priority, accepted.recipient, accepted.content, accepted.metadata,
    accepted.dedupe_key, accepted.available_at, accepted.expires_at, accepted.attempts, accepted.claimed_by,
    accepted.claimed_at, accepted.last_error, accepted.traceparent, accepted.created_at, settled_at,
    accepted.gateway_message_id, accepted.duration_ms
  from accepted;
  get diagnostics sent = row_count;

  if sent = cardinality(settle.ids) then
    return;
  end if;

  with mine as materialized (
    select
      messages.id, messages.gateway, result.attempt, result.outcome, result.http_status, result.gateway_message_id,
      result.error, result.duration_ms, make_interval(secs => result.retry_after_ms / 1000.0) as retry_after
    from unnest(settle.ids, settle.attempts, settle.outcomes, settle.http_statuses, settle.gateway_message_ids, settle.errors, settle.durations_ms, settle.retry_afters_ms, settle.claimed_ats)
      as result (id, attempt, outcome, http_status, gateway_message_id, error, duration_ms, retry_after_ms, claimed_at)
    join outbox.messages
      on messages.id = result.id
      and messages.attempts = result.attempt
      and messages.claimed_by is not distinct from settle.relayer
      and settle.relayer is not null
      and messages.claimed_at = coalesce(result.claimed_at, messages.claimed_at)
    where messages.id = any (settle.ids)
      and result.outcome <> 'accepted'
    for update of messages
  ), verdict as materialized (
    select
      mine.*,
      case
        when mine.outcome = 'rejected' then 'rejected'
        when mine.outcome = 'unknown' and gateways.on_unknown = 'park' then 'unknown_outcome'
        when mine.outcome in ('retry', 'unknown') and mine.attempt >= gateways.max_attempts then 'exhausted'
      end::outbox.dead_reason as reason,
      settled_at + case mine.outcome
        when 'throttled' then coalesce(mine.retry_after, '5 seconds')
        when 'hold' then gateways.hold_for
        else greatest(
          outbox.retry_delay(gateways.base_delay, gateways.max_delay, gateways.jitter, mine.attempt),
          mine.retry_after
        )
      end as next_at
    from mine
    join outbox.gateways on gateways.name = mine.gateway
  ), recorded as (
    insert into outbox.attempts (
      message_id, attempt, gateway, relayer, outcome, http_status, gateway_message_id, error, duration_ms, ended_at
    )
    select
      verdict.id, verdict.attempt, verdict.gateway, settle.relayer, verdict.outcome, verdict.http_status,
      verdict.gateway_message_id, verdict.error, verdict.duration_ms, settled_at
    from verdict
  ), returned as (
    update outbox.messages
    set
      claimed_by   = null,
      claimed_at   = null,
      -- The gateway's state, not the message, is at fault: the attempt is given back, and the message keeps its place.
      attempts     = messages.attempts - (verdict.outcome in ('throttled', 'hold'))::int,
      available_at = case when verdict.outcome in ('throttled', 'hold') then messages.available_at else verdict.next_at end,
      last_error   = verdict.error
    from verdict
    where messages.id = any (settle.ids)
      and messages.id = verdict.id
      and verdict.reason is null
  ), held as (
    update outbox.gateways
    set
      held_until  = fault.next_at,
      hold_reason = fault.outcome,
      hold_detail = fault.error
    from (
      select distinct on (verdict.gateway) verdict.gateway, verdict.outcome, verdict.error, verdict.next_at
      from verdict
      where verdict.outcome in ('throttled', 'hold')
      order by verdict.gateway, verdict.next_at desc
    ) as fault
    where gateways.name = fault.gateway
      -- A hold that lasts longer keeps its own reason.
      and (gateways.held_until is null or gateways.held_until < fault.next_at)
  )
  select
    coalesce(array_agg(verdict.id), '{}'),
    coalesce(array_agg(verdict.id) filter (where verdict.reason is not null), '{}'),
    coalesce(array_agg(verdict.reason::text) filter (where verdict.reason is not null), '{}'),
    array_agg(verdict.http_status) filter (where verdict.reason is not null),
    array_agg(verdict.error) filter (where verdict.reason is not null)
  into others, dead, dead_reasons, dead_statuses, dead_errors
  from verdict;

  if cardinality(dead) > 0 then
    perform outbox.bury(dead, dead_reasons::outbox.dead_reason[], dead_statuses, dead_errors, settled_at);
  end if;

  if sent + cardinality(others) < cardinality(settle.ids) then
    stale := array(
      select result.id
      from unnest(settle.ids, settle.outcomes) as result (id, outcome)
      where case
        when result.outcome = 'accepted'
          then not exists (select from outbox.sent where sent.sent_at = settled_at and sent.id = result.id)
        else result.id <> all (others)
      end
    );
  end if;
end
$$;

comment on function outbox.settle(int, bigint[], smallint[], outbox.outcome[], int[], text[], text[], int[], bigint[], timestamptz[], timestamptz) is
  'Records what attempts showed, all of them or none; parallel arrays, one element an attempt, ids sorted. accepted: to sent. rejected, or the last of max_attempts: to dead_letters. retry and unknown: back, after retry_delay or a longer Retry-After. throttled and hold: back at once and uncounted, and the gateway is held. Only claims that are still this relayer''s, with this attempt number and (unless null) this claimed_at, change; the ids of the others come back as stale. as_of null means now.';
--! EndIncluded functions/settle.sql
--! Included functions/sent_horizon.sql
create or replace function outbox.sent_horizon() returns timestamptz
language plpgsql volatile as $$
declare
  now_at  timestamptz := clock_timestamp(); -- before the locks are read: a settle that is not among them stamps later
  oldest  bigint;
begin
  select min((pg_locks.classid::bigint << 32) | pg_locks.objid::bigint)
  into oldest
  from pg_catalog.pg_locks
  where pg_locks.locktype = 'advisory'
    and pg_locks.database = (select pg_database.oid from pg_catalog.pg_database where pg_database.datname = current_database())
    and pg_locks.objsubid = 1
    and (pg_locks.classid::bigint << 32) | pg_locks.objid::bigint >= outbox.settle_lock('epoch')
    and (pg_locks.classid::bigint << 32) | pg_locks.objid::bigint <= outbox.settle_lock(now_at);

  return least(now_at, to_timestamp((oldest - outbox.settle_lock('epoch')) / 1000.0));
end
$$;

comment on function outbox.sent_horizon() is
  'No row of outbox.sent will ever appear before this time that is not there already. Read it in a statement of its own, then read rows with sent_at below it in a later one.';
--! EndIncluded functions/sent_horizon.sql
--! Included functions/release.sql
create or replace function outbox.release(
  relayer int,
  ids     bigint[]
) returns int
language sql volatile
-- As in settle(): by id, whatever the statistics say.
set enable_seqscan = off
set enable_bitmapscan = off as $$
  with released as (
    update outbox.messages
    set
      claimed_by = null,
      claimed_at = null,
      attempts   = messages.attempts - 1
    where messages.id = any (release.ids)
      and messages.claimed_by is not distinct from release.relayer
      and release.relayer is not null
    returning 1
  ), hint as (
    -- Another relayer may have room for them.
    select pg_notify('outbox', 'release')
    from (select from released limit 1) as any_released
  )
  select count(*)::int
  from released
  left join hint on true;
$$;

comment on function outbox.release(int, bigint[]) is
  'Gives back claims that were never sent, uncounted; ids sorted. Returns how many were still the relayer''s.';
--! EndIncluded functions/release.sql
--! Included functions/disown.sql
create or replace function outbox.disown(
  relayer int,
  gateway text,
  known   bigint[]
) returns int
language plpgsql volatile as $$
begin
  return outbox.release(
    disown.relayer,
    array(
      select messages.id
      from outbox.messages
      where messages.claimed_by = disown.relayer
        and messages.gateway = disown.gateway
      except
      select unnest(disown.known)
      order by 1
    )
  );
end
$$;

comment on function outbox.disown(int, text, bigint[]) is
  'Gives back, uncounted, the relayer''s claims at a gateway that it does not know of: those of a claim whose answer was lost, which nobody would ever send and no rescue would free. known: the ids it does know. Returns how many.';
--! EndIncluded functions/disown.sql
--! Included functions/rescue.sql
create or replace function outbox.rescue(
  dead_after  interval    default '30 seconds',
  as_of       timestamptz default clock_timestamp(),
  out relayer int,
  out name    text,
  out rescued int
) returns setof record
language plpgsql volatile as $$
declare
  gone      int[];
  ids       bigint[];
  reasons   outbox.dead_reason[];
  errors    text[];
begin
  if not pg_try_advisory_xact_lock(outbox.lock_key('rescue')) then
    return;
  end if;

  gone := array(
    select relayers.id
    from outbox.relayers
    where not outbox.relayer_is_alive(relayers.id, relayers.heartbeat_at, rescue.dead_after, rescue.as_of)
  );
  if cardinality(gone) = 0 then
    return;
  end if;

  -- Waits for a claim of theirs that is under way; after it none can come, and the next statement sees it.
  perform from outbox.relayers where relayers.id = any (gone) order by relayers.id for update;

  with freed as materialized (
    select messages.id, messages.gateway, messages.attempts, messages.claimed_by
    from outbox.messages
    where messages.claimed_by = any (gone)
    order by messages.id
    -- What is locked is being settled, or held by a person. Waiting for it could deadlock with a settle, which locks what
    -- was accepted before the rest, and would keep all other claims waiting.
    for update skip locked
  ), verdict as materialized (
    select
      freed.*,
      format('claimed by relayer %s (%s), which died; outcome unknown', relayers.id, relayers.name) as error,
      case
        when gateways.on_unknown = 'park' then 'unknown_outcome'
        when freed.attempts >= gateways.max_attempts then 'exhausted'
      end::outbox.dead_reason as reason
    from freed
    join outbox.gateways on gateways.name = freed.gateway
    join outbox.relayers on relayers.id = freed.claimed_by
  ), recorded as (
    insert into outbox.attempts (message_id, attempt, gateway, relayer, outcome, error, ended_at)
    select verdict.id, verdict.attempts, verdict.gateway, verdict.claimed_by, 'unknown', verdict.error, rescue.as_of
    from verdict
  ), returned as (
    update outbox.messages
    set
      claimed_by = null,
      claimed_at = null,
      last_error = verdict.error
    from verdict
    where messages.id = verdict.id
      and verdict.reason is null
  )
  select array_agg(verdict.id), array_agg(verdict.reason), array_agg(verdict.error)
  into ids, reasons, errors
  from verdict
  where verdict.reason is not null;

  if ids is not null then
    perform outbox.bury(ids, reasons, array_fill(null::int, array[cardinality(ids)]), errors, rescue.as_of);
  end if;

  perform pg_notify('outbox', 'rescue');

  -- A number with claims left, which were locked, stays for the next rescue; but it is never heard of again.
  update outbox.relayers set heartbeat_at = '-infinity' where relayers.id = any (gone);

  return query
  with removed as (
    delete from outbox.relayers
    where relayers.id = any (gone)
      and not exists (select from outbox.messages where messages.claimed_by = relayers.id)
    returning relayers.id
  ), counted as (
    select
      relayers.id,
      relayers.name,
      (
        select count(*)::int
        from outbox.attempts
        where attempts.ended_at = rescue.as_of
          and attempts.relayer = relayers.id
      ) as claims
    from outbox.relayers
    where relayers.id = any (gone)
  )
  select counted.id, counted.name, counted.claims
  from counted
  where counted.claims > 0
     or counted.id in (select removed.id from removed)
  order by counted.id;
end
$$;

comment on function outbox.rescue(interval, timestamptz) is
  'Frees the claims of relayers that are gone, at once claimable again (parked or exhausted where the gateway''s policy says so), and forgets those relayers. The attempts stay counted and are on record as unknown. Any relayer runs it, each second; two at a time do it once. Never waits for a claim that is locked: the next run frees it, unless it was being settled. Returns who was gone, and how many claims it freed.';
--! EndIncluded functions/rescue.sql
--! Included functions/pause.sql
create or replace function outbox.pause(
  gateway text default null,
  actor   text default session_user
) returns boolean
language plpgsql volatile as $$
declare
  changed boolean;
begin
  -- The barrier: waits for the claims that are under way, and no claim begins until this commits.
  perform pg_advisory_xact_lock(outbox.lock_key('claim'));

  if pause.gateway is null then
    update outbox.scheduler
    set running = false, changed_at = clock_timestamp(), changed_by = pause.actor
    where scheduler.running;
    changed := found;
  else
    perform outbox.gateway_must_exist(pause.gateway);
    update outbox.gateways
    set paused = true
    where gateways.name = pause.gateway
      and not gateways.paused;
    changed := found;
  end if;

  insert into outbox.audit (actor, action, target, affected)
  values (pause.actor, 'pause', pause.gateway, changed::int);
  perform pg_notify('outbox', 'pause');
  return changed;
end
$$;

comment on function outbox.pause(text, text) is
  'Stops claiming, everywhere or for one gateway, until resume. A barrier: once it has committed, no relayer claims; what is in flight is settled. Returns whether it changed anything. Raises OB001 for an unknown gateway.';
--! EndIncluded functions/pause.sql
--! Included functions/resume.sql
create or replace function outbox.resume(
  gateway text default null,
  actor   text default session_user
) returns boolean
language plpgsql volatile as $$
declare
  changed boolean;
begin
  perform pg_advisory_xact_lock(outbox.lock_key('claim'));

  if resume.gateway is null then
    update outbox.scheduler
    set running = true, changed_at = clock_timestamp(), changed_by = resume.actor
    where not scheduler.running;
    changed := found;
  else
    perform outbox.gateway_must_exist(resume.gateway);
    update outbox.gateways
    set paused = false, held_until = null, hold_reason = null, hold_detail = null
    where gateways.name = resume.gateway
      and (gateways.paused or gateways.held_until is not null);
    changed := found;
  end if;

  insert into outbox.audit (actor, action, target, affected)
  values (resume.actor, 'resume', resume.gateway, changed::int);
  perform pg_notify('outbox', 'resume');
  return changed;
end
$$;

comment on function outbox.resume(text, text) is
  'Undoes pause, everywhere or for one gateway; for a gateway it also ends a hold. Returns whether it changed anything. Raises OB001 for an unknown gateway.';
--! EndIncluded functions/resume.sql
--! Included functions/toggle.sql
create or replace function outbox.toggle(
  actor text default session_user
) returns boolean
language plpgsql volatile as $$
begin
  -- Two toggles at once take turns: each turns over what the other left.
  perform pg_advisory_xact_lock(outbox.lock_key('claim'));
  if (select scheduler.running from outbox.scheduler) then
    perform outbox.pause(actor => toggle.actor);
    return false;
  end if;
  perform outbox.resume(actor => toggle.actor);
  return true;
end
$$;

comment on function outbox.toggle(text) is
  'Pauses if running, resumes if paused. Returns whether it runs now.';
--! EndIncluded functions/toggle.sql
--! Included functions/make_partitions.sql
create or replace function outbox.make_partitions(
  parent    text,
  key       text,
  as_of     timestamptz default clock_timestamp()
) returns setof text
language plpgsql volatile
set lock_timeout = '2s' as $$
declare
  spare   text := parent || '_default';
  day     date;
  starts  timestamptz;
  ends    timestamptz;
  made    text;
begin
  for day in execute format(
    $query$
      select distinct missing.day
      from (
        select ($1 at time zone 'UTC')::date + ahead as day from generate_series(0, 7) as ahead
        union
        select (%2$I.%3$I at time zone 'UTC')::date from outbox.%2$I
      ) as missing
      where to_regclass(format('outbox.%1$s_%%s', to_char(missing.day, 'YYYYMMDD'))) is null
      order by missing.day
    $query$, parent, spare, key) using as_of
  loop
    starts := day::timestamp at time zone 'UTC';
    ends := (day + 1)::timestamp at time zone 'UTC';
    made := format('%s_%s', parent, to_char(day, 'YYYYMMDD'));

    -- Made apart and attached: creating it in place would lock the whole table against every reader and writer.
    execute format('lock table outbox.%I in access exclusive mode', spare);
    execute format('create table outbox.%I (like outbox.%I including defaults including constraints including comments)', made, parent);
    execute format('comment on table outbox.%I is %L', made, format('Partition of outbox.%s for %s (UTC).', parent, day));
    execute format(
      'with moved as (delete from outbox.%1$I where %2$I >= %3$L and %2$I < %4$L returning *) insert into outbox.%5$I select * from moved',
      spare, key, starts, ends, made);
    execute format('alter table outbox.%I attach partition outbox.%I for values from (%L) to (%L)', parent, made, starts, ends);
    return next format('made outbox.%s', made);
  end loop;
exception
  when lock_not_available then
    -- A long query holds the spare partition, which meanwhile takes what comes: nothing waits, and the next run tries again.
    return next format('outbox.%s is busy: partitions are made next time', spare);
end
$$;

comment on function outbox.make_partitions(text, text, timestamptz) is
  'Makes the partitions of outbox.sent or outbox.attempts for today and the next 7 days (UTC), and for each day found in the default partition, whose rows it moves. parent: the table; key: its partition column. Returns what it did.';
--! EndIncluded functions/make_partitions.sql
--! Included functions/drop_partitions.sql
create or replace function outbox.drop_partitions(
  parent text,
  keep   interval,
  as_of  timestamptz default clock_timestamp()
) returns setof text
language plpgsql volatile
set lock_timeout = '2s' as $$
declare
  old text;
begin
  for old in
    select child.relname
    from pg_catalog.pg_inherits
    join pg_catalog.pg_class as child on child.oid = pg_inherits.inhrelid
    where pg_inherits.inhparent = format('outbox.%I', parent)::regclass
      and child.relname ~ '_\d{8}$'
      and (to_date(right(child.relname, 8), 'YYYYMMDD') + 1)::timestamp at time zone 'UTC' <= as_of - keep
    order by child.relname
  loop
    -- One by one: what a failure undoes must not have been returned as done.
    begin
      execute format('drop table outbox.%I', old);
      return next format('dropped outbox.%s', old);
    exception
      when lock_not_available then
        return next format('outbox.%s is busy: old partitions are dropped next time', parent);
        return;
    end;
  end loop;
end
$$;

comment on function outbox.drop_partitions(text, interval, timestamptz) is
  'Drops the partitions of outbox.sent or outbox.attempts whose whole day is older than keep. Returns what it did.';
--! EndIncluded functions/drop_partitions.sql
--! Included functions/maintain.sql
create or replace function outbox.maintain(
  sent_kept         interval    default '90 days',
  attempts_kept     interval    default '30 days',
  dead_letters_kept interval    default null,
  audit_kept        interval    default null,
  as_of             timestamptz default clock_timestamp()
) returns setof text
language plpgsql volatile as $$
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

  return query select outbox.make_partitions('sent', 'sent_at', maintain.as_of);
  return query select outbox.make_partitions('attempts', 'ended_at', maintain.as_of);
  -- Last, for their locks last until the commit.
  return query select outbox.drop_partitions('sent', maintain.sent_kept, maintain.as_of);
  return query select outbox.drop_partitions('attempts', maintain.attempts_kept, maintain.as_of);
end
$$;

comment on function outbox.maintain(interval, interval, interval, interval, timestamptz) is
  'Housekeeping, run by the relayers every few minutes: expires what waits past its time, makes the coming days'' partitions and empties the default ones, forgets dedupe keys, drops what is older than kept (null: for ever). Two at a time do it once. Returns what it did.';
--! EndIncluded functions/maintain.sql

-- --------------------------------------------------------------- triggers

create trigger admit
  before insert on outbox.messages
  for each row
  -- What needs a closer look is rare: without this condition every row would pay for it.
  when (new.gateway is distinct from 'default' or new.dedupe_key is not null or new.claimed_by is not null or new.attempts > 0)
  execute function outbox.admit();
comment on trigger admit on outbox.messages is 'Refuses unknown gateways, keys seen before, and claims that no relayer made.';

create trigger admit_change
  before update of gateway, dedupe_key on outbox.messages
  for each row
  when (new.gateway is distinct from old.gateway or new.dedupe_key is distinct from old.dedupe_key)
  execute function outbox.admit();
comment on trigger admit_change on outbox.messages is 'The same for a message that a person moves to another gateway, or gives another key.';

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

--! Included views/all_messages.sql
create or replace view outbox.all_messages as
select
  messages.id,
  case when messages.claimed_by is null then 'pending' else 'sending' end as status,
  messages.gateway, messages.priority, messages.recipient, messages.content, messages.metadata, messages.dedupe_key,
  messages.attempts, messages.available_at, messages.expires_at, messages.claimed_by, messages.claimed_at,
  messages.last_error, messages.traceparent, messages.created_at,
  null::timestamptz as sent_at, null::text as gateway_message_id, null::int as duration_ms,
  null::timestamptz as died_at, null::text as reason, null::int as http_status, null::text as error
from outbox.messages
union all
select
  sent.id,
  'sent',
  sent.gateway, sent.priority, sent.recipient, sent.content, sent.metadata, sent.dedupe_key,
  sent.attempts, sent.available_at, sent.expires_at, sent.claimed_by, sent.claimed_at,
  sent.last_error, sent.traceparent, sent.created_at,
  sent.sent_at, sent.gateway_message_id, sent.duration_ms,
  null, null, null, null
from outbox.sent
union all
select
  dead_letters.id,
  case when dead_letters.reason in ('expired', 'cancelled') then dead_letters.reason::text else 'failed' end,
  dead_letters.gateway, dead_letters.priority, dead_letters.recipient, dead_letters.content, dead_letters.metadata, dead_letters.dedupe_key,
  dead_letters.attempts, dead_letters.available_at, dead_letters.expires_at, dead_letters.claimed_by, dead_letters.claimed_at,
  dead_letters.last_error, dead_letters.traceparent, dead_letters.created_at,
  null, null, null,
  dead_letters.died_at, dead_letters.reason::text, dead_letters.http_status, dead_letters.error
from outbox.dead_letters;

comment on view outbox.all_messages is
  'Every message, wherever it stands. status: pending (waits), sending (claimed), sent, failed (rejected, exhausted, unknown_outcome), expired, cancelled. Ask by id; a question about many goes faster to the table itself.';
comment on column outbox.all_messages.id is 'The message''s id.';
comment on column outbox.all_messages.status is 'pending, sending, sent, failed, expired or cancelled.';
comment on column outbox.all_messages.gateway is 'Its gateway.';
comment on column outbox.all_messages.priority is '0, 1 or 2.';
comment on column outbox.all_messages.recipient is 'E.164.';
comment on column outbox.all_messages.content is 'The text.';
comment on column outbox.all_messages.metadata is 'The producer''s.';
comment on column outbox.all_messages.dedupe_key is 'The producer''s.';
comment on column outbox.all_messages.attempts is 'Tries begun.';
comment on column outbox.all_messages.available_at is 'Due since, or due at.';
comment on column outbox.all_messages.expires_at is 'Never sent after.';
comment on column outbox.all_messages.claimed_by is 'The relayer that has or had it.';
comment on column outbox.all_messages.claimed_at is 'Since when.';
comment on column outbox.all_messages.last_error is 'What the last failed attempt showed.';
comment on column outbox.all_messages.traceparent is 'W3C trace context.';
comment on column outbox.all_messages.created_at is 'When it was inserted.';
comment on column outbox.all_messages.sent_at is 'When it was recorded as sent.';
comment on column outbox.all_messages.gateway_message_id is 'The id the gateway gave it.';
comment on column outbox.all_messages.duration_ms is 'How long the successful attempt took.';
comment on column outbox.all_messages.died_at is 'When it ended unsent.';
comment on column outbox.all_messages.reason is 'Why it ended unsent; see outbox.dead_reason.';
comment on column outbox.all_messages.http_status is 'The gateway''s last status, if it ended unsent.';
comment on column outbox.all_messages.error is 'The same for a person.';
--! EndIncluded views/all_messages.sql
--! Included views/backlog.sql
create or replace view outbox.backlog as
select
  messages.gateway,
  messages.priority,
  count(*) filter (where messages.claimed_by is null and messages.available_at <= now()) as due,
  count(*) filter (where messages.claimed_by is null and messages.available_at > now()) as scheduled,
  count(*) filter (where messages.claimed_by is not null) as in_flight,
  date_trunc('milliseconds', now() - min(messages.available_at) filter (where messages.claimed_by is null and messages.available_at <= now())) as oldest_due_age,
  min(messages.available_at) filter (where messages.claimed_by is null and messages.available_at > now()) as next_scheduled_at
from outbox.messages
group by messages.gateway, messages.priority
order by messages.gateway, messages.priority;

comment on view outbox.backlog is 'What is not finished, for each gateway and priority. It reads the outbox, never the history.';
comment on column outbox.backlog.gateway is 'The gateway.';
comment on column outbox.backlog.priority is '0, 1 or 2.';
comment on column outbox.backlog.due is 'Could be claimed now, were the gateway neither paused nor held.';
comment on column outbox.backlog.scheduled is 'Due later: scheduled, or waiting between attempts.';
comment on column outbox.backlog.in_flight is 'Claimed.';
comment on column outbox.backlog.oldest_due_age is 'How long the oldest due one has been due.';
comment on column outbox.backlog.next_scheduled_at is 'When the next scheduled one becomes due.';
--! EndIncluded views/backlog.sql
--! Included views/health.sql
create or replace view outbox.health as
select
  scheduler.running,
  scheduler.changed_at,
  scheduler.changed_by,
  (
    select count(*)
    from outbox.relayers
    where outbox.relayer_is_alive(relayers.id, relayers.heartbeat_at)
  ) as relayers_alive,
  waiting.due,
  waiting.scheduled,
  waiting.in_flight,
  waiting.oldest_due_age,
  (select count(*) from outbox.sent where sent.sent_at > now() - interval '1 minute') as sent_last_minute,
  (select count(*) from outbox.dead_letters where dead_letters.died_at > now() - interval '1 minute') as dead_last_minute,
  (
    select coalesce(array_agg(gateways.name order by gateways.name), '{}')
    from outbox.gateways
    where gateways.paused or gateways.held_until > now()
  ) as stopped_gateways
from outbox.scheduler
cross join (
  select
    coalesce(sum(backlog.due), 0)::bigint as due,
    coalesce(sum(backlog.scheduled), 0)::bigint as scheduled,
    coalesce(sum(backlog.in_flight), 0)::bigint as in_flight,
    max(backlog.oldest_due_age) as oldest_due_age
  from outbox.backlog
) as waiting;

comment on view outbox.health is
  'One row: is it running, who relays, what waits and for how long, what happened in the last minute, which gateways are paused or held.';
comment on column outbox.health.running is 'false: paused, nothing is claimed.';
comment on column outbox.health.changed_at is 'When it was paused or resumed last.';
comment on column outbox.health.changed_by is 'By whom.';
comment on column outbox.health.relayers_alive is 'Relayers that hold their lock and were heard of within 30 s.';
comment on column outbox.health.due is 'Messages that wait and are due.';
comment on column outbox.health.scheduled is 'Messages that wait for their time.';
comment on column outbox.health.in_flight is 'Messages that are claimed.';
comment on column outbox.health.oldest_due_age is 'How long the oldest due message has been due.';
comment on column outbox.health.sent_last_minute is 'Messages sent within the last minute.';
comment on column outbox.health.dead_last_minute is 'Messages that ended unsent within the last minute.';
comment on column outbox.health.stopped_gateways is 'Gateways that are paused or held.';
--! EndIncluded views/health.sql

insert into outbox.scheduler default values;
insert into outbox.gateways (name) values ('default');
select outbox.maintain();
