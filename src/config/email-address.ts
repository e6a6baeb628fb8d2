import { setting } from "./values.ts";

export const EMAIL_ADDRESS = "an address is ops@example.com, or Operations <ops@example.com>";

/** One of the form that mail servers take; whether it exists only they know. */
export function isEmailAddress(text: string): boolean {
  return (
    /^(?:[^<>@,;:\\"\p{Cc}]* <)?[^\s<>@,;:\\"\p{Cc}]+@[^\s<>@,;:\\"\p{Cc}]+>?$/u.test(text) &&
    text.includes("<") === text.endsWith(">")
  );
}

export function emailAddress() {
  return setting("an e-mail address, such as ops@example.com or Operations <ops@example.com>", (given) =>
    typeof given === "string" && isEmailAddress(given) ? given : undefined,
  );
}
