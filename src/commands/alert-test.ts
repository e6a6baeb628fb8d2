import { randomUUID } from "node:crypto";
import type { Notice } from "../db/alerts.ts";
import type { Channel } from "../ops/alerts/channel.ts";
import { createChannels } from "../program/channels.ts";
import type { Command } from "./command.ts";

/** Sends one notice by each channel, and says what became of it. 0: all were sent; 1: one was not; 2: there is none. */
export const alertTestCommand: Command = {
  relays: false,
  prints: true,
  database: "none",
  async run({ config, name, print, signal }) {
    const channels = createChannels(config.alerts);
    if (channels.length === 0) {
      print(
        "There is no channel to test: set ALERTS_SLACK_URL, or ALERTS_SMTP_URL, ALERTS_EMAIL_FROM and ALERTS_EMAIL_TO.\n",
      );
      return 2;
    }
    const notice = testNotice(name, new Date());
    const sent = await Promise.all(channels.map((channel) => send(channel, notice)));
    return sent.every(Boolean) ? 0 : 1;

    async function send(channel: Channel, its: Notice): Promise<boolean> {
      const delivery = await channel.send(its, signal);
      if (delivery.sent) print(`${channel.name}: sent${delivery.remark ? `, but ${delivery.remark}` : ""}\n`);
      else print(`${channel.name}: not sent: ${delivery.reason}\n`);
      return delivery.sent;
    }
  },
};

function testNotice(from: string, now: Date): Notice {
  const at = `${now.toISOString().slice(0, 19).replace("T", " ")} UTC`;
  return {
    id: randomUUID(),
    at,
    installation: "test",
    alerts: [
      {
        event: "opened",
        id: 0,
        kind: "test",
        key: "test",
        severity: "warning",
        summary: `this is a test, asked for on ${from}: alerts reach you here, and nothing is wrong`,
        since: at,
        lasted: "0 ms",
        count: null,
        sample_ids: [],
        help: "select * from outbox.find_alerts();",
        request: null,
        returns: 0,
      },
    ],
  };
}
