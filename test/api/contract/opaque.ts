/**
 * The format of a text that only the server can make, such as a cursor. Any text fits its schema, so only what an answer gave,
 * in the request that it was given for, is surely valid.
 */
export const OPAQUE = "cursor";
