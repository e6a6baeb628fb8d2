--! Previous: sha1:a9a7ee48f6cec6f7877a10b0708350b35ae91373
--! Hash: sha1:d23f2d050a170b0b210e4946a338e423b2703f51
--! Message: Last attempts of killed processes

--! Included functions/unlock_jobs.sql
create or replace function outbox.unlock_jobs(
  as_of      timestamptz default clock_timestamp(),
  dead_after interval    default '30 seconds'
) returns int
language plpgsql volatile
set lock_timeout = '1s' as $$
declare
  gone text[];
  held bigint[];
begin
  -- Graphile Worker's schema is made after ours, step by step. This is about its last step.
  if to_regprocedure('outbox_worker.add_job(text, json, text, timestamptz, int, text, int, text[], text)') is null then
    return 0;
  end if;

  gone := array(
    select distinct jobs.locked_by
    from outbox_worker.jobs
    -- A worker that has just started takes jobs before its relayer's next heartbeat names it.
    where jobs.locked_at < unlock_jobs.as_of - interval '5 seconds'
      and not exists (
        select
        from outbox.relayers
        where relayers.worker = jobs.locked_by
          and (
            outbox.relayer_is_alive(relayers.id, relayers.heartbeat_at, unlock_jobs.dead_after, unlock_jobs.as_of)
            -- One that has lost its connection will soon be back under another number, and has not let go of its jobs.
            or relayers.heartbeat_at > unlock_jobs.as_of - interval '5 seconds'
          )
      )
      and not exists (
        select
        from outbox.watchers
        where watchers.worker = jobs.locked_by
          and watchers.heartbeat_at > unlock_jobs.as_of - unlock_jobs.dead_after
      )
  );
  if cardinality(gone) > 0 then
    held := array(select jobs.id from outbox_worker.jobs where jobs.locked_by = any (gone));
    perform outbox_worker.force_unlock_workers(gone);
    -- An attempt that its process did not live to end was not the last one: nobody would take the job any more, nor remove it.
    perform outbox_worker.reschedule_jobs(array_agg(jobs.id), attempts => jobs.max_attempts - 1)
    from outbox_worker.jobs
    where jobs.id = any (held)
      and jobs.attempts >= jobs.max_attempts
    group by jobs.max_attempts;
  end if;
  return cardinality(gone);
exception
  -- Somebody is at these jobs: the next run frees them. A rescue of messages must not wait for it.
  when lock_not_available then
    return 0;
end
$$;

comment on function outbox.unlock_jobs(timestamptz, interval) is
  'Frees the jobs of Graphile Workers that no living relayer or watcher has (heard of within dead_after), 5 s after they took them and were last heard of; by itself Graphile Worker would do so after 4 hours. A job that was in its last attempt has that one again. Returns how many workers were gone.';
--! EndIncluded functions/unlock_jobs.sql
