import type { ClientBase } from "pg";
import {
  type Argument,
  type Domain,
  type Part,
  type Relation,
  readCatalogue,
  type SqlFunction,
} from "./catalogue.ts";

/** In the order in which one gets to know them; what is not named here follows. */
const TABLES = [
  "messages",
  "sent",
  "dead_letters",
  "attempts",
  "gateways",
  "scheduler",
  "relayers",
  "replays",
  "audit",
  "alerts",
];
const VIEWS = ["health", "backlog", "gateway_status", "all_messages"];

interface Audience {
  readonly title: string;
  readonly about: string;
  /** Whose functions that are not named belong here too, if there is such a role. */
  readonly role?: string;
  readonly functions: readonly string[];
}

const INNER: Audience = {
  title: "Inner parts",
  about: "Of the functions above; not for calling.",
  functions: [],
};
const TRIGGERS: Audience = { title: "Triggers", about: "Called by Postgres.", functions: [] };
const AUDIENCES: readonly Audience[] = [
  {
    title: "For producers",
    about: "A plain INSERT does it, too.",
    role: "outbox_producer",
    functions: ["enqueue"],
  },
  {
    title: "For operators",
    about:
      "What a person does, from psql or over REST. What changes anything is on record in `outbox.audit`.",
    role: "outbox_operator",
    functions: [
      ...[
        "explain",
        "message_timeline",
        "pause",
        "resume",
        "toggle",
        "cancel",
        "edit",
        "replay",
        "replay_where",
      ],
      "cancel_replay",
    ],
  },
  {
    title: "For relayers",
    about: "What the program calls. By hand they are of use in tests.",
    role: "outbox_relayer",
    functions: [
      ...[
        "register_relayer",
        "heartbeat",
        "unregister_relayer",
        "configure_gateway",
        "claim",
        "settle",
        "release",
      ],
      ...[
        "disown",
        "rescue",
        "next_due",
        "stay_awake",
        "take_tick",
        "replay_slice",
        "queue_replays",
        "sent_horizon",
        "note_alerts",
        "watch",
      ],
    ],
  },
  {
    title: "Housekeeping",
    about: "`maintain` does all of it; the relayers call it every few minutes.",
    functions: ["maintain", "expire", "make_partitions", "drop_partitions", "unlock_jobs"],
  },
  {
    title: "Query stores",
    about: "What a database for questions alone is made of; see docs/query-store.md.",
    functions: [
      ...["is_query_store", "query_store_state", "beat", "search_vector", "create_search_indexes"],
      ...["maintain_query_store", "query_store_tables", "equip_query_store", "keep_history", "last_beat"],
    ],
  },
  TRIGGERS,
  INNER,
];

/** SQLSTATEs of our own. */
export const ERRORS: Readonly<Record<string, string>> = {
  OB001: "there is no such gateway",
  OB002: "this relayer was taken for dead",
  OB003: "the gateway is in use",
  OB004: "a claim that no relayer made",
  OB005: "the message is not in a state for this: being sent, sent, or ended",
  OB006: "there is no such message",
  OB007: "the replay needs `force`, or a new `expires_at`",
  OB008: "there is no such replay, or it is not running",
  OB009: "`enqueue_batch` refuses some of its messages; the detail names every one and its rule",
  OB010: "`enqueue_once`: the key came with another request",
  OB011: "this database is a query store, for questions alone",
};

/** docs/sql.md: what `\d+ outbox.*` and `\df+ outbox.*` show, to be read. */
export async function sqlReference(client: ClientBase): Promise<string> {
  const roles = AUDIENCES.flatMap(({ role }) => role ?? []);
  const { comment, domains, relations, functions } = await readCatalogue(client, roles);
  const tables = inOrder(
    relations.filter(({ is_view }) => !is_view),
    TABLES,
  );
  const views = inOrder(
    relations.filter(({ is_view }) => is_view),
    VIEWS,
  );
  return [
    "# The outbox in SQL",
    "The comments of the database, which `\\d+ outbox.*` and `\\df+ outbox.*` show in psql, too. Made by `npm run docs:sql`; to change a sentence, change the comment in a migration.",
    prose(comment),
    contents(tables, views),
    "## Tables",
    ...tables.map(relation),
    "## Views",
    ...views.map(relation),
    "## Functions",
    ...AUDIENCES.flatMap((audience) => [
      `### ${audience.title}`,
      audience.about,
      ...inOrder(
        functions.filter((it) => audienceOf(it) === audience),
        audience.functions,
      ).map(sqlFunction),
    ]),
    "## Domains",
    ...domains.map(domain),
    "## Errors",
    table(
      ["SQLSTATE", "", "raised by"],
      Object.entries(ERRORS).map(([code, meaning]) => [
        `\`${code}\``,
        meaning,
        functions
          .filter((it) => it.comment.includes(code))
          .map(({ name }) => `\`${name}\``)
          .join(", "),
      ]),
    ),
    "",
  ]
    .join("\n\n")
    .replace(/\n+$/, "\n");
}

function contents(tables: readonly Relation[], views: readonly Relation[]): string {
  const link = (name: string) => `[${name}](#${anchor(name)})`;
  return [
    `- Tables: ${tables.map(({ name }) => link(name)).join(", ")}`,
    `- Views: ${views.map(({ name }) => link(name)).join(", ")}`,
    `- Functions: ${AUDIENCES.map(({ title }) => link(title)).join(", ")}`,
    `- ${link("Domains")}, ${link("Errors")}`,
  ].join("\n");
}

function relation(it: Relation): string {
  const optional = (title: string, parts: readonly Part[]) =>
    parts.length === 0 ? [] : [`${title}:`, parts.map(item).join("\n")];
  return [
    `### ${it.name}`,
    prose(it.comment),
    ...(it.partitioned_by === null ? [] : [`Partitioned by \`${plain(it.partitioned_by)}\`.`]),
    it.is_view
      ? table(
          ["column", "type", ""],
          it.columns.map(({ name, type, comment }) => [`\`${name}\``, plain(type), prose(comment)]),
        )
      : table(
          ["column", "type", "default", ""],
          it.columns.map(({ name, type, otherwise, required, comment }) => [
            `\`${name}\``,
            `${plain(type)}${required ? "" : ", or null"}`,
            otherwise === null ? "" : `\`${plain(otherwise)}\``,
            prose(comment),
          ]),
        ),
    ...optional("Constraints", it.constraints),
    ...optional("Indexes", it.indexes),
    ...optional("Triggers", it.triggers),
    ...(it.storage.length === 0
      ? []
      : [`Storage: ${it.storage.map((option) => `\`${option}\``).join(", ")}.`]),
  ].join("\n\n");
}

function domain({ name, type, comment, constraints }: Domain): string {
  return [`### ${name}`, `${prose(comment)} A kind of ${type}.`, constraints.map(item).join("\n")].join(
    "\n\n",
  );
}

const item = ({ name, definition, comment }: Part) =>
  `- \`${name}\`: ${prose(comment)} \`${plain(definition)}\``;

function sqlFunction(it: SqlFunction): string {
  const given = it.arguments.filter(({ mode }) => mode !== "o" && mode !== "t");
  const results = it.arguments.filter(({ mode }) => mode === "o");
  const row = results.map(({ name, type }) => `${name} ${plain(type)}`).join(", ");
  const returns = it.returns.replace(/\brecord$/, `(${row})`);
  const signature = `${call(it.name, given)} returns ${plain(returns)}`;
  const notes = [
    ...(it.as_owner ? ["Runs as its owner."] : []),
    ...(isTold(it) ? [`May be executed by ${it.roles.map((role) => `\`${role}\``).join(", ")}.`] : []),
  ];
  return [`#### ${it.name}`, `\`\`\`sql\n${signature}\n\`\`\``, [prose(it.comment), ...notes].join(" ")].join(
    "\n\n",
  );
}

function call(name: string, given: readonly Argument[]): string {
  const parts = given.map((argument) => {
    const otherwise = argument.default === null ? "" : ` default ${plain(argument.default)}`;
    return `${argument.name} ${plain(argument.type)}${otherwise}`;
  });
  const line = `outbox.${name}(${parts.join(", ")})`;
  return line.length <= 100 ? line : `outbox.${name}(\n${parts.map((part) => `  ${part}`).join(",\n")}\n)`;
}

function audienceOf(it: SqlFunction): Audience {
  if (it.returns === "trigger") return TRIGGERS;
  const named = AUDIENCES.find(({ functions }) => functions.includes(it.name));
  return (
    named ??
    (isTold(it) ? AUDIENCES.find(({ role }) => role !== undefined && it.roles.includes(role)) : undefined) ??
    INNER
  );
}

/** Where everybody may execute it, that says nothing. */
const isTold = ({ roles }: SqlFunction) =>
  roles.length > 0 && roles.length < AUDIENCES.filter(({ role }) => role !== undefined).length;

function inOrder<Named extends { readonly name: string }>(
  all: readonly Named[],
  order: readonly string[],
): Named[] {
  const place = ({ name }: Named) => (order.includes(name) ? order.indexOf(name) : order.length);
  return all.toSorted((a, b) => place(a) - place(b));
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

/** As one writes it: Postgres gives types in full, keywords in capitals, and a type to every constant. */
function plain(sql: string): string {
  return sql
    .replaceAll("timestamp with time zone", "timestamptz")
    .replace(/NULL::[a-z_. ]+(\[\])?/g, "null")
    .replace(/('(?:[^']|'')*')::[a-z_]+(?: precision)?(?:\[\])?/g, "$1")
    .replace(/('(?:[^']|'')*')|\b[A-Z][A-Z_]+\b/g, (word, quoted) => (quoted ? word : word.toLowerCase()));
}

/** `msg_<installation>_<id>` is no tag of HTML. */
const prose = (comment: string) => comment.replaceAll("<", "&lt;");

const anchor = (title: string) => title.toLowerCase().replaceAll(" ", "-");
