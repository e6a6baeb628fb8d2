import { Client, type ClientBase } from "pg";

/** As which the relayer works, whoever logs in: see migrations/fixtures/functions/grant_roles.sql. */
export interface RelayerRole {
  /** Finds out whether the user who logs in may become it; if not, says so, once. For a database that is up to date. */
  find(): Promise<void>;
  /** What a new connection begins with. Before find(), and where it may not be, the connection stays its user's. */
  become(client: ClientBase): Promise<void>;
}

const TIMEOUT_MS = 5_000;
/** A statement, for poolers refuse to be sent a role as the connection starts. */
const BECOME = { text: "set role outbox_relayer", query_timeout: TIMEOUT_MS };

export function createRelayerRole(connectionString: string, warn: (message: string) => void): RelayerRole {
  let found: Found | undefined;
  return {
    async find() {
      if (found !== undefined) return;
      found = await ask(connectionString);
      if (!found.may_become) warn(`running as ${found.login}, not as outbox_relayer: ${whyNot(found)}`);
    },
    async become(client) {
      if (found?.may_become) await client.query(BECOME);
    },
  };
}

interface Found {
  readonly login: string;
  readonly exists: boolean;
  readonly is_member: boolean;
  readonly may_become: boolean;
}

async function ask(connectionString: string): Promise<Found> {
  const client = new Client({
    connectionString,
    application_name: "outbox-role",
    connectionTimeoutMillis: TIMEOUT_MS,
    query_timeout: TIMEOUT_MS,
  });
  client.on("error", () => {}); // the query that fails says it
  try {
    await client.connect();
    const { rows } = await client.query<Found>(`
      select
        quote_ident(session_user) as login,
        role.id is not null as exists,
        may.become as is_member,
        may.become and has_schema_privilege(role.id, 'outbox', 'usage') as may_become
      from (select to_regrole('outbox_relayer')::oid) as role (id)
      cross join lateral (
        -- From PostgreSQL 16 on, a member may be kept from becoming what it is a member of.
        select coalesce(pg_has_role(
          session_user, role.id, case when current_setting('server_version_num')::int < 160000 then 'member' else 'set' end
        ), false)
      ) as may (become)`);
    return rows[0] as Found;
  } finally {
    await client.end();
  }
}

function whyNot({ login, exists, is_member }: Found): string {
  const owner = "as the owner of the schema outbox: npm run migrate";
  if (!exists) return `there is no such role; ${owner} makes it, or says how to make it`;
  if (!is_member) return `it may not. As a superuser: grant outbox_relayer to ${login}`;
  return `the role has no rights in this database; ${owner} grants them`;
}
