import { expect, onTestFinished, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { startHttpGateway } from "../support/http-gateway.ts";
import { startRelayer } from "../support/relayer.ts";

const database = useDatabase();
const RELAYERS = 4;
const MESSAGES = 8_000;

interface Page {
  readonly messages: readonly { readonly id: number; readonly sent_at: string }[];
  readonly next_cursor: string | null;
}

test("who follows next_cursor sees each message once, in order, while 4 relayers settle side by side", async () => {
  const gateway = await startHttpGateway();
  onTestFinished(() => gateway.close());
  const relayers = await Promise.all(
    // Small settles, so that many of them overlap.
    Array.from({ length: RELAYERS }, () =>
      startRelayer({ databaseUrl: database.url, webhookUrl: gateway.url, env: { RELAY_CONCURRENCY: "8" } }),
    ),
  );
  onTestFinished(async () => {
    await Promise.all(relayers.map((relayer) => relayer.stop()));
  });
  for (let n = 0; n < MESSAGES / 500; n++)
    void database.pool.query(
      "insert into outbox.messages (recipient, content) select '+905551234567', 'hi' from generate_series(1, 500)",
    );

  // Each page from another relayer: a cursor of one is good at all.
  const seen: { id: number; sent_at: string }[] = [];
  let cursor: string | null = null;
  for (let n = 0; seen.length < MESSAGES; n++) {
    const query: string = cursor === null ? "" : `&cursor=${cursor}`;
    const answer = await fetch(`${relayers[n % RELAYERS]?.api}/messages/sent?order=asc&limit=100${query}`);
    const page = (await answer.json()) as Page;
    expect(answer.status, JSON.stringify(page)).toBe(200);
    seen.push(...page.messages);
    cursor = page.next_cursor;
  }
  const last = (await (
    await fetch(`${relayers[0]?.api}/messages/sent?order=asc&cursor=${cursor}`)
  ).json()) as Page;
  expect(last.messages).toEqual([]);

  const { rows } = await database.pool.query<{ id: string; relayers: number }>(
    "select id, (select count(distinct claimed_by)::int from outbox.sent) as relayers from outbox.sent order by sent_at, id",
  );
  expect(seen.map(({ id }) => id)).toEqual(rows.map(({ id }) => Number(id)));
  expect(rows[0]?.relayers).toBe(RELAYERS);
});
