/** A metric as an expression names it. */
export interface Selector {
  readonly metric: string;
  readonly matchers: readonly Matcher[];
}

export interface Matcher {
  readonly label: string;
  readonly operator: string;
  readonly value: string;
}

export interface Names {
  readonly selectors: readonly Selector[];
  /** Labels in by (…), without (…), on (…) and the like. */
  readonly grouping: readonly string[];
}

const TOKEN =
  /\s+|#[^\n]*|(?<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?<range>\[[^\]]*\])|(?<number>\d[\w.]*)|(?<name>[a-zA-Z_:][\w:]*)|(?<sign>=~|!~|!=|==|>=|<=|[-+*/%^=<>(){},@])/y;

const GROUPS = new Set(["by", "without", "on", "ignoring", "group_left", "group_right"]);
const WORDS = new Set(["and", "or", "unless", "bool", "offset", "inf", "nan", "atan2"]);

/**
 * What metrics and labels a PromQL expression names. It knows no grammar (promtool checks that), only what a name stands for by what is
 * next to it: before `(` a function, after `by` and its likes a list of labels, before or within `{` a selector.
 */
export function namesIn(expr: string): Names {
  const tokens = tokensOf(expr);
  const selectors: Selector[] = [];
  const grouping: string[] = [];
  let at = 0;
  const next = () => tokens[at]?.text;

  while (at < tokens.length) {
    const { kind, text } = tokens[at++] as Token;
    if (text === "{") throw new Error(`a selector without a metric in ${expr}`);
    if (kind !== "name") continue;
    if (GROUPS.has(text)) {
      if (next() === "(") grouping.push(...until(")").filter((one) => one !== "(" && one !== ","));
    } else if (next() !== "(" && !GROUPS.has(next() ?? "") && !WORDS.has(text.toLowerCase())) {
      selectors.push({ metric: text, matchers: next() === "{" ? matchersOf(until("}")) : [] });
    }
  }
  return { selectors, grouping };

  function until(end: string): string[] {
    const from = at;
    while (next() !== end) if (at++ >= tokens.length) throw new Error(`no ${end} in ${expr}`);
    return tokens.slice(from, at++).map((token) => token.text);
  }
}

interface Token {
  readonly kind: "string" | "range" | "number" | "name" | "sign";
  readonly text: string;
}

function tokensOf(expr: string): Token[] {
  const tokens: Token[] = [];
  for (let at = 0; at < expr.length; ) {
    TOKEN.lastIndex = at;
    const found = TOKEN.exec(expr);
    if (found === null) throw new Error(`cannot read ${expr.slice(at)} in ${expr}`);
    at += found[0].length;
    const group = Object.entries(found.groups ?? {}).find(([, text]) => text !== undefined);
    if (group !== undefined) tokens.push({ kind: group[0] as Token["kind"], text: found[0] });
  }
  return tokens;
}

/** `{` label operator string `,` label … */
function matchersOf(tokens: readonly string[]): Matcher[] {
  const matchers: Matcher[] = [];
  for (let at = 1; at + 2 < tokens.length; at += 4)
    matchers.push({
      label: tokens[at] as string,
      operator: tokens[at + 1] as string,
      value: (tokens[at + 2] as string).slice(1, -1),
    });
  return matchers;
}
