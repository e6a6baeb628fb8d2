--! Previous: sha1:ed27f077b47c536606501f6df38222c4c1677c02
--! Hash: sha1:6c1781262dd93b8e888e86eb7ad672f0bf2bbe55
--! Message: Operators over REST

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

-- ----------------------------------------------------------------- views

--! Included views/gateway_status.sql
create or replace view outbox.gateway_status as
select
  gateways.name as gateway,
  case
    when gateways.paused then 'paused'
    when gateways.circuit = 'half_open' and gateways.held_until > now() then 'probing'
    when gateways.held_until > now() then gateways.hold_reason
    when gateways.circuit <> 'closed' then 'probe_due'
    else 'relaying'
  end as state,
  case when gateways.held_until > now() then gateways.held_until end as held_until,
  gateways.hold_reason,
  gateways.hold_detail,
  gateways.circuit,
  nullif(gateways.circuit_changed_at, '-infinity') as circuit_changed_at,
  gateways.run_of_failures,
  gateways.rate_per_second,
  floor(outbox.tokens(gateways))::int as tokens,
  coalesce(waiting.due, 0) as due,
  coalesce(waiting.scheduled, 0) as scheduled,
  coalesce(waiting.in_flight, 0) as in_flight,
  waiting.oldest_due_age,
  gateways.url,
  gateways.paused,
  gateways.concurrency,
  gateways.max_attempts,
  coalesce(lately.sent, 0) as sent_last_minute,
  coalesce(lately.failures, 0) as failures_last_minute
from outbox.gateways
left join (
  select
    backlog.gateway,
    sum(backlog.due)::bigint as due,
    sum(backlog.scheduled)::bigint as scheduled,
    sum(backlog.in_flight)::bigint as in_flight,
    max(backlog.oldest_due_age) as oldest_due_age
  from outbox.backlog
  group by backlog.gateway
) as waiting on waiting.gateway = gateways.name
left join (
  -- Each gateway has one row of it anyway. Grouped, Postgres knows so, and counts nothing for who does not ask for these two.
  select
    tally.gateway,
    max(tally.sent) as sent,
    max(tally.rejected + tally.retry + tally.throttled + tally.unknown + tally.hold) as failures
  from outbox.tally(now() - interval '1 minute', 'infinity') as tally
  group by tally.gateway
) as lately on lately.gateway = gateways.name
order by gateways.name;

comment on view outbox.gateway_status is 'Each gateway: is it relayed to, if not why and until when, what waits for it, and how it does. outbox.resume(gateway) ends a pause and a hold.';
comment on column outbox.gateway_status.gateway is 'Its name.';
comment on column outbox.gateway_status.state is 'relaying; paused (by a person); throttled, hold or circuit_open (until held_until, see hold_reason); probe_due (the next messages are a probe); probing (a probe is under way).';
comment on column outbox.gateway_status.held_until is 'Nothing is claimed for it before this time.';
comment on column outbox.gateway_status.hold_reason is 'throttled: it asked to be left alone. hold: its answer faults the account or the URL. circuit_open: it fails.';
comment on column outbox.gateway_status.hold_detail is 'The answer or the failures that led to the hold.';
comment on column outbox.gateway_status.circuit is 'closed, open or half_open.';
comment on column outbox.gateway_status.circuit_changed_at is 'Since when.';
comment on column outbox.gateway_status.run_of_failures is 'Failures since the last attempt that passed.';
comment on column outbox.gateway_status.rate_per_second is 'The most POSTs a second for all relayers together; null: no limit.';
comment on column outbox.gateway_status.tokens is 'With a rate: how many could go now.';
comment on column outbox.gateway_status.due is 'Messages that wait for it and are due.';
comment on column outbox.gateway_status.scheduled is 'Messages for it that wait for their time.';
comment on column outbox.gateway_status.in_flight is 'Messages for it that are claimed.';
comment on column outbox.gateway_status.oldest_due_age is 'How long the oldest due one has been due.';
comment on column outbox.gateway_status.url is 'Where its messages are POSTed.';
comment on column outbox.gateway_status.paused is 'A person paused it; state says so too, but this also while it is held besides.';
comment on column outbox.gateway_status.concurrency is 'The most POSTs one relayer keeps in flight.';
comment on column outbox.gateway_status.max_attempts is 'Attempts before a message is a dead letter.';
comment on column outbox.gateway_status.sent_last_minute is 'Messages it took within the last minute.';
comment on column outbox.gateway_status.failures_last_minute is 'Attempts within the last minute that it did not accept; see failures.';
--! EndIncluded views/gateway_status.sql
