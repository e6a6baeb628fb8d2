import type { AlertWords, Words } from "./words.ts";

/** The body of an e-mail. */
export function plainText({ alerts, more }: Words): string {
  return `${[...alerts.map(paragraph), more.join("\n")].join("\n\n")}\n`;
}

function paragraph({ state, summary, facts, commands, link }: AlertWords): string {
  return [
    `${state.toUpperCase()}: ${summary}`,
    ...facts,
    ...[...commands, ...(link === undefined ? [] : [link])].map((command) => `  ${command}`),
  ].join("\n");
}
