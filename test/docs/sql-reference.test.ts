import path from "node:path";
import type { PoolClient } from "pg";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { ERRORS, sqlReference } from "../../docs/sql-reference.ts";
import { useDatabase } from "../support/database.ts";

const database = useDatabase();
let client: PoolClient;

beforeEach(async () => {
  client = await database.pool.connect();
  const mine = client;
  onTestFinished(() => mine.release(true));
});

test("docs/sql.md is what the catalogue says; `npm run docs:sql` makes it so", async () => {
  const file = path.join(import.meta.dirname, "../../docs/sql.md");
  const reference = await sqlReference(client);
  await expect(reference, "npm run docs:sql mends it").toMatchFileSnapshot(file);
});

test("it has every error of ours, and nothing without a word about it", async () => {
  const { rows } = await client.query<{ code: string }>(
    `select distinct (regexp_matches(prosrc, 'errcode = ''(OB\\d{3})', 'g'))[1] as code
     from pg_proc where pronamespace = 'outbox'::regnamespace order by 1`,
  );
  expect(rows.map(({ code }) => code)).toEqual(Object.keys(ERRORS));
  expect(await sqlReference(client)).not.toMatch(
    /(?:undefined|\| null|\| {2}) \|$|\n\n\n|\n- `\w+`: (?:null|undefined)/m,
  );
});

test("it puts what no list names where its privileges say", async () => {
  await client.query(`
    begin;
    do $$ begin create role outbox_operator; exception when duplicate_object then null; end $$;
    create function outbox.made_up(x int) returns int language sql as 'select 1';
    comment on function outbox.made_up is 'x: made up.';
    revoke all on function outbox.made_up from public`);
  const section = async () => {
    const reference = await sqlReference(client);
    return reference
      .slice(0, reference.indexOf("#### made_up"))
      .match(/^### .*$/gm)
      ?.at(-1);
  };
  expect(await section()).toBe("### Inner parts");
  await client.query(`
    do $$ begin create role outbox_producer; exception when duplicate_object then null; end $$;
    do $$ begin create role outbox_relayer; exception when duplicate_object then null; end $$;
    grant execute on function outbox.made_up to outbox_operator`);
  expect(await section()).toBe("### For operators");
  expect(await sqlReference(client)).toContain(
    "x: made up. May be executed by `outbox_operator`, `outbox_relayer`.",
  );
});
