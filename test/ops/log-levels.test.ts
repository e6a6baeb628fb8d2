import { describe, expect, test } from "vitest";
import { ConfigError } from "../../src/config/config-error.ts";
import { type LogLevels, PARTS } from "../../src/config/levels.ts";
import { createLogs } from "../../src/ops/log.ts";
import { setLevelsAnew } from "../../src/program/log-levels.ts";

describe("parts", () => {
  function logsInto(levels: LogLevels["levels"] = {}) {
    const lines: { part: string; msg: string }[] = [];
    const logs = createLogs({
      level: "info",
      levels,
      pretty: false,
      secrets: [],
      destination: { write: (line: string) => void lines.push(JSON.parse(line)) },
    });
    const write = () => {
      lines.length = 0;
      for (const part of ["relay", "api"] as const)
        for (const level of ["debug", "info", "error"] as const) logs.part(part)[level](level);
      return lines.map(({ part, msg }) => `${part} ${msg}`);
    };
    return { logs, write, lines };
  }

  test("each line says its part, and each part may have a level of its own", () => {
    const { write } = logsInto({ relay: "debug", api: "error" });
    expect(write()).toEqual(["relay debug", "relay info", "relay error", "api error"]);
  });

  test("levels change while it runs, and it says which", () => {
    const { logs, write } = logsInto({ relay: "debug" });
    expect(logs.setLevels({ level: "warn", levels: { api: "info" } })).toEqual(
      PARTS.filter((part) => part !== "api").map((part) => ({
        part,
        from: part === "relay" ? "debug" : "info",
        to: "warn",
      })),
    );
    expect(write()).toEqual(["relay error", "api info", "api error"]);
    expect(logs.setLevels({ level: "warn", levels: { api: "info" } })).toEqual([]);
  });

  test("an error has its stack where that part's level is debug", () => {
    const { logs, lines } = logsInto({ relay: "debug" });
    logs.part("relay").warn({ err: new Error("refused") }, "a");
    logs.part("api").warn({ err: new Error("refused") }, "b");
    expect(lines).toMatchObject([{ err: { stack: expect.any(String) } }, {}]);
    expect(lines[1]).not.toHaveProperty("err.stack");
  });

  test("a person is not told the part: the words say enough", () => {
    const lines: string[] = [];
    const destination = { write: (line: string) => void lines.push(line) };
    const logs = createLogs({ level: "info", levels: {}, pretty: true, secrets: [], destination });
    logs.part("relay").info({ gateway: "default" }, "relaying");
    expect(lines[0]).toMatch(/^\d\d:\d\d:\d\d INFO {3}relaying {2}gateway=default\n$/);
  });
});

describe("levels that are read again", () => {
  function logsInto() {
    const lines: Record<string, unknown>[] = [];
    const destination = { write: (line: string) => void lines.push(JSON.parse(line)) };
    return {
      lines,
      logs: createLogs({ level: "error", levels: {}, pretty: false, secrets: [], destination }),
    };
  }

  test("are taken over, and it says what is different", () => {
    const { lines, logs } = logsInto();
    setLevelsAnew(logs, () => ({ level: "fatal", levels: { relay: "debug" } }));
    expect(lines).toMatchObject([
      {
        msg: "the log's levels were changed",
        part: "program",
        levels: { relay: "error → debug", api: "error → fatal" },
      },
    ]);
    setLevelsAnew(logs, () => ({ level: "fatal", levels: { relay: "debug" } }));
    expect(lines[1]).toMatchObject({ msg: "the log's levels were read again; nothing is different" });
  });

  test("with a fault change nothing, and it says which", () => {
    const { lines, logs } = logsInto();
    setLevelsAnew(logs, () => {
      throw new ConfigError(["log.level (config.yaml:1): loud"]);
    });
    expect(lines).toMatchObject([{ level: "error", faults: ["log.level (config.yaml:1): loud"] }]);
    expect(logs.part("relay").level).toBe("error");
  });
});
