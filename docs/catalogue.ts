import type { ClientBase } from "pg";

export interface Column {
  readonly name: string;
  readonly type: string;
  /** What it is where nothing is given: its default, or how it is generated. */
  readonly otherwise: string | null;
  readonly required: boolean;
  readonly comment: string;
}

/** A constraint, an index or a trigger: a name, what Postgres says it is, and why it is there. */
export interface Part {
  readonly name: string;
  readonly definition: string;
  readonly comment: string;
}

export interface Relation {
  readonly name: string;
  readonly is_view: boolean;
  readonly comment: string;
  readonly partitioned_by: string | null;
  readonly storage: readonly string[];
  readonly columns: readonly Column[];
  readonly constraints: readonly Part[];
  readonly indexes: readonly Part[];
  readonly triggers: readonly Part[];
}

export interface Domain {
  readonly name: string;
  readonly type: string;
  readonly comment: string;
  readonly constraints: readonly Part[];
}

export interface Argument {
  readonly name: string;
  readonly type: string;
  /** pg_proc.proargmodes: i in, o out, b both, v variadic, t a column of what it returns. */
  readonly mode: "i" | "o" | "b" | "v" | "t";
  readonly default: string | null;
}

export interface SqlFunction {
  readonly name: string;
  readonly comment: string;
  readonly arguments: readonly Argument[];
  readonly returns: string;
  readonly as_owner: boolean;
  /** Which of the roles that were asked about may execute it. */
  readonly roles: readonly string[];
}

export interface Catalogue {
  readonly comment: string;
  readonly domains: readonly Domain[];
  readonly relations: readonly Relation[];
  readonly functions: readonly SqlFunction[];
}

/** What Postgres itself knows of the schema outbox. Partitions come and go, and are left out. Leaves its own search_path. */
export async function readCatalogue(client: ClientBase, roles: readonly string[]): Promise<Catalogue> {
  // With another, the schema of a name would be shown or not by who asks.
  await client.query("set search_path = pg_catalog");
  const { rows } = await client.query<{ catalogue: Catalogue }>(CATALOGUE, [roles]);
  return (rows[0] as { catalogue: Catalogue }).catalogue;
}

const CATALOGUE = `
  select json_build_object(
    'comment', obj_description(pg_namespace.oid, 'pg_namespace'),

    'domains', (
      select json_agg(json_build_object(
        'name', typname,
        'type', format_type(typbasetype, typtypmod),
        'comment', obj_description(pg_type.oid, 'pg_type'),
        'constraints', (
          select json_agg(json_build_object(
            'name', conname,
            'definition', pg_get_constraintdef(pg_constraint.oid, true),
            'comment', obj_description(pg_constraint.oid, 'pg_constraint')
          ) order by conname)
          from pg_constraint
          where contypid = pg_type.oid and contype = 'c'
        )
      ) order by typname)
      from pg_type
      where typnamespace = pg_namespace.oid and typtype = 'd'
    ),

    'relations', (
      select json_agg(json_build_object(
        'name', pg_class.relname,
        'is_view', pg_class.relkind = 'v',
        'comment', obj_description(pg_class.oid, 'pg_class'),
        'partitioned_by', pg_get_partkeydef(pg_class.oid),
        'storage', coalesce(to_json(pg_class.reloptions), '[]'),
        'columns', (
          select json_agg(json_build_object(
            'name', attname,
            'type', format_type(atttypid, atttypmod),
            'otherwise', case attidentity when '' then pg_get_expr(adbin, adrelid) else 'generated' end,
            'required', attnotnull,
            'comment', col_description(attrelid, attnum)
          ) order by attnum)
          from pg_attribute
          left join pg_attrdef on adrelid = attrelid and adnum = attnum
          where attrelid = pg_class.oid and attnum > 0 and not attisdropped
        ),
        'constraints', (
          -- Required columns are said to be (from PostgreSQL 18 on they have constraints for it).
          select coalesce(json_agg(json_build_object(
            'name', conname,
            'definition', pg_get_constraintdef(pg_constraint.oid, true),
            'comment', obj_description(pg_constraint.oid, 'pg_constraint')
          ) order by contype = 'p' desc, conname), '[]')
          from pg_constraint
          where conrelid = pg_class.oid and contype <> 'n'
        ),
        'indexes', (
          select coalesce(json_agg(json_build_object(
            'name', index.relname,
            'definition', regexp_replace(pg_get_indexdef(indexrelid, 0, true), '.* USING ', ''),
            'comment', obj_description(indexrelid, 'pg_class')
          ) order by index.relname), '[]')
          from pg_index
          join pg_class as index on index.oid = indexrelid
          where indrelid = pg_class.oid
            and not exists (select from pg_constraint where conindid = indexrelid)
        ),
        'triggers', (
          select coalesce(json_agg(json_build_object(
            'name', tgname,
            'definition', regexp_replace(pg_get_triggerdef(pg_trigger.oid, true), '^CREATE TRIGGER \\w+ ', ''),
            'comment', obj_description(pg_trigger.oid, 'pg_trigger')
          ) order by tgname), '[]')
          from pg_trigger
          where tgrelid = pg_class.oid and not tgisinternal
        )
      ) order by pg_class.relname)
      from pg_class
      where relnamespace = pg_namespace.oid and relkind in ('r', 'p', 'v', 'm') and not relispartition
    ),

    'functions', (
      select json_agg(json_build_object(
        'name', proname,
        'comment', obj_description(pg_proc.oid, 'pg_proc'),
        'arguments', (
          select coalesce(json_agg(json_build_object(
            'name', name,
            'type', format_type(type, null),
            'mode', coalesce(mode, 'i'),
            'default', case coalesce(mode, 'i') when 'i' then pg_get_function_arg_default(pg_proc.oid, nth::int) end
          ) order by nth), '[]')
          from unnest(proargnames, coalesce(proallargtypes, proargtypes::oid[]), proargmodes)
            with ordinality as argument (name, type, mode, nth)
        ),
        'returns', pg_get_function_result(pg_proc.oid),
        'as_owner', prosecdef,
        'roles', array(
          select role
          from unnest($1::text[]) with ordinality as asked (role, nth)
          where to_regrole(role) is not null
            and has_function_privilege(to_regrole(role), pg_proc.oid, 'execute')
          order by nth
        )
      ) order by proname)
      from pg_proc
      where pronamespace = pg_namespace.oid
    )
  ) as catalogue
  from pg_namespace
  where nspname = 'outbox'`;
