import fc from "fast-check";
import { Webhook } from "standardwebhooks";
import { expect, test } from "vitest";
import { createSigner } from "../../src/gateway/signature.ts";

const SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

test("the signature of the specification's example", () => {
  const sign = createSigner(SECRET);
  expect(sign?.("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}')).toBe(
    "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
  );
});

test("standardwebhooks verifies every signature", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 1, maxLength: 64 }),
      fc.integer({ min: 1 }),
      fc.string({ unit: "grapheme" }),
      (key, id, content) => {
        const secret = Buffer.from(key).toString("base64");
        const timestamp = Math.floor(Date.now() / 1_000);
        const body = JSON.stringify({ content });
        const headers = {
          "webhook-id": `msg_x_${id}`,
          "webhook-timestamp": String(timestamp),
          "webhook-signature": createSigner(secret)?.(`msg_x_${id}`, timestamp, body) ?? "",
        };
        expect(new Webhook(secret).verify(body, headers)).toEqual({ content });
      },
    ),
  );
});

test("the prefix whsec_ makes no difference", () => {
  const bare = createSigner(SECRET.slice("whsec_".length));
  expect(bare?.("a", 1, "b")).toBe(createSigner(SECRET)?.("a", 1, "b"));
});

test("without a secret there is no signer", () => {
  expect(createSigner(undefined)).toBeNull();
});

test.each(["", "whsec_", "not base64!", "whsec_abcde", "a b c d"])("the secret %j is refused", (secret) => {
  expect(() => createSigner(secret)).toThrow(TypeError);
});
