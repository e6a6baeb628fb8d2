import { printable } from "./printable.ts";

const LONGEST_ID = 255;
const BYTE_ORDER_MARK = 0xfeff;

/**
 * Reads the gateway's receipt, `{"message": "Accepted", "messageId": "…"}` in any case: the id it gave the message, or
 * null when this is no receipt.
 */
export function readReceipt(body: Buffer): string | null {
  const raw = body.toString("utf8");
  const text = raw.charCodeAt(0) === BYTE_ORDER_MARK ? raw.slice(1) : raw;
  const receipt = parseObject(text);
  if (receipt === null) return null;

  let accepted = false;
  let id: string | null = null;
  for (const [key, value] of Object.entries(receipt)) {
    const name = key.toLowerCase();
    if (name === "message") accepted ||= typeof value === "string" && value.toLowerCase() === "accepted";
    else if (name === "messageid") id ??= toId(key, value, text);
  }
  return accepted ? id : null;
}

function parseObject(text: string): object | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

function toId(key: string, value: unknown, text: string): string | null {
  if (typeof value === "number")
    return Number.isSafeInteger(value) ? String(value) : asWritten(key, value, text);
  if (typeof value !== "string" || value.length > LONGEST_ID) return null;
  return printable(value, LONGEST_ID) || null;
}

/** A number above 2^53 has lost digits in parsing, and the id must match the gateway's delivery reports. */
function asWritten(key: string, value: number, text: string): string | null {
  let written = String(value);
  JSON.parse(text, (name: string, parsed: unknown, context?: { source?: string }) => {
    if (name === key && parsed === value) written = context?.source ?? written;
    return parsed;
  });
  return written.length > LONGEST_ID ? null : written;
}
