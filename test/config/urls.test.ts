import fc from "fast-check";
import { Redis } from "ioredis";
import pg from "pg";
import { expect, test } from "vitest";
import { faultsOf, load } from "./loading.ts";

const word = fc
  .string({ unit: "grapheme", minLength: 1, maxLength: 20 })
  .filter((text) => !text.includes("\0"));
// pg leaves %3F and %23 in a database's name, and takes . and .. for steps in a path.
const database = word.filter((text) => !/[?#/\\.]/.test(text));

test("pg reads from the composed URL what was given", () => {
  fc.assert(
    fc.property(word, word, database, (user, password, db) => {
      const env = {
        POSTGRES_HOST: "db.internal",
        POSTGRES_USER: user,
        POSTGRES_PASSWORD: password,
        POSTGRES_DB: db,
      };
      const client = new pg.Client({ connectionString: load(undefined, env).databaseUrl });
      expect([client.host, client.user, client.password, client.database]).toEqual([
        "db.internal",
        user,
        password,
        db,
      ]);
    }),
  );
});

test.each(["127.0.0.1", "::1", "/var/run/postgresql"])("pg reads the host %s", (host) => {
  const client = new pg.Client({ connectionString: load(undefined, { POSTGRES_HOST: host }).databaseUrl });
  expect(client.host).toBe(host);
});

test("ioredis reads from the composed URL what was given", () => {
  fc.assert(
    fc.property(word, (password) => {
      const url =
        load(undefined, { REDIS_HOST: "cache", REDIS_PASSWORD: password, REDIS_DB: "3" }).redis?.url ?? "";
      const { options } = new Redis(url, { lazyConnect: true });
      expect([options.host, options.port, options.password, options.db]).toEqual([
        "cache",
        6_379,
        password,
        3,
      ]);
    }),
  );
});

test.each([
  "postgres:///sms?host=/var/run/postgresql",
  "postgres://app@/sms?host=/var/run/postgresql",
  "postgresql://app:p%40ss@[::1]:5433/sms?sslmode=require",
])("database_url %s is taken as it is", (url) => {
  expect(load(undefined, { DATABASE_URL: url }).databaseUrl).toBe(url);
});

test("a password that is not UTF-8 when decoded is a fault, not a crash", () => {
  const faults = faultsOf(undefined, { DATABASE_URL: "postgres://app:caf%e9@db/app" });
  expect(faults).toHaveLength(1);
  expect(faults[0]).toMatch(/^DATABASE_URL \(environment\): .* is not a postgres:/);
  expect(faults[0]).not.toContain("caf");
});
