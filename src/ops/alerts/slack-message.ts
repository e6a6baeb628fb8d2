import type { AlertWords, Words } from "./words.ts";

/** https://docs.slack.dev/reference/block-kit/blocks: the most characters that a header and a section take. */
const HEADER = 150;
const SECTION = 3_000;

const SIGNS = { critical: ":red_circle:", warning: ":large_orange_circle:", over: ":large_green_circle:" };

/** What an incoming webhook takes: blocks, and a text for notifications. */
export function slackMessage({ title, alerts, more }: Words): object {
  return {
    text: escaped(title),
    blocks: [
      { type: "header", text: { type: "plain_text", text: cut(title, HEADER), emoji: false } },
      ...alerts.map((alert) => ({
        type: "section",
        text: { type: "mrkdwn", text: cut(section(alert), SECTION), verbatim: true },
      })),
      {
        type: "context",
        elements: [{ type: "mrkdwn", text: cut(more.map(escaped).join("\n"), SECTION), verbatim: true }],
      },
    ],
  };
}

function section({ mark, state, summary, facts, commands, link }: AlertWords): string {
  return [
    `${SIGNS[mark]} *${escaped(state)}*: ${escaped(summary)}`,
    escaped(facts.join(" ")),
    ...commands.map((command) => `\`\`\`${escaped(command)}\`\`\``),
    ...(link === undefined ? [] : [`<${escaped(link)}>`]),
  ].join("\n");
}

/** https://docs.slack.dev/messaging/formatting-message-text#escaping: these three, and no others. */
function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function cut(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most - 1).replace(/&[a-z]*$/, "")}…`;
}
