import { expect, test } from "vitest";
import { formatTraceparent, readTraceparent, traceparentOfHeader } from "../../src/gateway/traceparent.ts";

const REST = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";

test("what is read is written again", () => {
  for (const flags of ["00", "01", "03", "0a", "ff"]) {
    const context = readTraceparent(`00-${REST}-${flags}`);
    expect(context).toEqual({
      traceId: REST.slice(0, 32),
      spanId: REST.slice(33),
      flags: Number.parseInt(flags, 16),
    });
    expect(context && formatTraceparent(context)).toBe(`00-${REST}-${flags}`);
  }
});

test.each([
  [undefined, undefined],
  [`00-${REST}-01`, `00-${REST}-01`],
  // Of a later version what version 00 knows: https://www.w3.org/TR/trace-context/#versioning-of-traceparent
  [`01-${REST}-01`, `00-${REST}-01`],
  [`cc-${REST}-ff-what-the-future-will-be-like`, `00-${REST}-03`],
  [`cc-${REST}-01.what-the-future-will-be-like`, undefined],
  [`00-${REST}-01-more`, undefined],
  [`ff-${REST}-01`, undefined],
  [`ff-${REST}-01-more`, undefined],
  [`00-${REST}`, undefined],
  [`00-${REST.replace("4", "G")}-01`, undefined],
  [`00-${"0".repeat(32)}-00f067aa0ba902b7-01`, undefined],
  [`01-4bf92f3577b34da6a3ce929d0e0e4736-${"0".repeat(16)}-01`, undefined],
  [` 00-${REST}-01`, undefined],
  ["", undefined],
])("the header %s is %s", (header, traceparent) => {
  expect(traceparentOfHeader(header)).toBe(traceparent);
});
