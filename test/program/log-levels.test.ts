import fs from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import { useDatabase } from "../support/database.ts";
import { openFolder, startProgram } from "./program.ts";

const database = useDatabase();

it("reads its log's levels again on SIGUSR2; a file with a fault changes nothing, and ends nothing", async () => {
  const file = path.join(openFolder("outbox-levels-"), "config.yaml");
  fs.writeFileSync(file, "log:\n  level: info\n");
  const program = startProgram({
    env: { DATABASE_URL: database.url, WEBHOOK_URL: "http://127.0.0.1:1/", CONFIG_FILE: file },
  });
  const { api } = await program.ready();
  expect((await program.logged(/^registered as a relayer/)).part).toBe("relay");

  fs.writeFileSync(file, "log:\n  level: error\n  levels:\n    api: debug\n");
  program.kill("SIGUSR2");
  const { levels } = await program.logged(/^the log's levels were changed/);
  expect(levels).toMatchObject({ api: "info → debug", relay: "info → error" });
  await fetch(`${api}/scheduler`);
  expect(await program.logged(/^request answered/)).toMatchObject({ part: "api", path: "/api/v1/scheduler" });

  fs.writeFileSync(file, "log:\n  level: loud\n");
  program.kill("SIGUSR2");
  const { faults } = await program.logged(/^the configuration has faults/);
  expect(faults).toEqual([
    `log.level (${file}:2): "loud" is not one of trace, debug, info, warn, error, fatal`,
  ]);

  program.kill("SIGTERM");
  expect((await program.end).code).toBe(0);
});
