import type { AlertSettings } from "../config/alerts.ts";
import type { Channel } from "../ops/alerts/channel.ts";
import { createEmail } from "../ops/alerts/email.ts";
import { createSlack } from "../ops/alerts/slack.ts";

/** The channels that the configuration names. */
export function createChannels({ name, linkUrl, slackUrl, email }: AlertSettings): Channel[] {
  const words = { name, linkUrl };
  return [
    ...(slackUrl === undefined ? [] : [createSlack({ url: slackUrl, ...words })]),
    ...(email === undefined ? [] : [createEmail({ ...email, ...words })]),
  ];
}
