import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { createInterface } from "node:readline";
import { expect, it, onTestFinished } from "vitest";

const MAIN = path.resolve(import.meta.dirname, "../../src/demo/main.ts");

function run(environment: Record<string, string>) {
  const child = spawn(process.execPath, [MAIN], {
    env: { ...process.env, ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const next = async (stream: NodeJS.ReadableStream) => {
    const [line] = (await once(createInterface(stream), "line")) as [string];
    return line;
  };
  return {
    child,
    printed: () => next(child.stdout),
    said: () => next(child.stderr),
    exit: once(child, "exit") as Promise<[number | null, string | null]>,
  };
}

it.each(["SIGTERM", "SIGINT"] as const)(
  "prints a line for each message, and ends with 0 on %s",
  async (signal) => {
    const demo = run({ HOST: "127.0.0.1", PORT: "0" });
    const url = /http:\S+/.exec(await demo.said())?.[0] ?? "";
    const line = demo.printed();
    const message = { to: "+905551234567", content: "hello\nworld" };
    const response = await fetch(url, { method: "POST", body: JSON.stringify(message) });
    const { messageId } = (await response.json()) as { messageId: string };
    expect(JSON.parse(await line)).toEqual({ ...message, messageId });
    demo.child.kill(signal);
    expect(await demo.exit).toEqual([0, null]);
  },
);

it("says what is wrong with its settings", async () => {
  const words = run({ PORT: "http" });
  expect(await words.said()).toMatch(/PORT is "http", and has to be a number from 0 to 65535/);
  expect(await words.exit).toEqual([1, null]);

  const elsewhere = run({ HOST: "192.0.2.1", PORT: "0" });
  expect(await elsewhere.said()).toMatch(/EADDRNOTAVAIL.*HOST and PORT/);
  expect(await elsewhere.exit).toEqual([1, null]);
});
