import fc from "fast-check";
import { expect, test } from "vitest";
import { readReceipt } from "../../src/gateway/receipt.ts";

function read(text: string): string | null {
  return readReceipt(Buffer.from(text));
}

test.each([
  [
    "as documented",
    '{"message": "Accepted", "messageId": "67f2f8a8-ea58-4ed0-a6f9-ff217df4d849"}',
    "67f2f8a8-ea58-4ed0-a6f9-ff217df4d849",
  ],
  ["keys in any case", '{"MESSAGE": "Accepted", "messageid": "a"}', "a"],
  ["the value in any case", '{"message": "ACCEPTED", "messageId": "a"}', "a"],
  ["the keys in any order, among others", '{"MessageID": "a", "parts": 2, "Message": "accepted"}', "a"],
  ["a number", '{"message": "Accepted", "messageId": 42}', "42"],
  [
    "a number beyond 2^53",
    '{"message": "Accepted", "messageId": 12345678901234567890}',
    "12345678901234567890",
  ],
  ["a byte order mark", '\ufeff{"message": "Accepted", "messageId": "a"}', "a"],
  ["255 characters", `{"message": "Accepted", "messageId": "${"a".repeat(255)}"}`, "a".repeat(255)],
  ["control characters in the id", '{"message": "Accepted", "messageId": "a\\u0000\\u001bb\\n"}', "a b"],
  ["half a surrogate pair in the id", '{"message": "Accepted", "messageId": "a\\ud83d"}', "a\ufffd"],
])("a receipt: %s", (_name, text, id) => {
  expect(read(text)).toBe(id);
});

test.each([
  "",
  " ",
  "Accepted",
  "<html>Accepted</html>",
  "null",
  "[]",
  '"Accepted"',
  '["Accepted"]',
  '[{"message": "Accepted", "messageId": "a"}]',
  "{}",
  '{"message": "Accepted"}',
  '{"messageId": "a"}',
  '{"message": "Queued", "messageId": "a"}',
  '{"message": "Accepted ", "messageId": "a"}',
  '{"message": true, "messageId": "a"}',
  '{"message": "Accepted", "messageId": ""}',
  '{"message": "Accepted", "messageId": "  "}',
  '{"message": "Accepted", "messageId": "\\u0000"}',
  '{"message": "Accepted", "messageId": null}',
  '{"message": "Accepted", "messageId": true}',
  '{"message": "Accepted", "messageId": {}}',
  `{"message": "Accepted", "messageId": "${"a".repeat(256)}"}`,
  `{"message": "Accepted", "messageId": 1${"0".repeat(255)}}`,
  '{"message": "Accepted", "messageId": "a"',
  '{"message": "Accepted", "messageId": "a"} trailing',
  '{"data": {"message": "Accepted", "messageId": "a"}}',
])("no receipt: %s", (text) => {
  expect(read(text)).toBeNull();
});

test("whatever the bytes, an id is something Postgres can keep", () => {
  const receipts = fc
    .record({ message: fc.constantFrom("Accepted", "accepted", "no"), messageId: fc.jsonValue() })
    .map((receipt) => Buffer.from(JSON.stringify(receipt)));
  const bytes = fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array));
  fc.assert(
    fc.property(fc.oneof(receipts, bytes), (body) => {
      const id = readReceipt(body);
      if (id === null) return;
      expect(id.length).toBeGreaterThan(0);
      expect(id.length).toBeLessThanOrEqual(255);
      expect(id).not.toMatch(/\p{Cc}/u);
      expect(id.isWellFormed()).toBe(true);
    }),
  );
});
