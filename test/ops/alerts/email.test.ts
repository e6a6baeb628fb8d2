import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import tls from "node:tls";
import type { SMTPServerOptions } from "smtp-server";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { createEmail, type EmailOptions } from "../../../src/ops/alerts/email.ts";
import { selfSignedCertificate } from "../../gateway/self-signed-certificate.ts";
import { startSmtpServer } from "../../support/smtp-server.ts";
import { notice } from "./notices.ts";

const trusted = selfSignedCertificate();
const defaults = tls.getCACertificates("default");

// As NODE_EXTRA_CA_CERTS would.
beforeAll(() => tls.setDefaultCACertificates([...defaults, trusted.cert]));
afterAll(() => tls.setDefaultCACertificates(defaults));

async function server(options: SMTPServerOptions = {}) {
  const started = await startSmtpServer(options);
  onTestFinished(() => started.close());
  return started;
}

const email = (port: number, options: Partial<EmailOptions> = {}) =>
  createEmail({
    host: "127.0.0.1",
    port,
    secure: false,
    requireTls: false,
    user: undefined,
    password: undefined,
    from: "SMS outbox <outbox@example.com>",
    to: ["ops@example.com", "night@example.com"],
    name: "outbox",
    linkUrl: "https://sms.example.com",
    ...options,
  });

const auth: SMTPServerOptions = {
  authOptional: false,
  onAuth({ username, password }, _session, done) {
    if (username === "relayer" && password === "hunter2") done(null, { user: username });
    else done(new Error("5.7.8 no such user, or another password"));
  },
};

test("a letter with all of it, in the thread of its alerts, with the same id on each attempt", async () => {
  const smtp = await server();
  const channel = email(smtp.port);
  const its = notice({}, { id: 9, event: "recovered" });
  expect(await channel.send(its)).toEqual({ sent: true });
  expect(await channel.send(its)).toEqual({ sent: true });
  const [letter, again] = smtp.letters;
  expect(letter).toMatchObject({ from: "outbox@example.com", to: ["ops@example.com", "night@example.com"] });
  expect(Object.fromEntries(letter?.headers ?? [])).toMatchObject({
    from: "SMS outbox <outbox@example.com>",
    to: "ops@example.com, night@example.com",
    subject: "[outbox] critical: gateway default fails, and its circuit is open (and 1 more)",
    "message-id": "<notice-0b5d6a3e-1111-4222-8333-444455556666@a1b2c3d4e5f6.outbox-relayer>",
    references: "<alert-7@a1b2c3d4e5f6.outbox-relayer> <alert-9@a1b2c3d4e5f6.outbox-relayer>",
    "in-reply-to": "<alert-7@a1b2c3d4e5f6.outbox-relayer>",
    "auto-submitted": "auto-generated",
    importance: "High",
  });
  expect(letter?.text).toContain("select outbox.resume('default');");
  expect(letter?.text).toContain("OVER: gateway default");
  expect(again?.headers.get("message-id")).toBe(letter?.headers.get("message-id"));
});

test("no line break of a summary gets into the headers", async () => {
  const smtp = await server();
  await email(smtp.port).send(notice({ summary: "one\r\nBcc: evil@example.com" }));
  expect(smtp.letters[0]?.headers.get("subject")).toBe("[outbox] critical: one Bcc: evil@example.com");
  expect(smtp.letters[0]?.headers.has("bcc")).toBe(false);
  expect(smtp.letters[0]?.to).toHaveLength(2);
});

test.each([
  ["STARTTLS", { secure: false, requireTls: true }],
  ["TLS from the start", { secure: true }],
])("over %s, with user and password", async (_name, options) => {
  const smtp = await server({ ...trusted, ...auth, secure: options.secure });
  const login = { user: "relayer", password: "hunter2" };
  expect(await email(smtp.port, { ...options, ...login }).send(notice())).toEqual({ sent: true });
  expect(smtp.letters).toMatchObject([{ secure: true, user: "relayer" }]);
});

test("a wrong password is told, without the password", async () => {
  const smtp = await server({ ...trusted, ...auth });
  const delivery = await email(smtp.port, { user: "relayer", password: "hunter3" }).send(notice());
  expect(delivery).toEqual({
    sent: false,
    reason: expect.stringMatching(
      /Invalid login.*535.*\(check alerts\.smtp_url and alerts\.smtp_password\)$/,
    ),
  });
  expect(JSON.stringify(delivery)).not.toContain("hunter3");
});

test("without STARTTLS, where TLS is required, nothing is sent, and no password", async () => {
  let logins = 0;
  const smtp = await server({
    ...auth,
    allowInsecureAuth: true,
    onAuth(_login, _session, done) {
      logins += 1;
      done(null, { user: "relayer" });
    },
  });
  const login = { user: "relayer", password: "hunter2" };
  expect(await email(smtp.port, { requireTls: true, ...login }).send(notice())).toEqual({
    sent: false,
    reason: expect.stringContaining("smtps:// is TLS from the start"),
  });
  expect(logins).toBe(0);
  // Where it is not, they go as they are.
  expect(await email(smtp.port, login).send(notice())).toEqual({ sent: true });
});

test.each([
  ["STARTTLS", { secure: false, requireTls: true }],
  ["TLS", { secure: true }],
])("a certificate that nobody trusts is refused (%s)", async (_name, options) => {
  const smtp = await server({ ...selfSignedCertificate(), secure: options.secure });
  expect(await email(smtp.port, options).send(notice())).toEqual({
    sent: false,
    reason: expect.stringMatching(/self.signed certificate/i),
  });
  expect(smtp.letters).toEqual([]);
});

test("a server that refuses the letter is quoted", async () => {
  const smtp = await server({
    onMailFrom(_address, _session, done) {
      done(Object.assign(new Error("5.7.1 not from you"), { responseCode: 550 }));
    },
  });
  expect(await email(smtp.port).send(notice())).toEqual({
    sent: false,
    reason: expect.stringMatching(
      /550 5\.7\.1 not from you.*\(check alerts\.email_from and alerts\.email_to\)$/,
    ),
  });
});

test("an address that is refused is told, and the letter goes to the others, once", async () => {
  const smtp = await server({
    onRcptTo({ address }, _session, done) {
      if (address.startsWith("ops")) done();
      else done(Object.assign(new Error("no such user"), { responseCode: 550 }));
    },
  });
  expect(await email(smtp.port).send(notice())).toEqual({
    sent: true,
    remark: "the mail server refused night@example.com",
  });
  expect(smtp.letters).toMatchObject([{ to: ["ops@example.com"] }]);
});

test("nobody there", async () => {
  expect(await email(1).send(notice())).toMatchObject({
    sent: false,
    reason: expect.stringContaining("ECONNREFUSED"),
  });
});

test("a server that never says a word is given up in time, and when the program ends", async () => {
  const silent = createServer(() => {}).listen(0, "127.0.0.1");
  await new Promise((resolve) => silent.once("listening", resolve));
  onTestFinished(() => void silent.close());
  const { port } = silent.address() as AddressInfo;
  expect(await email(port, { timeoutMs: 50 }).send(notice())).toMatchObject({ sent: false });
  const ending = new AbortController();
  silent.once("connection", () => ending.abort());
  expect(await email(port).send(notice(), ending.signal)).toEqual({
    sent: false,
    reason: "given up, for the program ends",
  });
});
