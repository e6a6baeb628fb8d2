import { Client } from "pg";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { wireTypes } from "../../src/db/wire-types.ts";
import { usePrivatePostgres } from "../support/private-postgres.ts";

const postgres = usePrivatePostgres();
let url: string;

beforeAll(async () => {
  url = await postgres.createDatabase();
});

/** The value of one SQL expression, read by a client with our types in a session that is set up as told. */
async function read(expression: string, settings: Record<string, string> = {}): Promise<unknown> {
  const options = Object.entries(settings).map(([name, value]) => `-c ${name}=${value}`);
  const client = new Client({ connectionString: url, types: wireTypes, options: options.join(" ") });
  await client.connect();
  onTestFinished(() => client.end());
  return (await client.query(`select ${expression} as value`)).rows[0].value;
}

describe("timestamptz", () => {
  it.each(["UTC", "Europe/Istanbul", "Asia/Kolkata", "America/St_Johns", "Pacific/Kiritimati"])(
    "comes as RFC 3339 in UTC with all its microseconds, from a server in %s",
    async (TimeZone) => {
      expect(await read("timestamptz '2026-11-23 14:11:00.123456+00'", { TimeZone })).toBe(
        "2026-11-23T14:11:00.123456Z",
      );
    },
  );

  it("crosses midnight and the year, both ways", async () => {
    expect(await read("timestamptz '2026-12-31 23:30:00+00'", { TimeZone: "Asia/Kolkata" })).toBe(
      "2026-12-31T23:30:00.000000Z",
    );
    expect(await read("timestamptz '2027-01-01 02:00:00.5+00'", { TimeZone: "America/St_Johns" })).toBe(
      "2027-01-01T02:00:00.500000Z",
    );
  });

  it("knows offsets with seconds, years before 100 and before Christ", async () => {
    // Amsterdam was 19 minutes and 32 seconds ahead until 1937.
    expect(await read("timestamptz '1930-01-01 00:00:00+00'", { TimeZone: "Europe/Amsterdam" })).toBe(
      await read("timestamptz '1930-01-01 00:00:00+00'", { TimeZone: "UTC" }),
    );
    expect(await read("timestamptz '0026-05-01 12:00:00+00'", { TimeZone: "Etc/GMT-3" })).toBe(
      "0026-05-01T12:00:00.000000Z",
    );
    expect(await read("timestamptz '0001-05-01 12:00:00+00 BC'", { TimeZone: "Etc/GMT-3" })).toBe(
      "0000-05-01T12:00:00.000000Z",
    );
  });

  it("leaves infinity, null and what is beyond JavaScript's calendar", async () => {
    expect(await read("timestamptz 'infinity'")).toBe("infinity");
    expect(await read("timestamptz '-infinity'")).toBe("-infinity");
    expect(await read("null::timestamptz")).toBeNull();
    expect(await read("timestamptz '290000-01-01 00:00:00+00'", { TimeZone: "Etc/GMT-3" })).toBe(
      "290000-01-01 03:00:00+03",
    );
  });

  it("comes the same way in arrays", async () => {
    const array = "array[timestamptz '2026-11-23 14:11:00+00', null, 'infinity']";
    expect(await read(array, { TimeZone: "Asia/Kolkata" })).toEqual([
      "2026-11-23T14:11:00.000000Z",
      null,
      "infinity",
    ]);
  });

  it("is refused rather than misread when the server writes dates another way", async () => {
    await expect(read("timestamptz '2026-11-23 14:11:00+00'", { DateStyle: "German" })).rejects.toThrow(
      /needs DateStyle ISO/,
    );
  });
});

describe("other types", () => {
  it("int8 is a number", async () => {
    expect(await read("9007199254740991::int8")).toBe(9007199254740991);
    expect(await read("array[1::int8, null, -2]")).toEqual([1, null, -2]);
    expect(await read("null::int8")).toBeNull();
  });

  it("jsonb is parsed, numeric and text are text, int4 and bool what they are", async () => {
    expect(await read(`'{"a": [1, null]}'::jsonb`)).toEqual({ a: [1, null] });
    expect(await read("1.10::numeric")).toBe("1.10");
    expect(await read("'2026-11-23 14:11:00+00'::text")).toBe("2026-11-23 14:11:00+00");
    expect(await read("array[1, 2]::int4[]")).toEqual([1, 2]);
    expect(await read("true")).toBe(true);
  });
});
