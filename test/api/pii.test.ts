import { describe, expect, test } from "vitest";
import { maskNumbersDeep, withoutAnswer } from "../../src/api/pii.ts";

describe("an error, for those who may not read messages", () => {
  test.each([
    ["HTTP 400: +90 555 123 45 67 is barred", "HTTP 400"],
    ["HTTP 400: refused: Your code is 4711", "HTTP 400"],
    ['HTTP 200: {"to": "0(555)1234567"} (expected 202)', "HTTP 200"],
    ["HTTP 302 (redirects are not followed; it points to https://a.example/?to=905551234567)", "HTTP 302"],
    ["HTTP 500: of several\nlines: 4711", "HTTP 500"],
    [
      "5 failures in a row; the last: HTTP 500: no route to 0555 123 4567",
      "5 failures in a row; the last: HTTP 500",
    ],
    ["HTTP 503", "HTTP 503"],
    ["HTTP 202, but connection reset; outcome unknown", "HTTP 202, but connection reset; outcome unknown"],
    ["connection refused (ECONNREFUSED 127.0.0.1:9)", "connection refused (ECONNREFUSED 127.0.0.1:9)"],
    ["no route to +905551234567", "no route to +90********67"],
  ])("%j shows %j", (error, shown) => {
    expect(withoutAnswer(error)).toBe(shown);
  });

  test("that is none stays none", () => {
    expect(withoutAnswer(null)).toBeNull();
  });
});

test("numbers are masked in every text of a JSON value, and what is no text is left", () => {
  expect(maskNumbersDeep({ a: ["to 905551234567", { b: "+905551234567" }], n: 7, t: true, z: null })).toEqual(
    {
      a: ["to 905*******67", { b: "+90********67" }],
      n: 7,
      t: true,
      z: null,
    },
  );
});
