import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { maskNumber } from "../../src/ops/log/mask-numbers.ts";
import { createLogger, errorMessage, type LogOptions } from "../../src/ops/log.ts";

function loggerInto(options: Partial<LogOptions> = {}) {
  const lines: string[] = [];
  const destination = { write: (line: string) => void lines.push(line) };
  const log = createLogger({ level: "info", pretty: false, secrets: [], destination, ...options });
  return { log, lines, json: (): unknown => JSON.parse(lines.join("")) };
}

const refused = () =>
  Object.assign(new Error("connect ECONNREFUSED 127.0.0.1:5432"), {
    code: "ECONNREFUSED",
    values: ["hidden"],
  });

test("a line is JSON with an ISO time, a named level and the fields", () => {
  const { log, json } = loggerInto();
  log.info({ messages_claimed: 7 }, "claimed");
  expect(json()).toEqual({
    level: "info",
    time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
    messages_claimed: 7,
    msg: "claimed",
  });
});

test("lines below the level are not written", () => {
  const { log, lines } = loggerInto({ level: "warn" });
  log.info("quiet");
  expect(lines).toEqual([]);
});

test.each([
  ["info", "warn", false],
  ["info", "error", true],
  ["debug", "warn", true],
] as const)("at level %s, an error in a %s line has its stack: %s", (level, line, hasStack) => {
  const { log, lines, json } = loggerInto({ level });
  log[line]({ err: refused() }, "no database");
  const err = { type: "Error", message: "connect ECONNREFUSED 127.0.0.1:5432", code: "ECONNREFUSED" };
  expect(json()).toMatchObject({ msg: "no database", err });
  expect(lines.join("").includes("log.test.ts")).toBe(hasStack);
  expect(lines.join("")).not.toContain("hidden");
});

test("an error stands under any key, alone, and in a child's bindings", () => {
  const { log, lines } = loggerInto();
  log.warn({ cause: refused() }, "a");
  log.warn(refused());
  log.child({ err: refused() }).warn("c");
  expect(lines).toHaveLength(3);
  for (const line of lines) expect(line).toContain('"code":"ECONNREFUSED"');
});

test("an error's message includes its causes and the parts of an aggregate", () => {
  const both = new AggregateError([new Error("refused on ::1"), new Error("refused on 127.0.0.1")]);
  expect(errorMessage(new Error("no Redis", { cause: both }))).toBe(
    "no Redis: refused on ::1; refused on 127.0.0.1",
  );
  expect(errorMessage("just text")).toBe("just text");
  const circular = new Error("round");
  circular.cause = circular;
  expect(errorMessage(circular)).toBe("round");
});

test.each(["p@ss/w:rd", 'quo"te\\d', "ğüvenli şifre", "$& $1", "x"])(
  "the secret %s is in no line",
  (secret) => {
    for (const pretty of [false, true]) {
      const { log, lines } = loggerInto({ pretty, secrets: ["", secret] });
      const url = new URL("postgres://outbo_@db/outbo_");
      url.password = secret;
      log.info({ nested: [{ url: url.href, [secret]: true }], secret }, `connecting with ${secret}`);
      log.error(new Error(`refused: ${encodeURIComponent(secret)}`));
      log.child({ bound: secret }).info("bound");
      log.info(JSON.stringify({ quoted: secret }));
      expect(lines).toHaveLength(4);
      for (const line of lines) {
        expect(line).toContain("[redacted]");
        // "x" would also be found in words of the line's own, such as the message's.
        if (secret.length > 1) {
          for (const spelling of [
            secret,
            url.password,
            encodeURIComponent(secret),
            JSON.stringify(secret).slice(1, -1),
          ])
            expect(line).not.toContain(spelling);
        }
        if (!pretty) expect(() => JSON.parse(line)).not.toThrow();
      }
    }
  },
);

test("a secret that holds another one is redacted whole, and numbers too", () => {
  const { log, json } = loggerInto({ secrets: ["1234", "1234-5678"] });
  log.info({ pin: 1234 }, "with 1234-5678");
  expect(json()).toMatchObject({ level: "info", pin: "[redacted]", msg: "with [redacted]" });
});

test("a pretty line is one compact line for a person", () => {
  const { log, lines } = loggerInto({ pretty: true });
  log.info({ gateway: "default", count: 3, note: "two words", tags: ["a"] }, "relaying");
  log.warn({ err: refused() }, "no database");
  expect(lines).toHaveLength(2);
  expect(lines[0]).toMatch(
    /^\d\d:\d\d:\d\d INFO {3}relaying {2}gateway=default {2}count=3 {2}note="two words" {2}tags=\["a"\]\n$/,
  );
  expect(lines[1]).toMatch(
    /^\S+ WARN {3}no database {2}err="connect ECONNREFUSED 127.0.0.1:5432" {2}code=ECONNREFUSED\n$/,
  );
});

test("a pretty error says its message once, then its stack", () => {
  const { log, lines } = loggerInto({ pretty: true });
  log.error(refused());
  const [first, second] = lines.join("").split("\n");
  expect(first).toMatch(/^\S+ ERROR {2}connect ECONNREFUSED 127.0.0.1:5432 {2}code=ECONNREFUSED$/);
  expect(second).toMatch(/^ {4}at .*log\.test\.ts/);
});

test("a peer's text cannot move the cursor or fake a line", () => {
  const { log, lines } = loggerInto({ pretty: true });
  log.info({ answer: "\u001b[2J\u009b1m" }, "said\n00:00:00 INFO  all is well");
  expect(lines.join("").trimEnd()).not.toMatch(/\p{Cc}/u);
});

test.each([true, false])("no line is lost when the process exits at once (pretty: %s)", (pretty) => {
  const module = new URL("../../src/ops/log.ts", import.meta.url).href;
  const program = `
    import { createLogger } from ${JSON.stringify(module)};
    const log = createLogger({ level: "info", pretty: ${pretty}, secrets: [] });
    for (let i = 0; i < 5000; i++) log.info({ i }, "line");
    process.exit(0);`;
  const out = execFileSync(process.execPath, ["--input-type=module", "-e", program], { encoding: "utf8" });
  expect(out.trimEnd().split("\n")).toHaveLength(5000);
  expect(out).toContain("4999");
});

test.each([
  ["+905551234567", "+90******4567"],
  ["905551234567", "90******4567"],
  ["+4915112345", "+4******345"],
  ["+1234", "+***4"],
  ["12", "**"],
  ["", ""],
])("the number %s is shown as %s", (number, masked) => {
  expect(maskNumber(number)).toBe(masked);
});

test.each([
  ["a number of ours", { to: "+905551234567" }, { to: "+90******4567" }],
  ["in our words", { note: "resent to +905551234567." }, { note: "resent to +90******4567." }],
  ["in a path", { path: "/api/v1/messages/+905551234567" }, { path: "/api/v1/messages/+90******4567" }],
  ["in a list", { to: ["+15550001111", 7] }, { to: ["+1*******111", 7] }],
  [
    "a gateway's words",
    { error: 'HTTP 400: {"to":"905551234567"}' },
    { error: 'HTTP 400: {"to":"90******4567"}' },
  ],
  ["without the country", { detail: "5551234567 is not mobile" }, { detail: "5******567 is not mobile" }],
  ["as people write it", { answer: "0555 123 45 67 is barred" }, { answer: "0*** *** *5 67 is barred" }],
  ["with dots", { error: "HTTP 400: 212.555.0100" }, { error: "HTTP 400: 2**.***.*100" }],
  ["with brackets", { reason: "(212) 555-0100 is barred" }, { reason: "(2**) ***-*100 is barred" }],
  ["deep in it", { error: { answers: ["to 905551234567"] } }, { error: { answers: ["to 90******4567"] } }],
])("a phone number is masked: %s", (_, fields, shown) => {
  const { log, json } = loggerInto();
  log.info(fields, "x");
  expect(json()).toMatchObject(shown);
});

test("a phone number is masked in an error, its causes and its stack, and in the message", () => {
  const { log, lines } = loggerInto();
  const cause = new Error("duplicate key (905551234567)");
  log.error({ err: new Error("no insert for 5551234567", { cause }) }, "failed for +905551234567");
  log.error(new Error("alone: 905551234567"));
  const all = lines.join("");
  expect(all).not.toMatch(/5551234567/);
  expect(JSON.parse(lines[0] ?? "")).toMatchObject({
    msg: "failed for +90******4567",
    err: { message: "no insert for 5******567: duplicate key (90******4567)" },
  });
  expect(JSON.parse(lines[1] ?? "")).toMatchObject({ msg: "alone: 90******4567" });
});

test("ids, times and addresses are no phone numbers", () => {
  const { log, json } = loggerInto();
  const fields = {
    message_ids: [1_234_567_890, 905_551_234_567],
    request_id: "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    gateway_message_id: "20261126213311",
    path: "/api/v1/messages/1234567890",
    held_until: "2026-11-26T21:33:11.123456+00:00",
    error: "connect ECONNREFUSED 127.0.0.1:5432 at 2026-11-26 21:33:11 (HTTP 503)",
    reason: "no route to 192.168.100.200, 10.10.10.10 in version 26.14.0",
  };
  log.info(fields, "listening on 10.11.12.13:54329");
  expect(json()).toMatchObject({ ...fields, msg: "listening on 10.11.12.13:54329" });
});

test("secrets and numbers go from the same line", () => {
  const { log, json } = loggerInto({ secrets: ["5551234567"] });
  log.info({ error: "5551234567 and 905550001111" }, "x");
  expect(json()).toMatchObject({ error: "[redacted] and 90******1111" });
});
