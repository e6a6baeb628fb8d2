import type pg from "pg";
import { at, LONG_AGO, instant as noon } from "./calendar.ts";
import type { Policy } from "./rules/gateway.ts";
import * as limits from "./rules/gateway.ts";
import { DEAD_AFTER, FORGETFUL, type Refusal } from "./rules/world.ts";

// biome-ignore lint/suspicious/noExplicitAny: what an answer holds depends on the query
type Answer = any;

/** A statement, prepared once: its one row, or the error by its code and constraint. */
export type Ask = (text: string, values?: readonly unknown[]) => Promise<Answer | Refusal>;

export function asking(session: pg.Client): Ask {
  const names = new Map<string, string>();
  return async (text, values = []) => {
    const name = names.get(text) ?? `model_${names.size}`;
    names.set(text, name);
    try {
      const { rows } = await session.query({ name, text, values: [...values] });
      return rows[0]?.answer;
    } catch (error) {
      const { code, constraint } = error as pg.DatabaseError;
      if (code === undefined) throw error;
      return constraint === undefined ? code : `${code} ${constraint}`;
    }
  };
}

const ms = (many: number): string => `${many} milliseconds`;

const SAME_FOR_ALL = {
  jitter: 0,
  burst: limits.BURST,
  base_delay: ms(limits.BASE_DELAY),
  max_delay: ms(limits.MAX_DELAY),
  hold_for: ms(limits.HOLD_FOR),
  timeout: ms(limits.TIMEOUT),
  circuit_ratio: limits.CIRCUIT_RATIO,
  circuit_window: ms(limits.CIRCUIT_WINDOW),
  circuit_pause: ms(limits.CIRCUIT_PAUSE),
  circuit_max_pause: ms(limits.CIRCUIT_MAX_PAUSE),
};

/** An empty outbox with these gateways. Ids and the chance in a claim begin anew, so that a run can be repeated. */
export async function reset(session: pg.Client, policies: Readonly<Record<string, Policy>>): Promise<void> {
  const gateways = Object.entries(policies).map(([name, policy]) => ({
    ...SAME_FOR_ALL,
    ...policy,
    name,
    dedupe_window: name === FORGETFUL ? "1 day" : "36500 days",
  }));
  await session.query(`
    delete from outbox.messages; delete from outbox.sent; delete from outbox.dead_letters;
    delete from outbox.attempts; delete from outbox.dedupe_keys; delete from outbox.relayers;
    delete from outbox.audit; delete from outbox.gateways where name <> 'default';
    insert into outbox.gateways
    select named.*
    from outbox.gateways as fresh, jsonb_array_elements('${JSON.stringify(gateways)}') as settings,
      jsonb_populate_record(fresh, settings) as named;
    update outbox.scheduler set running = true;
    select setval('outbox.awake_until', 9224318015999), setval('outbox.messages_id_seq', 1, false), setval('outbox.relayers_id_seq', 1, false), setseed(0);
    select pg_advisory_unlock_all();`);
}

export const ENQUEUE = `
  select json_agg(outbox.enqueue(
    '+905551234567', 'hi', $1, $2, $3, expires_at::timestamptz, dedupe_key => $4
  )) as answer
  from unnest($5::text[]) as expires_at`;

export const INSERT = `
  with added as (
    insert into outbox.messages (recipient, content, gateway, priority, available_at, expires_at, dedupe_key)
    select '+905551234567', 'hi', $1, $2, coalesce($3, now()), expires_at::timestamptz, $4
    from unnest($5::text[]) as expires_at
    returning id
  )
  select json_agg(id) as answer from added`;

export const REGISTER = `
  select relayer as answer
  from outbox.register_relayer('model', '1') as relayer
  cross join lateral outbox.heartbeat(relayer, as_of => $1) as heard
  where heard`;

export const CLAIM = `
  select coalesce(json_agg(json_build_object(
    'id', id, 'attempt', attempt, 'recipient', recipient, 'content', content, 'expires_in', expires_in_ms,
    'claimed_at', ${at("claimed_at")}, 'revision', revision
  )), '[]') as answer
  from outbox.claim($1, $2, $3, $4)`;

export const SETTLE = `
  select json_build_object(
    'sent', sent,
    'stale', stale,
    'dead', (select coalesce(json_agg(json_build_array(id, reason)), '[]') from unnest(dead, dead_reasons) as ended (id, reason)),
    'held', held
  ) as answer
  from outbox.settle(
    $1, $2, $3, $4::outbox.outcome[], array_fill(null::int, array[cardinality($2::bigint[])]), $5,
    array_fill('as told'::text, array[cardinality($2::bigint[])]), array_fill(7, array[cardinality($2::bigint[])]),
    $6, $7, moot => $8, as_of => $9
  )`;

export const RELEASE = "select outbox.release($1, $2) as answer";
export const DIE = "select pg_advisory_unlock(outbox.lock_key('relayer'), $1) as answer";
export const HEARTBEAT = "select outbox.heartbeat($1, as_of => $2) as answer";
export const RESCUE = `
  select coalesce(json_agg(json_build_object('relayer', relayer, 'rescued', rescued)), '[]') as answer
  from outbox.rescue('${DEAD_AFTER} milliseconds', $1)`;
export const PAUSE = "select outbox.pause($1) as answer";
export const RESUME = "select outbox.resume($1) as answer";
export const TOGGLE = "select outbox.toggle() as answer";
export const EXPIRE = "select outbox.expire($1, $2, $3) as answer";
export const MAINTAIN = `
  select coalesce(json_agg(done) filter (where done ~ '^(expired|forgot) '), '[]') as answer
  from outbox.maintain(as_of => $1) as done`;
export const CANCEL = "select nullif(outbox.cancel($1, as_of => $2)::text, '') as answer";
export const EDIT = "select outbox.edit($1, $2, $3, $4, $5, $6, as_of => $7) as answer";
export const REPLAY = "select nullif(outbox.replay($1, $2, $3, $4, $5, as_of => $6)::text, '') as answer";

/** resume() and release() read the real clock; what they wrote is put into the run's own calendar. */
export const INTO_CALENDAR = `
  update outbox.gateways
  set
    held_until         = case when held_until < '${noon()}' then $1 else held_until end,
    circuit_changed_at = case when circuit_changed_at < '${noon()}' and isfinite(circuit_changed_at) then $1 else circuit_changed_at end
  where held_until < '${noon()}'
     or circuit_changed_at < '${noon()}' and isfinite(circuit_changed_at)`;

/** Everything there is, in the model's words. */
export const STATE = `
  select json_build_object(
    'running', (select running from outbox.scheduler),
    'messages', (
      select coalesce(json_agg(json_build_object(
        'id', id, 'status', status, 'reason', reason, 'gateway', gateway, 'key', dedupe_key, 'priority', priority,
        'recipient', recipient, 'content', content, 'attempts', attempts, 'owner', claimed_by,
        'claimed_at', ${at("claimed_at")}, 'ended_at', ${at("coalesce(sent_at, died_at)")},
        'available_at', greatest(${LONG_AGO}, ${at("available_at")}), 'expires_at', ${at("expires_at")}, 'revision', revision
      ) order by id), '[]')
      from outbox.all_messages
    ),
    'attempts', (
      select coalesce(json_agg(json_build_array(message_id, attempt, outcome, relayer, ${at("ended_at")})), '[]')
      from outbox.attempts
    ),
    'gateways', (
      select json_agg(json_build_object(
        'name', name, 'paused', paused, 'circuit', circuit, 'circuit_pauses', circuit_pauses,
        'run_of_failures', run_of_failures, 'window_started_at', ${at("window_started_at")},
        'tally', case
          when circuit = 'half_open' or window_started_at is not null then json_build_array(window_passed, window_failed)
        end,
        'held_until', case when held_until is not null then ${at("greatest(held_until, $1)")} end, 'hold_reason', case when circuit <> 'half_open' then hold_reason end,
        'tokens', outbox.tokens(gateways, $1)
      ) order by name)
      from outbox.gateways
      where name <> 'default'
    ),
    'relayers', (select coalesce(json_agg(id order by id), '[]') from outbox.relayers),
    'keys', (select coalesce(json_object_agg(dedupe_key, message_id), '{}') from outbox.dedupe_keys),
    'audit', (select coalesce(json_object_agg(action, many), '{}') from (select action, count(*) as many from outbox.audit group by action) as counted)
  ) as answer`;
