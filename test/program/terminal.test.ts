import { execFileSync, spawn, spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { createDatabase } from "../support/database.ts";
import { startHttpGateway } from "../support/http-gateway.ts";
import { queryOnce } from "../support/private-postgres.ts";
import { embeddedHome, gone, ROOT, startProgram, watch } from "./program.ts";

const CTRL_C = "\x03";
const has = (program: string) => spawnSync(program, ["--version"]).error === undefined;
// BSD's `script` takes other arguments.
const terminal = process.platform === "linux" && has("script");

describe.skipIf(!terminal)("on a terminal", () => {
  it("prints lines and a banner for people, whose commands work, and drains on Ctrl-C", async () => {
    const { env, server } = await embeddedHome();
    const program = startProgram({ env, terminal: true });
    const banner = await program.printed(/ {2}Send a message:\n[\s\S]*It goes to:\n +http\S+\n/);
    expect(banner).toContain(`postgres://outbox:outbox@127.0.0.1:${env.EMBEDDED_POSTGRES_PORT}/outbox`);
    expect(program.lines).toEqual([]);
    await program.printed(/^\d\d:\d\d:\d\d INFO +registered as a relayer {2}relayer=1$/m);
    const [, send = "", see = ""] = /Send a message:\n([\s\S]*)\n {2}See it:\n(.*)\n/.exec(banner) ?? [];
    const url = /"(postgres:[^"]+)"/.exec(send)?.[1] ?? "";
    if (has("psql")) {
      expect(execFileSync("bash", ["-c", send], { encoding: "utf8" })).toBe("INSERT 0 1\n");
      await program.printed(/demo gateway accepted {2}to=\+90\*{6}4567 {2}characters=5/);
      await expect.poll(() => execFileSync("bash", ["-c", see], { encoding: "utf8" })).toContain("hello");
    }
    for (const page of banner.match(/http:\S+/g) ?? []) expect((await fetch(page)).status).toBe(200);
    expect(await queryOnce(url, "select 1 as one")).toEqual([{ one: 1 }]);

    const postgres = server();
    program.type(CTRL_C);
    expect(await program.end).toEqual({ code: 0, signal: null });
    expect(program.output).toContain("SIGINT: stopping");
    await gone(postgres);
  });

  it("drains on Ctrl-C under npm start, which passes on what the terminal has sent already", async () => {
    const answer = Promise.withResolvers<object>();
    const gateway = await startHttpGateway({ answer: () => answer.promise });
    const database = await createDatabase();
    try {
      const child = spawn("script", ["-qec", "exec npm start", "/dev/null"], {
        cwd: ROOT,
        env: {
          PATH: process.env.PATH ?? "",
          HOME: "/tmp",
          PORT: "0",
          DATABASE_URL: database.url,
          WEBHOOK_URL: gateway.url,
        },
      });
      const program = watch(child);
      await program.printed(/It goes to:\n +\S+\n/);
      await queryOnce(
        database.url,
        "insert into outbox.messages (recipient, content) values ('+905551234567', 'hi')",
      );
      await gateway.received(1);
      program.type(CTRL_C);
      await program.printed(/SIGINT: stopping/);
      answer.resolve({ delayMs: 300 });
      await program.printed(/stopped\n/);
      await program.end;
      expect(program.output).not.toContain("again");
      expect(await queryOnce(database.url, "select status from outbox.all_messages")).toEqual([
        { status: "sent" },
      ]);
    } finally {
      await gateway.close();
      await database.drop();
    }
  });

  it("ends when its terminal is closed, and takes its server along", async () => {
    const { env, server } = await embeddedHome();
    const program = startProgram({ env, terminal: true });
    await program.printed(/It goes to:/);
    const postgres = server();
    program.kill("SIGKILL");
    await program.end;
    await gone(postgres);
  });
});

it("goes on when nobody reads its output any more", async () => {
  const database = await createDatabase();
  const gateway = await startHttpGateway();
  try {
    const child = spawn(process.execPath, ["src/main.ts"], {
      cwd: ROOT,
      env: {
        PATH: process.env.PATH ?? "",
        PORT: "0",
        DATABASE_URL: database.url,
        WEBHOOK_URL: gateway.url,
        LOG_LEVEL: "debug",
      },
    });
    const program = watch(child);
    await program.ready();
    child.stdout.destroy();
    await queryOnce(database.url, "select outbox.pause(); select outbox.resume()");
    await queryOnce(
      database.url,
      "insert into outbox.messages (recipient, content) values ('+905551234567', 'hi')",
    );
    await gateway.received(1);
    program.kill("SIGTERM");
    expect(await program.end).toEqual({ code: 0, signal: null });
  } finally {
    await gateway.close();
    await database.drop();
  }
});
