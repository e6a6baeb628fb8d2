import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { settingPaths } from "../../src/config/schema.ts";
import { load } from "./loading.ts";

const yaml = readFileSync(new URL("../../config.yaml", import.meta.url), "utf8");
const uncommented = yaml.replace(/^( *)# ( *[a-z_]+:(?: .*)?)$/gm, "$1$2");

test("config.yaml as it stands is the defaults", () => {
  expect(load(yaml)).toStrictEqual(load(undefined));
});

test("the defaults", () => {
  expect(load(undefined)).toStrictEqual({
    host: "127.0.0.1",
    port: 8_080,
    loopbackOnly: true,
    api: { keys: [], corsOrigins: [] },
    databaseUrl: undefined,
    queryDatabaseUrl: undefined,
    queryStore: {
      maxLagMs: 30_000,
      whenAway: "primary",
      primaryUrl: undefined,
      retention: {
        sentMs: undefined,
        attemptsMs: undefined,
        deadLettersMs: undefined,
        auditMs: undefined,
        eventsMs: undefined,
      },
    },
    embeddedPostgres: { port: 54_329, dataDir: ".data/postgres" },
    redis: undefined,
    relay: { mode: "continuous", batchSize: 500, pollIntervalMs: 500, deadAfterMs: 30_000 },
    gateways: { default: {} },
    retention: {
      sentMs: 90 * 86_400_000,
      attemptsMs: 30 * 86_400_000,
      deadLettersMs: undefined,
      auditMs: undefined,
      eventsMs: 7 * 86_400_000,
    },
    alerts: {
      thresholds: {
        newDeadLetters: 1,
        deadLetters: 100,
        oldestDueAgeMs: 300_000,
        gatewayHeldMs: 300_000,
        schedulerStoppedMs: 900_000,
        noRelayerMs: 60_000,
        queryStoreLagMs: 60_000,
        slotWalBytes: 1_073_741_824,
      },
      repeatMs: 4 * 3_600_000,
      recoverAfterMs: 300_000,
      name: "outbox",
      linkUrl: undefined,
      slackUrl: undefined,
      email: undefined,
    },
    tracing: undefined,
    shutdown: { graceMs: 10_000 },
    metrics: { ownPort: undefined, token: undefined },
    log: { level: "info", levels: {} },
  });
});

test("with its comments taken away config.yaml has no fault and names every setting", () => {
  expect(() => load(uncommented)).not.toThrow();
  expect(pathsOf(parse(uncommented)).sort()).toEqual(
    settingPaths()
      .map((path) => path.join(".").replace("*", "bulk"))
      .sort(),
  );
});

test("config.yaml shows the defaults of what belongs to the gateways' table", () => {
  expect(load(uncommented).gateways.default).toMatchObject({
    concurrency: 64,
    maxAttempts: 5,
    baseDelayMs: 1_000,
    maxDelayMs: 600_000,
    jitter: 0.2,
    timeoutMs: 10_000,
    onUnknown: "retry",
    holdForMs: 300_000,
  });
});

function pathsOf(value: unknown, path: readonly string[] = []): string[] {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return [path.join(".")];
  return Object.entries(value).flatMap(([key, child]) => pathsOf(child, [...path, key]));
}
