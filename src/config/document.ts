import { isAlias, isMap, isScalar, LineCounter, type Node, parseDocument, visit } from "yaml";
import { ConfigError } from "./config-error.ts";

/** A parsed YAML file that still knows its lines. */
export interface ConfigDocument {
  readonly root: unknown;
  /** `config.yaml:14`, or the file alone for a path that does not stand in it. */
  where(path: readonly string[]): string;
}

/** Throws ConfigError with the first fault of malformed YAML: what follows one is seldom a fault of its own. */
export function readDocument(yaml: string, file: string): ConfigDocument {
  const lines = new LineCounter();
  // Not prettyErrors: they quote the line, and a secret may stand on it.
  const document = parseDocument(yaml, { lineCounter: lines, prettyErrors: false });
  const fault = document.errors[0] ?? document.warnings[0];
  if (fault !== undefined) {
    throw new ConfigError([`${file}:${lines.linePos(fault.pos[0]).line}: ${withoutSource(fault.message)}`]);
  }
  visit(document, {
    Alias(_key, alias) {
      if (alias.resolve(document) !== undefined) return;
      const line = lines.linePos(alias.range?.[0] ?? 0).line;
      throw new ConfigError([
        `${file}:${line}: An alias that names no anchor; quote a text that begins with *`,
      ]);
    },
  });

  return {
    root: toValue(),
    where(path) {
      const line = lineOf(path);
      return line === undefined ? file : `${file}:${line}`;
    },
  };

  function toValue(): unknown {
    try {
      return document.toJS();
    } catch (error) {
      throw new ConfigError([
        `${file}: ${withoutSource(error instanceof Error ? error.message : String(error))}`,
      ]);
    }
  }

  function lineOf(path: readonly string[]): number | undefined {
    let node: unknown = document.contents;
    let start: number | undefined;
    for (const segment of path) {
      const map = isAlias(node) ? node.resolve(document) : node;
      if (!isMap<Node, Node>(map)) return undefined;
      const pair = map.items.find(({ key }) => isScalar(key) && String(key.value) === segment);
      if (pair === undefined) return undefined;
      start = pair.key.range?.[0];
      node = pair.value;
    }
    return start === undefined ? undefined : lines.linePos(start).line;
  }
}

/** The parser's messages end in ": " or an escape sequence quoted from the file, which may be a secret's. */
function withoutSource(message: string): string {
  return message.replace(/(?<=[\w)]): .*$| \\.*$/s, "");
}
