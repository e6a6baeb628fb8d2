import { expect, test } from "vitest";
import type { Gateway } from "../../src/db/outbox.ts";
import { liveness, readiness, type Stage } from "../../src/program/probes.ts";

const STILL = { lastTurnMsAgo: () => 61_000 };
const RELAYING: Stage = { migrated: true, relaying: true, draining: false };

test.each<[string, Partial<Stage>]>([
  ["before the migration, however long Postgres is waited for", { migrated: false, relaying: false }],
  ["between the migration and the relay's beginning", { relaying: false }],
  ["while what is in flight ends", { draining: true }],
])("a loop that does not turn is no fault %s", (_, stage) => {
  expect(liveness({ ...RELAYING, ...stage }, STILL)).toEqual({ alive: true });
});

test("a loop that turns is alive; one that has not turned for a minute is not", () => {
  expect(liveness(RELAYING, { lastTurnMsAgo: () => 59_000 })).toEqual({ alive: true });
  expect(liveness(RELAYING, STILL)).toEqual({
    alive: false,
    reason: "the relay loop has not turned for 61 s",
  });
});

const gateway = (name: string, its: Partial<Gateway> = {}): Gateway => ({
  name,
  url: "http://gateway.example/",
  concurrency: 1,
  timeout_ms: 1,
  paused: false,
  circuit: "closed",
  held_until: null,
  hold_reason: null,
  hold_detail: null,
  ...its,
});

const ready = (
  stage: Stage,
  { reachable = true, number = 1 as number | undefined, gateways = [gateway("default")] } = {},
) => readiness(stage, { reachable: () => reachable, gateways: () => gateways }, { number: () => number });

test.each([
  ["migrated", { ...RELAYING, migrated: false }, {}],
  ["not_draining", { ...RELAYING, draining: true }, {}],
  ["database", RELAYING, { reachable: false }],
  ["relayer", RELAYING, { number: undefined }],
])("it is not ready when %s is not well", (part, stage, its) => {
  const { ready: isReady, parts } = readiness(
    stage,
    { reachable: () => true, gateways: () => [], ...("reachable" in its ? { reachable: () => false } : {}) },
    { number: () => ("number" in its ? undefined : 1) },
  );
  expect(isReady).toBe(false);
  expect(Object.keys(parts).filter((name) => !parts[name]?.ok)).toEqual([part]);
});

test("a gateway that is left alone is reported, without its words, and it stays ready", () => {
  const held = gateway("bulk", {
    held_until: "2026-11-26T21:00:00.000000Z",
    hold_reason: "hold",
    hold_detail: 'HTTP 401: {"to":"905551234567"}',
  });
  expect(ready(RELAYING, { gateways: [gateway("default"), held, gateway("old", { paused: true })] })).toEqual(
    {
      ready: true,
      parts: {
        migrated: { ok: true },
        database: { ok: true },
        relayer: { ok: true },
        not_draining: { ok: true },
        gateways: {
          ok: true,
          detail: "bulk: hold until 2026-11-26T21:00:00.000000Z (HTTP 401); old: paused",
        },
      },
    },
  );
});
