import type { useOutbox } from "../sql/outbox-under-test.ts";

const OUTCOMES = [
  { outcome: "accepted" },
  { outcome: "accepted" },
  { outcome: "accepted" },
  { outcome: "rejected", http_status: 400, error: "HTTP 400: no such number" },
  { outcome: "rejected", http_status: 422, error: "HTTP 422" },
  { outcome: "unknown", error: "the connection was reset" },
  { outcome: "retry", http_status: 500, error: "HTTP 500: to +905551234567" },
] as const;

/** Some of everything that an operation can be asked about: every status, two gateways, replays and an audit. */
export async function stock(outbox: ReturnType<typeof useOutbox>): Promise<void> {
  await outbox.addGateway("bulk", { on_unknown: "park", max_attempts: 1 });
  for (let n = 0; n < 20; n += 1)
    await outbox.enqueue({
      recipient: `+9055512345${10 + n}`,
      content: `Your code is ${n}`,
      gateway: n % 2 === 0 ? "default" : "bulk",
      priority: n % 3,
      metadata: JSON.stringify({ order: n }),
      dedupe_key: `order-${n}`,
    });

  const { id: relayer } = await outbox.register("stock");
  for (const gateway of ["default", "bulk"]) {
    // The last one stays claimed: it is being sent.
    const claimed = await outbox.claim(relayer, OUTCOMES.length + 1, { gateway });
    const shown = OUTCOMES.flatMap((outcome, n) => {
      const claim = claimed[n];
      return claim === undefined ? [] : [{ id: claim.id, attempt: claim.attempt, ...outcome }];
    });
    await outbox.settle(relayer, shown);
  }

  const [first, ...others] = await outbox.insertMany(20);
  for (const id of [first, ...others.slice(0, 3)]) await outbox.value("select outbox.cancel($1)", [id]);
  await outbox.insert({ available_at: "2090-01-01T00:00:00Z" });
  await outbox.insert({ expires_at: new Date(Date.now() + 60_000) });
  await outbox.value("select outbox.expire('default', as_of => clock_timestamp() + interval '2 minutes')");
  await outbox.value("select outbox.replay($1)", [first]);
  await outbox.row("select * from outbox.replay_where(reason => 'rejected', dry_run => false)");
  // Of so many dead letters that they would run for a while.
  await outbox.value(
    `with running as (
       insert into outbox.replays (actor, until, matched) select 'dba', now(), 5000 from generate_series(1, 40) returning id
     )
     select count(*) from running`,
  );
  await outbox.value("select outbox.pause('bulk', actor => 'dba')");

  const rows = await outbox.rows("select distinct status from outbox.all_messages order by status");
  const statuses = rows.map(({ status }) => status).join(", ");
  if (statuses !== "cancelled, expired, failed, pending, sending, sent")
    throw new Error(`the stock has only ${statuses}`);
}
