import { expect, test } from "vitest";
import { failureText } from "../../src/gateway/failure-text.ts";

function failure(message: string, details: object): Error {
  return Object.assign(new Error(message), details);
}

const REFUSED = failure("connect ECONNREFUSED 127.0.0.1:9", {
  code: "ECONNREFUSED",
  address: "127.0.0.1",
  port: 9,
});

test.each([
  ["connection refused (ECONNREFUSED 127.0.0.1:9)", REFUSED],
  [
    "host name not found (ENOTFOUND sms.invalid)",
    failure("…", { code: "ENOTFOUND", hostname: "sms.invalid" }),
  ],
  [
    "host name lookup failed for now (EAI_AGAIN sms.example)",
    failure("…", { code: "EAI_AGAIN", hostname: "sms.example" }),
  ],
  [
    "host unreachable (EHOSTUNREACH 10.0.0.1:443)",
    failure("…", { code: "EHOSTUNREACH", address: "10.0.0.1", port: 443 }),
  ],
  ["connection reset (ECONNRESET)", failure("read ECONNRESET", { code: "ECONNRESET" })],
  [
    "connection closed by the gateway (other side closed)",
    failure("other side closed", { code: "UND_ERR_SOCKET" }),
  ],
  [
    "TLS failed: self-signed certificate (DEPTH_ZERO_SELF_SIGNED_CERT)",
    failure("self-signed certificate", { code: "DEPTH_ZERO_SELF_SIGNED_CERT" }),
  ],
  [
    "TLS failed: wrong version number (ERR_SSL_WRONG_VERSION_NUMBER)",
    failure("wrong version number", { code: "ERR_SSL_WRONG_VERSION_NUMBER" }),
  ],
  ["malformed answer: Expected HTTP/", failure("Expected HTTP/", { name: "HTTPParserError" })],
  ["something new (E_NEW)", failure("something new", { code: "E_NEW" })],
  ["a bug", new Error("a bug")],
  ["a b", new Error("a\u0000\nb")],
])("%s", (text, error) => {
  expect(failureText(error)).toBe(text);
});

test("each address that was tried is named, once for each way to fail", () => {
  const other = failure("…", { code: "ECONNREFUSED", address: "::1", port: 9 });
  expect(failureText(new AggregateError([other, REFUSED, REFUSED]))).toBe(
    "connection refused (ECONNREFUSED ::1:9), connection refused (ECONNREFUSED 127.0.0.1:9)",
  );
});
