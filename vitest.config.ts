import { defineConfig } from "vitest/config";

const shared = {
  pool: "forks",
  testTimeout: 30_000,
  hookTimeout: 60_000,
  sequence: { hooks: "stack" },
} as const;

export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      {
        test: {
          ...shared,
          name: "outbox",
          include: ["test/**/*.test.ts"],
          exclude: ["test/containers/**"],
          globalSetup: ["test/support/global-setup.ts"],
        },
      },
      {
        test: {
          ...shared,
          name: "containers",
          include: ["test/containers/**/*.test.ts"],
          globalSetup: ["test/containers/global-setup.ts"],
          testTimeout: 300_000,
          hookTimeout: 600_000,
        },
      },
    ],
  },
});
