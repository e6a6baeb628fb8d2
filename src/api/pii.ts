/** `+905551234567` → `+90********67`: enough to tell two apart, too little to call. */
export function maskNumber(number: string): string {
  return `${number.slice(0, 3)}${"*".repeat(Math.max(0, number.length - 5))}${number.slice(-2)}`;
}

/** A gateway's answer may quote the number, with its plus sign or without. */
const NUMBER = /\+?\d{7,15}/g;

export function maskNumbersIn<Text extends string | null>(text: Text): Text {
  return (text?.replace(NUMBER, maskNumber) ?? null) as Text;
}

/** As maskNumbersIn, for every text in a JSON value. */
export function maskNumbersDeep<Value>(value: Value): Value {
  return JSON.parse(JSON.stringify(value), (_key, part: unknown) =>
    typeof part === "string" ? maskNumbersIn(part) : part,
  );
}
