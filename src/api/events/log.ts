import { onConnection } from "../connection.ts";
import type { ApiDependencies } from "../dependencies.ts";
import type { EventType } from "./shapes.ts";

/** Two tables, each in an order of its own: outbox.sent, and outbox.events for all that is not a message that was sent. */
const SOURCES = ["sent", "events"] as const;

export type Source = (typeof SOURCES)[number];

/** Between two rows of a source: after this one; with id 0, before all of that time. */
export interface Place {
  readonly at: string;
  readonly id: number;
}

export type Of<Value> = Readonly<Record<Source, Value>>;

export interface Event extends Place {
  readonly source: Source;
  readonly type: EventType;
  readonly data: Readonly<Record<string, unknown>>;
}

/** What a source holds from a place on. */
export interface Stretch {
  readonly events: readonly Event[];
  /** Nothing before this is missing from it. */
  readonly until: Place;
  /** It was cut off at the count that was asked for. */
  readonly more: boolean;
}

/**
 * Up to `count` events of each source, from a place on; from "now" there are none, only the place.
 *
 * Rows are read below the source's horizon, behind which nothing will appear any more; as in readSent(). The sources wait for each
 * other, so that what is merged is in the order of time, but no longer than a second: a transaction that stays open holds up
 * its own kind only.
 */
export function readLog(
  pool: ApiDependencies["pool"],
  from: Of<Place | "now">,
  count: number,
): Promise<Of<Stretch>> {
  return onConnection(pool, async (query) => {
    const [horizons] = await query<Of<string>>(HORIZONS, []);
    if (horizons === undefined) throw new Error("the horizons answered nothing");

    const read = async (source: Source): Promise<Stretch> => {
      const place = from[source];
      const horizon = { at: horizons[source], id: 0 };
      if (place === "now") return { events: [], until: horizon, more: false };
      // An event's transaction that began long ago takes the horizon back.
      if (!isAfter(horizon, place)) return { events: [], until: place, more: false };
      const rows = await query<Row>(ROWS[source], [place.at, place.id, horizon.at, count]);
      const events = rows.map((row) => eventOf(source, row));
      const last = events.at(-1);
      return rows.length < count || last === undefined
        ? { events, until: horizon, more: false }
        : { events, until: { at: last.at, id: last.id }, more: true };
    };
    return { sent: await read("sent"), events: await read("events") };
  });
}

const HORIZONS = `
  select
    least(sent, greatest(events, as_of - interval '1 second')) as sent,
    least(events, greatest(sent, as_of - interval '1 second')) as events
  from (
    select outbox.sent_horizon() as sent, outbox.events_horizon() as events, clock_timestamp() as as_of
  ) as horizon`;

// The position first, then what prunes partitions: see pageQuery().
const ROWS: Of<string> = {
  sent: `
    select sent_at as at, id, gateway, priority, attempts, gateway_message_id, duration_ms
    from outbox.sent
    where (sent_at, id) > ($1, $2)
      and sent_at >= $1
      and sent_at < $3
    order by sent_at, id
    limit $4`,
  events: `
    select at, id, type, happened_at, data
    from outbox.events
    where (at, id) > ($1, $2)
      and at < $3
    order by at, id
    limit $4`,
};

/** Of outbox.events; a row of outbox.sent has other columns, and they are its data. */
interface Row extends Place {
  readonly type?: EventType;
  readonly happened_at?: string;
  readonly data?: Event["data"];
}

function eventOf(source: Source, { at, type = "settled", happened_at = at, data, ...sent }: Row): Event {
  return { source, at, id: sent.id, type, data: { ...(data ?? sent), [TIMES[type]]: happened_at } };
}

/** What its time is called. */
const TIMES: Readonly<Record<EventType, string>> = {
  settled: "sent_at",
  dead: "died_at",
  gateway_held: "changed_at",
  gateway_resumed: "changed_at",
  scheduler: "changed_at",
};

/** Both in the order of time. One that was cut off is known no further, so the other is left there, too. */
export function merge(
  from: Of<Place>,
  stretches: Of<Stretch>,
): { readonly events: readonly Event[]; readonly until: Of<Place>; readonly more: boolean } {
  const [cut] = SOURCES.filter((source) => stretches[source].more)
    .map((source) => stretches[source].until.at)
    .sort();
  const known = ({ at }: Place) => cut === undefined || at <= cut;
  const taken = each((source) => stretches[source].events.filter(known));
  return {
    events: SOURCES.flatMap((source) => taken[source]).sort((a, b) =>
      a.at < b.at ? -1 : Number(a.at > b.at),
    ),
    until: each((source) => {
      const { until } = stretches[source];
      const { at, id } = known(until) ? until : (taken[source].at(-1) ?? from[source]);
      return later({ at, id }, from[source]);
    }),
    more: cut !== undefined,
  };
}

export function each<Value>(make: (source: Source) => Value): Of<Value> {
  return { sent: make("sent"), events: make("events") };
}

/** All have the same form, in which text sorts as time does. */
export function isAfter(one: Place, other: Place): boolean {
  return one.at > other.at || (one.at === other.at && one.id > other.id);
}

export function later(one: Place, other: Place): Place {
  return isAfter(one, other) ? one : other;
}
