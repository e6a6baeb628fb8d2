import { Client } from "pg";
import { MESSAGES, type Message, type Peer } from "./peer.ts";

/**
 * What one writes first: a worker locks a message that nobody else has, POSTs it with fetch while its transaction is open, marks
 * it as sent, and commits.
 */
export async function startClassic(
  connectionString: string,
  gatewayUrl: string,
  workers: number,
): Promise<Peer> {
  const clients = Array.from({ length: workers }, () => new Client({ connectionString }));
  await Promise.all(clients.map((client) => client.connect()));
  const [first] = clients as [Client];
  await first.query(`
    create table messages (
      id                 bigint primary key generated always as identity,
      recipient          text not null,
      content            text not null,
      sent_at            timestamptz,
      gateway_message_id text
    );
    create index messages_waiting on messages (id) where sent_at is null`);

  async function relayAll(client: Client): Promise<void> {
    for (;;) {
      await client.query("begin");
      const { rows } = await client.query<Message>({
        name: "take",
        text: "select id, recipient, content from messages where sent_at is null order by id limit 1 for update skip locked",
      });
      const [message] = rows;
      if (message !== undefined) {
        await client.query({
          name: "sent",
          text: "update messages set sent_at = now(), gateway_message_id = $2 where id = $1",
          values: [message.id, await post(message)],
        });
      }
      await client.query("commit");
      if (message === undefined) return;
    }
  }

  async function post({ id, recipient, content }: Message): Promise<string> {
    const answer = await fetch(gatewayUrl, {
      method: "POST",
      headers: { "content-type": "application/json", "idempotency-key": `msg_0123456789ab_${id}` },
      body: JSON.stringify({ to: recipient, content }),
    });
    const { messageId } = (await answer.json()) as { messageId?: string };
    if (answer.status !== 202 || messageId === undefined) throw new Error(`HTTP ${answer.status}`);
    return messageId;
  }

  return {
    async insert(count) {
      await first.query(
        `insert into messages (recipient, content) select recipient, content from (${MESSAGES}) as messages`,
        [count],
      );
      await first.query("vacuum analyze messages");
    },
    async relay() {
      await Promise.all(clients.map(relayAll));
    },
  };
}
