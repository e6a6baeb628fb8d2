--! Previous: sha1:53e29bb11af8d20d5853360b82fc34ac4251e3f3
--! Hash: sha1:dfca135cad3771950c472fb1c3f4eb81791024cc
--! Message: Plan next_due once

--! Included functions/next_due.sql
create or replace function outbox.next_due(
  gateway  text,
  as_of    timestamptz   default clock_timestamp(),
  after_at timestamptz[] default null,
  after_id bigint[]      default null
) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- As in claim(): one plan for good, along the index, also when the table was empty as it was made. (A function in plain SQL would
-- be planned at each call, which takes several times as long as to execute it.)
set jit = off
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off as $$
begin
  return (
    select ceil(extract(epoch from greatest(
      min(earliest.available_at),
      gateways.held_until,
      -- Not for each token: what comes within 50 ms is claimed together.
      next_due.as_of + make_interval(secs =>
        (least(outbox.bucket_size(gateways), greatest(1, floor(gateways.rate_per_second / 20))) - outbox.tokens(gateways, next_due.as_of))
          / gateways.rate_per_second
      )
    ) - next_due.as_of) * 1000)::bigint
    from outbox.gateways
    cross join unnest('{0,1,2}'::smallint[], next_due.after_at, next_due.after_id) as level (priority, after_at, after_id)
    cross join lateral (
      select messages.available_at
      from outbox.messages
      where messages.gateway = next_due.gateway
        and messages.priority = level.priority
        and messages.claimed_by is null
        and (messages.available_at, messages.id) > (coalesce(level.after_at, '-infinity'), coalesce(level.after_id, 0))
      order by messages.available_at, messages.id
      limit 1
    ) as earliest
    where gateways.name = next_due.gateway
      and not gateways.paused
      and exists (select from outbox.scheduler where scheduler.running)
    group by gateways.name
  );
end
$$;

comment on function outbox.next_due(text, timestamptz, timestamptz[], bigint[]) is
  'Milliseconds until a gateway''s next message may be claimed, by this server''s clock, with its hold and its rate; zero or less: now; null: nothing waits, or it is paused. after_at and after_id: see claim(); nothing before them is looked at.';
--! EndIncluded functions/next_due.sql
