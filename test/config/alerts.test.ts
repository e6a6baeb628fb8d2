import { describe, expect, test } from "vitest";
import { secretsInWebhook } from "../../src/config/passwords.ts";
import { parseSize } from "../../src/config/thresholds.ts";
import { faultsOf, load } from "./loading.ts";

const EMAIL = {
  ALERTS_SMTP_URL: "smtp://relayer:p%40ss@smtp.example.com:587",
  ALERTS_EMAIL_FROM: "SMS outbox <outbox@example.com>",
  ALERTS_EMAIL_TO: "ops@example.com, night@example.com",
};
const emailOf = (env: Record<string, string>) => load(undefined, { ...EMAIL, ...env }).alerts.email;

describe("e-mail", () => {
  test("by a URL", () => {
    expect(emailOf({})).toEqual({
      host: "smtp.example.com",
      port: 587,
      secure: false,
      requireTls: true,
      user: "relayer",
      password: "p@ss",
      from: "SMS outbox <outbox@example.com>",
      to: ["ops@example.com", "night@example.com"],
    });
  });

  test("with the password apart, as it is", () => {
    expect(
      emailOf({ ALERTS_SMTP_URL: "smtps://relayer@smtp.example.com", ALERTS_SMTP_PASSWORD: "a%b c" }),
    ).toMatchObject({ port: undefined, secure: true, requireTls: false, user: "relayer", password: "a%b c" });
  });

  test.each([
    ["smtp://localhost:25", {}, false],
    ["smtp://127.0.0.1", {}, false],
    ["smtp://[::1]", {}, false],
    ["smtp://smtp.example.com", {}, true],
    ["smtp://smtp.example.com", { ALERTS_SMTP_TLS: "optional" }, false],
  ])("%s %j: TLS required: %s", (url, env, requireTls) => {
    expect(emailOf({ ALERTS_SMTP_URL: url, ...env })).toMatchObject({ requireTls, user: undefined });
  });

  test("is whole or not there: all that is missing is told", () => {
    expect(faultsOf(undefined, { ALERTS_EMAIL_TO: "ops@example.com" })).toEqual([
      "alerts.smtp_url (config.yaml): missing; e-mail needs smtp_url, email_from and email_to",
      "alerts.email_from (config.yaml): missing; e-mail needs smtp_url, email_from and email_to",
    ]);
    expect(faultsOf("alerts:\n  email_to: []\n", { ...EMAIL, ALERTS_EMAIL_TO: undefined })).toEqual([
      "alerts.email_to (config.yaml:2): missing; e-mail needs smtp_url, email_from and email_to",
    ]);
  });

  test("a password without a user, or given twice, is a fault", () => {
    const ALERTS_SMTP_PASSWORD = "hunter2";
    expect(faultsOf(undefined, { ...EMAIL, ALERTS_SMTP_PASSWORD })).toEqual([
      "ALERTS_SMTP_PASSWORD (environment): alerts.smtp_url has a password, too; give it once",
    ]);
    for (const ALERTS_SMTP_URL of ["smtp://smtp.example.com", undefined])
      expect(faultsOf(undefined, { ...EMAIL, ALERTS_SMTP_URL, ALERTS_SMTP_PASSWORD })).toContain(
        "ALERTS_SMTP_PASSWORD (environment): there is no user it is of; name one in alerts.smtp_url, as smtp://user@host",
      );
  });

  test.each([
    "http://smtp.example.com",
    "smtp.example.com",
    "smtp://",
    "smtp://host/path",
    "smtp://host?tls=no",
    "smtp://u:%@host",
  ])("%s is no server", (ALERTS_SMTP_URL) => {
    expect(faultsOf(undefined, { ...EMAIL, ALERTS_SMTP_URL })).toEqual([
      expect.stringContaining("is not an smtp:// or smtps:// URL of a host alone"),
    ]);
  });

  test.each(["ops", "@example.com", "ops@", "a b@example.com", "<ops@example.com", "Ops <ops@example.com>>"])(
    "%s is no address",
    (address) => {
      expect(faultsOf(undefined, { ...EMAIL, ALERTS_EMAIL_FROM: address })).toHaveLength(1);
      expect(faultsOf(undefined, { ...EMAIL, ALERTS_EMAIL_TO: address })).toEqual([
        expect.stringContaining("is not a list of e-mail addresses"),
      ]);
    },
  );
});

test("faults show neither a webhook's URL nor a password", () => {
  const faults = faultsOf(undefined, {
    ...EMAIL,
    ALERTS_SLACK_URL: "hooks.slack.com/services/hunter2",
    ALERTS_SMTP_URL: "smtp://relayer:hunter2@host/path",
  });
  expect(faults).toHaveLength(2);
  expect(faults.join("\n")).not.toContain("hunter2");
});

test("links get the path after the last slash", () => {
  expect(load(undefined, { ALERTS_LINK_URL: "https://sms.example.com/relay//" }).alerts.linkUrl).toBe(
    "https://sms.example.com/relay",
  );
  expect(faultsOf(undefined, { ALERTS_LINK_URL: "https://a:b@sms.example.com" })).toHaveLength(1);
});

test("each threshold may be off", () => {
  const yaml = `alerts:
  new_dead_letters: off
  dead_letters: off
  oldest_due_age: off
  gateway_held: off
  scheduler_stopped: off
  no_relayer: off
  query_store_lag: off
  slot_wal: off
`;
  expect(new Set(Object.values(load(yaml).alerts.thresholds))).toEqual(new Set([null]));
  expect(load(undefined, { ALERTS_SLOT_WAL: "off" }).alerts.thresholds.slotWalBytes).toBeNull();
  expect(faultsOf("alerts:\n  no_relayer: no\n  slot_wal: 5\n  dead_letters: 0\n")).toEqual([
    expect.stringContaining("is not a whole number from 1 to 9999, or off"),
    expect.stringContaining("is not a duration from 1s to 7d, such as 2s, 5m, 24h or 30d, or off"),
    expect.stringContaining("is not a size from 1MB to 100TB, such as 500MB or 1.5GB, or off"),
  ]);
});

test("sizes are Postgres'", () => {
  expect(["1B", "1kB", "1.5MB", "2GB", "1TB"].map(parseSize)).toEqual([
    1,
    1_024,
    1_572_864,
    2 ** 31,
    2 ** 40,
  ]);
  for (const text of ["1", "1KB", "1 GB", "GB", "-1GB", "1gb"]) expect(parseSize(text)).toBeUndefined();
});

test("of a webhook's URL, the whole is secret, and its path where that is long enough to be one", () => {
  expect(secretsInWebhook("https://hooks.example/services/T0/B0/x?y=z")).toEqual([
    "https://hooks.example/services/T0/B0/x?y=z",
    "/services/T0/B0/x?y=z",
  ]);
  expect(secretsInWebhook("http://127.0.0.1:1/hook")).toEqual(["http://127.0.0.1:1/hook"]);
});
