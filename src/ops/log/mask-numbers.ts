import { isIPv4 } from "node:net";

/** Hides the middle of a phone number, always at least half of it: `+905551234567` becomes `+90******4567`. */
export function maskNumber(number: string): string {
  const digits = number.replace(/\D/g, "").length;
  const head = Math.min(2, Math.floor(digits / 6));
  const tail = Math.min(4, Math.floor(digits / 3));
  let nth = 0;
  return number.replace(/\d/g, (digit) => {
    nth++;
    return nth <= head || nth > digits - tail ? digit : "*";
  });
}

const E164 = /\+[1-9]\d{6,14}/g;
const RUN = /\+?\d{7,}/g;
/** As people write them: 0555 123 45 67, (212) 555-0100. */
const GROUPED = /(?<![\w.:])\+?\(?\d(?:[ ()/-]{0,2}\d){6,14}(?![\w:])/g;
/** 555.123.4567, which an address is not: that has four groups up to 255. */
const DOTTED = /(?<![\w.:])\+?\d{1,4}(?:\.\d{2,4}){2,5}(?![\w:]|\.\d)/g;
const DATE = /^\d{4}-\d\d-\d\d/;

/** For words of ours, in which there are ids and times, too: only what can be nothing else. */
export function maskPlainNumbers(text: string): string {
  return text.replace(E164, maskNumber);
}

/** For words from outside, such as a gateway's answer: whatever may be a number. */
export function maskLikelyNumbers(text: string): string {
  return text
    .replace(RUN, maskNumber)
    .replace(GROUPED, (found) => (DATE.test(found) ? found : maskNumber(found)))
    .replace(DOTTED, (found) => (isIPv4(found) ? found : maskNumber(found)));
}
