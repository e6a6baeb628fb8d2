import { type Database, inTransaction } from "./database.ts";

interface Published {
  readonly publication: string;
  readonly publishes: string;
  readonly tables: readonly string[];
}

export const PUBLICATIONS = ["outbox_query_store", "outbox_query_store_history", "outbox_query_store_log"];

/** Makes the publications on the primary what this version wants them to be; a sentence for each that changes. */
export async function publish(primary: Database): Promise<string[]> {
  const wanted = await primary.rows<Published>("select * from outbox.query_store_tables()");
  return inTransaction(primary, async () => {
    // Two relayers that start at once.
    await primary.rows("select pg_advisory_xact_lock(hashtextextended('outbox-relayer: publications', 0))");
    const said: string[] = [];
    for (const one of wanted) said.push(...(await publishOne(primary, one)));
    return said;
  });
}

async function publishOne(
  primary: Database,
  { publication, publishes, tables }: Published,
): Promise<string[]> {
  const list = [...tables].sort();
  const [found] = await primary.rows<{ tables: string[]; as_wanted: boolean }>(
    `select
       array(
         select tablename::text
         from pg_publication_tables
         where pg_publication_tables.pubname = pg_publication.pubname
         order by tablename
       ) as tables,
       pubviaroot
         and array_remove(array[
           case when pubinsert then 'insert' end, case when pubupdate then 'update' end,
           case when pubdelete then 'delete' end, case when pubtruncate then 'truncate' end
         ], null) = string_to_array($2, ', ') as as_wanted
     from pg_publication
     where pubname = $1`,
    [publication, publishes],
  );
  const options = `publish = '${publishes}', publish_via_partition_root = true`;
  const targets = list.map((table) => `outbox.${table}`).join(", ");
  if (found === undefined) {
    await primary.rows(`create publication ${publication} for table ${targets} with (${options})`);
    await primary.rows(
      `comment on publication ${publication} is 'What logical query stores have of ${list.join(", ")}.'`,
    );
    return [`made the publication ${publication}: ${publishes} of ${list.join(", ")}`];
  }
  if (found.as_wanted && found.tables.join() === list.join()) return [];
  await primary.rows(`alter publication ${publication} set (${options})`);
  await primary.rows(`alter publication ${publication} set table ${targets}`);
  return [`changed the publication ${publication}: ${publishes} of ${list.join(", ")}`];
}

/** @returns whether there was any. */
export async function unpublish(primary: Database): Promise<boolean> {
  const found = await primary.rows<{ pubname: string }>(
    "select pubname::text from pg_publication where pubname = any ($1)",
    [PUBLICATIONS],
  );
  for (const { pubname } of found) await primary.rows(`drop publication if exists ${pubname}`);
  return found.length > 0;
}
