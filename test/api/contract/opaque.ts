/**
 * The format of a text that only the server can make, such as a cursor. Any text fits its schema, so only what an answer gave,
 * in the request that it was given for, is surely valid.
 */
export const OPAQUE = "cursor";

/** An event's id is good for every later request, unlike a cursor, which goes with its filters. */
export function isEventId(name: string): boolean {
  return name.toLowerCase().replaceAll("_", "-") === EVENT_ID;
}

/** The header of the HTML standard, and the name of the facts for it. */
export const EVENT_ID = "last-event-id";
