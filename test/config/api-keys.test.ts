import { describe, expect, test } from "vitest";
import { createApiKey, readApiKey, sha256Of } from "../../src/config/api-keys.ts";
import { faultsOf, load } from "./loading.ts";

const HASH = "ab".repeat(32);
const OTHER = "cd".repeat(32);
const keysOf = (text: string) => load(undefined, { API_KEYS: text }).api.keys;

describe("API_KEYS", () => {
  test("takes keys with commas between them", () => {
    expect(keysOf(`desk:read+read_pii:${HASH}, ops:operate+write+read:${OTHER}:2027-01-31`)).toEqual([
      { name: "desk", scopes: ["read", "read_pii"], sha256: HASH, expiresAt: undefined },
      {
        name: "ops",
        scopes: ["read", "write", "operate"],
        sha256: OTHER,
        expiresAt: new Date("2027-01-31T00:00:00Z"),
      },
    ]);
  });

  test.each([
    ["2027-01-31T12:00:00Z", "2027-01-31T12:00:00.000Z"],
    ["2027-01-31T12:00+03:00", "2027-01-31T09:00:00.000Z"],
  ])("may end at a time: %s", (expires, time) => {
    expect(keysOf(`desk:read:${HASH}:${expires}`)[0]?.expiresAt?.toISOString()).toBe(time);
  });

  test.each([
    ["desk", "it has other parts"],
    ["desk:read", "it has other parts"],
    [`:read:${HASH}`, "a NAME is a letter"],
    [`a b:read:${HASH}`, "a NAME is a letter"],
    [`desk::${HASH}`, "SCOPES are some of read, read_pii, write, operate"],
    [`desk:read+admin:${HASH}`, "SCOPES are some of"],
    [`desk:read+read:${HASH}`, "SCOPES are some of"],
    [`desk:read_pii:${HASH}`, "read_pii adds to read"],
    ["desk:read:abc", "a SHA256 is 64 hexadecimal digits"],
    [`desk:read:${HASH}:`, "EXPIRES is a day"],
    [`desk:read:${HASH}:soon`, "EXPIRES is a day"],
    [`desk:read:${HASH}:2027-02-30`, "EXPIRES is a day"],
    [`desk:read:${HASH}:2027-13-01`, "EXPIRES is a day"],
    [`desk:read:${HASH}:2027-01-01T00:00`, "EXPIRES is a day"],
  ])("%s is a fault", (text, fault) => {
    expect(faultsOf(undefined, { API_KEYS: text })).toEqual([expect.stringContaining(fault)]);
  });

  test("says which of several is wrong, and never shows one: it may be the key itself", () => {
    const [fault, ...others] = faultsOf(undefined, { API_KEYS: `desk:read:${HASH},obx_secret` });
    expect(others).toEqual([]);
    expect(fault).toBe(
      "API_KEYS (environment): the value (not shown) is not a list of keys (NAME:SCOPES:SHA256 or NAME:SCOPES:SHA256:EXPIRES): item 2: it has other parts",
    );
  });

  test("takes a key only once, but a name as often as one likes", () => {
    expect(keysOf(`desk:read:${HASH},desk:read:${OTHER}`)).toHaveLength(2);
    expect(faultsOf(undefined, { API_KEYS: `a:read:${HASH},b:read:${HASH.toUpperCase()}` })).toEqual([
      expect.stringContaining("that of b stands twice"),
    ]);
  });
});

test("config.yaml lists them", () => {
  const yaml = `api:\n  keys:\n    - desk:read:${HASH}\n  cors_origins: [https://desk.example, "http://localhost:3000"]\n`;
  expect(load(yaml).api).toMatchObject({
    keys: [{ name: "desk" }],
    corsOrigins: ["https://desk.example", "http://localhost:3000"],
  });
  expect(faultsOf("api:\n  keys: 5\n")).toEqual([expect.stringContaining("is not a list of keys")]);
});

test.each(["https://desk.example/", "desk.example", "ftp://desk.example", "*", "https://u:p@desk.example"])(
  "the origin %s is a fault",
  (origin) => {
    expect(faultsOf(undefined, { API_CORS_ORIGINS: origin })).toEqual([
      expect.stringContaining("an origin is scheme, host and port alone"),
    ]);
  },
);

describe("without keys", () => {
  test.each(["0.0.0.0", "::", "10.0.0.1", "relay.example", "127.0.0.1.evil.example"])(
    "it refuses to listen on %s",
    (HOST) => {
      expect(faultsOf(undefined, { HOST })).toEqual([
        `HOST (environment): "${HOST}" can be reached from other machines, and the API has no keys: make one with npm run api-key -- NAME SCOPES and set API_KEYS, or listen on 127.0.0.1`,
      ]);
      expect(load(undefined, { HOST, API_KEYS: `desk:read:${HASH}` }).loopbackOnly).toBe(false);
    },
  );

  test.each(["localhost", "127.0.0.1", "127.1.2.3", "::1"])("it listens on %s", (HOST) => {
    expect(load(undefined, { HOST }).loopbackOnly).toBe(true);
  });
});

describe("a new key", () => {
  test("is let in by its setting, and is never the same", () => {
    const one = createApiKey("desk", "read+read_pii", "2027-01-31");
    const other = createApiKey("desk", "read");
    if ("fault" in one || "fault" in other) throw new Error("refused");
    expect(one.key).toMatch(/^obx_[\w-]{43}$/);
    expect(one.key).not.toBe(other.key);
    expect(one.setting).not.toContain(one.key);
    expect(readApiKey(one.setting)).toMatchObject({ name: "desk", sha256: sha256Of(one.key) });
  });

  test("with a wrong name, scope or end is refused", () => {
    expect(createApiKey("1", "read")).toEqual({ fault: expect.stringContaining("NAME") });
    expect(createApiKey("desk", "all")).toEqual({ fault: expect.stringContaining("SCOPES") });
    expect(createApiKey("desk", "read", "soon")).toEqual({ fault: expect.stringContaining("EXPIRES") });
  });
});
