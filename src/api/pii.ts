import { withoutAnswer as statusAlone } from "../gateway/without-answer.ts";

/** `+905551234567` → `+90********67`: enough to tell two apart, too little to call. */
export function maskNumber(number: string): string {
  return `${number.slice(0, 3)}${"*".repeat(Math.max(0, number.length - 5))}${number.slice(-2)}`;
}

/** With its plus sign or without. */
const NUMBER = /\+?\d{7,15}/g;

export function maskNumbersIn<Text extends string | null>(text: Text): Text {
  return (text?.replace(NUMBER, maskNumber) ?? null) as Text;
}

/**
 * An error for those who may not read messages: of the gateway's answer only the status is left. It may quote the number, written in
 * any way, and the text with its code.
 */
export function withoutAnswer<Text extends string | null>(error: Text): Text {
  return maskNumbersIn((error === null ? null : statusAlone(error)) as Text);
}

/** As maskNumbersIn, for every text in a JSON value. */
export function maskNumbersDeep<Value>(value: Value): Value {
  return JSON.parse(JSON.stringify(value), (_key, part: unknown) =>
    typeof part === "string" ? maskNumbersIn(part) : part,
  );
}
