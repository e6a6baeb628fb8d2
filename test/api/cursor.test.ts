import fc from "fast-check";
import { expect, test } from "vitest";
import { openCursor, scopeOf, sealCursor } from "../../src/api/cursor.ts";

const scope = scopeOf("messages/sent", ["desc", undefined]);

test("what is sealed opens, for every time and id", () => {
  const micros = fc.integer({ min: 0, max: 999 }).map((n) => `${n}`.padStart(3, "0"));
  const dates = fc.date({
    min: new Date("0001-01-01T00:00:00Z"),
    max: new Date("9999-12-31T23:59:59Z"),
    noInvalidDate: true,
  });
  fc.assert(
    fc.property(dates, micros, fc.maxSafeNat(), (date, sub, id) => {
      const position = { at: date.toISOString().replace("Z", `${sub}Z`), id };
      expect(openCursor(sealCursor({ position, scope }))).toEqual({ position, scope });
    }),
  );
});

test("what was not sealed does not open", () => {
  fc.assert(fc.property(fc.oneof(fc.string(), fc.base64String()), (text) => openCursor(text) === undefined));
});

test("a time that Postgres does not know does not open, sealed or not", () => {
  const position = { at: "2026-13-01T00:00:00.000000Z", id: 1 };
  expect(openCursor(sealCursor({ position, scope }))).toBeUndefined();
});

test("a scope is its list and every filter, in its place", () => {
  const scopes = [
    scopeOf("messages/sent", ["a", undefined]),
    scopeOf("messages/sent", [undefined, "a"]),
    scopeOf("messages/sent", ["a", ""]),
    scopeOf("messages/sent", ["a"]),
    scopeOf("dead-letters", ["a", undefined]),
  ];
  expect(new Set(scopes).size).toBe(scopes.length);
});
