import { tmpdir } from "node:os";
import { join } from "node:path";
import { defineConfig } from "vitest/config";

const shared = {
  pool: "forks",
  testTimeout: 30_000,
  hookTimeout: 60_000,
  sequence: { hooks: "stack" },
  // The program is started some hundred times: by halves of a second.
  env: { NODE_COMPILE_CACHE: join(tmpdir(), "outbox-test-compile-cache") },
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
