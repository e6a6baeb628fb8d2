import type { Request } from "./wire.ts";

/** The request as a command for a POSIX shell. */
export function curl(origin: string, { method, target, headers, body }: Request): string {
  const words = ["curl", "-sS", "-i", "--path-as-is", "--globoff"];
  if (method === "HEAD") words.push("-I");
  else if (method !== "GET" || body !== undefined) words.push("-X", method);
  for (const [name, value] of headers)
    words.push("-H", word(Buffer.from(value === "" ? `${name};` : `${name}: ${value}`, "latin1")));
  // curl would name a type of its own for a body.
  if (body !== undefined && !headers.some(([name]) => name.toLowerCase() === "content-type"))
    words.push("-H", "'Content-Type:'");
  words.push(word(Buffer.from(`${origin}${target}`)));
  if (body === undefined) return words.join(" ");
  // More is no argument for every shell, and a leading @ would name a file.
  const asArgument = isText(body) && body.length < 8_000 && body[0] !== "@".charCodeAt(0);
  if (asArgument) return [...words, "--data-binary", word(body)].join(" ");
  return `${printf(body)} | ${[...words, "--data-binary", "@-"].join(" ")}`;
}

function word(bytes: Buffer): string {
  return isText(bytes) ? `'${bytes.toString().replaceAll("'", "'\\''")}'` : `"$(${printf(bytes)})"`;
}

/** Something that a person can read and copy. */
function isText(bytes: Buffer): boolean {
  const text = bytes.toString();
  return Buffer.from(text).equals(bytes) && !/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}\ufffd]/u.test(text);
}

function printf(bytes: Buffer): string {
  const escaped = [...bytes].map((byte, at) => {
    // A leading - would be an option.
    const plain =
      byte >= 0x20 &&
      byte < 0x7f &&
      !"'\\%".includes(String.fromCharCode(byte)) &&
      !(at === 0 && byte === 0x2d);
    return plain ? String.fromCharCode(byte) : `\\${byte.toString(8).padStart(3, "0")}`;
  });
  return `printf '${escaped.join("")}'`;
}
