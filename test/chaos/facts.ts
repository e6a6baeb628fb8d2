import { Client, type QueryResultRow } from "pg";
import type { Book } from "./book.ts";
import type { FaultLog } from "./fault-log.ts";
import type { Post } from "./gateway-ledger.ts";
import type { Pause } from "./pauses.ts";
import type { Recovery } from "./recovery-watch.ts";
import type { RelayerProcess } from "./relayer-process.ts";
import type { Shutdown } from "./shutdowns.ts";

/** A message where it is at the end. Times are milliseconds since 1970, by the database's clock. */
export interface Place {
  readonly place: "messages" | "sent" | "dead_letters";
  readonly id: number;
  readonly content: string;
  readonly dedupe_key: string | null;
  readonly attempts: number;
  readonly claimed_by: number | null;
  readonly claimed_at: number | null;
  readonly expires_at: number | null;
  readonly gateway_message_id: string | null;
  readonly reason: string | null;
  /** sent_at or died_at. */
  readonly ended_at: number | null;
}

/** A row of outbox.attempts. */
export interface Try {
  readonly message_id: number;
  readonly attempt: number;
  readonly relayer: number;
  readonly outcome: string;
  readonly error: string | null;
  readonly ended_at: number;
}

/** All that is known when it is over. */
export interface Facts {
  readonly book: Book;
  readonly places: readonly Place[];
  readonly tries: readonly Try[];
  readonly posts: readonly Post[];
  readonly pauses: readonly Pause[];
  readonly faults: FaultLog;
  readonly recoveries: readonly Recovery[];
  readonly shutdowns: readonly Shutdown[];
  readonly processes: readonly RelayerProcess[];
  /** For how much longer the gateway was to be held when the last fault had ended. */
  readonly heldForMs: number;
  readonly installation: string;
  readonly maxAttempts: number;
  readonly placesOf: (content: string) => readonly Place[];
  readonly postsOf: (content: string) => readonly Post[];
  readonly triesOf: (id: number) => readonly Try[];
  /** The name of the process that had a number in outbox.relayers. */
  readonly processOf: (number: number) => string | undefined;
}

export type Observed = Omit<
  Facts,
  "places" | "tries" | "installation" | "maxAttempts" | "placesOf" | "postsOf" | "triesOf" | "processOf"
>;

const ms = (column: string) => `extract(epoch from ${column})::float8 * 1000`;
const PLACES = (["messages", "sent", "dead_letters"] as const)
  .map((place) => {
    const endedAt = { messages: "null::float8", sent: ms("sent_at"), dead_letters: ms("died_at") }[place];
    return `
      select
        '${place}' as place, id::float8 as id, content, dedupe_key, attempts::int, claimed_by,
        ${ms("claimed_at")} as claimed_at, ${ms("expires_at")} as expires_at,
        ${place === "sent" ? "gateway_message_id" : "null"} as gateway_message_id,
        ${place === "dead_letters" ? "reason::text" : "null"} as reason,
        ${endedAt} as ended_at
      from outbox.${place}`;
  })
  .join(" union all ");
const TRIES = `
  select message_id::float8 as message_id, attempt::int, relayer, outcome::text as outcome, error, ${ms("ended_at")} as ended_at
  from outbox.attempts
  order by ended_at, attempt`;

export async function readFacts(url: string, observed: Observed): Promise<Facts> {
  const client = new Client({ connectionString: url, application_name: "chaos" });
  await client.connect();
  const rows = async <Row extends QueryResultRow>(text: string) => (await client.query<Row>(text)).rows;
  try {
    const places = await rows<Place>(PLACES);
    const tries = await rows<Try>(TRIES);
    const [constants] = await rows<{ installation: string; max_attempts: number }>(
      "select installation, max_attempts::int from outbox.scheduler, outbox.gateways where name = 'default'",
    );
    const byContent = Map.groupBy(places, ({ content }) => content);
    const postsByContent = Map.groupBy(observed.posts, ({ content }) => content);
    const triesById = Map.groupBy(tries, ({ message_id }) => message_id);
    return {
      ...observed,
      places,
      tries,
      installation: constants?.installation ?? "",
      maxAttempts: constants?.max_attempts ?? Number.NaN,
      placesOf: (content) => byContent.get(content) ?? [],
      postsOf: (content) => postsByContent.get(content) ?? [],
      triesOf: (id) => triesById.get(id) ?? [],
      processOf: (number) => observed.processes.find(({ numbers }) => numbers.has(number))?.name,
    };
  } finally {
    await client.end();
  }
}
