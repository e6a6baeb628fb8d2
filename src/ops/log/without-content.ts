import { printable } from "../../gateway/printable.ts";

/** So many characters in a row that a message has as well are quoted from it. */
const QUOTE = 8;
/** Codes, which need no context to be worth something: 4711, 123-456, AB12CD. */
const CODES = [/\d(?:[ -]?\d)+/g, /[\p{L}\p{N}]+/gu];
const SHORTEST = 4;
const STATUS = /^http \d{3}(?:: )?/;

/** What a gateway says of a message, without what it quotes of its content. */
export function withoutContent(said: string, content: string): string {
  // As JSON and forms write it.
  const text = said
    .replace(/\\u([0-9a-f]{4})/gi, (_, code) => String.fromCharCode(Number.parseInt(code, 16)))
    .replace(/(?:%[0-9a-f]{2})+/gi, unescaped);
  const quoted = quotedOf(folded(text), folded(printable(content, content.length)));
  if (!quoted.includes(true)) return said;
  let rest = "";
  for (let i = 0; i < text.length; i++) {
    if (!quoted[i]) rest += text[i];
    else if (!quoted[i - 1]) rest += "[content]";
  }
  return rest;
}

/** For each character, whether it is. */
function quotedOf(text: string, content: string): boolean[] {
  const quoted = new Array<boolean>(text.length).fill(false);
  const length = Math.max(Math.min(QUOTE, content.length), SHORTEST);
  const parts = new Set<string>();
  for (let i = 0; i + length <= content.length; i++) parts.add(content.slice(i, i + length));
  for (let i = STATUS.exec(text)?.[0].length ?? 0; i + length <= text.length; i++) {
    if (parts.has(text.slice(i, i + length))) quoted.fill(true, i, i + length);
  }
  for (const { 0: code, index } of CODES.flatMap((codes) => [...text.matchAll(codes)])) {
    if (code.length >= SHORTEST && /\d/.test(code) && content.includes(code))
      quoted.fill(true, index, index + code.length);
  }
  return quoted;
}

/** Of the same length. */
function folded(text: string): string {
  return text.replace(/[\s+]/g, " ").replace(/\p{Lu}/gu, (letter) => {
    const small = letter.toLowerCase();
    return small.length === letter.length ? small : letter;
  });
}

function unescaped(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
