import { expect, test } from "vitest";
import type { Result } from "../../src/db/outbox.ts";
import { createAnswers } from "../../src/ops/log/answers.ts";
import { withoutContent } from "../../src/ops/log/without-content.ts";

const CONTENT = "Şifreniz: 482913. Grüße\naus Köln, 50% indirim!";

test.each([
  [
    "whole",
    'HTTP 400: {"text":"Şifreniz: 482913. Grüße aus Köln, 50% indirim!"}',
    'HTTP 400: {"text":"[content]"}',
  ],
  ["cut off", "HTTP 400: bad text: Şifreniz: 482913. Grü…", "HTTP 400: bad text: [content]…"],
  ["its code alone", "HTTP 422: 482913 looks like a code", "HTTP 422: [content] looks like a code"],
  ["in capitals", "HTTP 400: AUS KÖLN, 50% refused", "HTTP 400: [content]refused"],
  ["as JSON for ASCII", String.raw`HTTP 400: \u015eifreniz: 482913`, "HTTP 400: [content]"],
  ["in a form", "HTTP 400: text=%C5%9Eifreniz%3A+482913.+Gr%C3%BC%C3%9Fe", "HTTP 400: text=[content]"],
])("what an answer quotes of a message is not logged: %s", (_, said, shown) => {
  expect(withoutContent(said, CONTENT)).toBe(shown);
});

test.each([
  ["482-913", "HTTP 400: code 482-913 refused", "HTTP 400: code [content] refused"],
  ["Code: 482913.", "HTTP 400: OTP482913", "HTTP 400: OTP[content]"],
  ["hello", "HTTP 400: hello is no text", "HTTP 400: [content] is no text"],
  ["x", "HTTP 400: x marks the spot", "HTTP 400: x marks the spot"],
  ["Your code is AB12CD", "HTTP 400: AB12CD", "HTTP 400: [content]"],
])("%s, too", (content, said, shown) => {
  expect(withoutContent(said, content)).toBe(shown);
});

test("what it says in words of its own is left as it is", () => {
  const said = String.raw`HTTP 400: {"error":"sender not allowed","trace":"\u0041%zz"} (100% sure)`;
  expect(withoutContent(said, CONTENT)).toBe(said);
});

const failed = (error: string, content: string) =>
  ({ claim: { content }, outcome: { error } }) as unknown as Result;

test("why a gateway is left alone is shown without quotes; of what another relayer was told, the status alone", () => {
  const answers = createAnswers();
  const said = "HTTP 503: no room for Your code is 482913";
  answers.heard(failed(said, "Your code is 482913"));
  expect(answers.shown(said)).toBe("HTTP 503: no room for [content]");
  expect(answers.shown(`5 failures in a row; the last: ${said}`)).toBe(
    "5 failures in a row; the last: HTTP 503: no room for [content]",
  );
  expect(answers.shown("HTTP 401: Your code is 111111")).toBe("HTTP 401");
  for (let n = 0; n < 200; n++) answers.heard(failed(`HTTP 500: ${n}`, "hello"));
  expect(answers.shown(said)).toBe("HTTP 503");
});
