import type pg from "pg";

export interface Plan {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly "Index Name"?: string;
  readonly "Actual Rows"?: number;
  readonly "Actual Loops"?: number;
  readonly "Rows Removed by Filter"?: number;
  readonly "Rows Removed by Join Filter"?: number;
  readonly Plans?: readonly Plan[];
}

interface Sessions {
  readonly session: () => Promise<pg.Client>;
}

/** A session that keeps the plan of every statement it runs, those inside functions included, as they were executed. */
export async function explained({ session }: Sessions): Promise<{ client: pg.Client; plans: Plan[] }> {
  const client = await session();
  const plans: Plan[] = [];
  client.on("notice", ({ message = "" }) => {
    const json = /^duration: .*? plan:\n(?<plan>\{.*\})$/s.exec(message)?.groups?.plan;
    if (json !== undefined) plans.push((JSON.parse(json) as { Plan: Plan }).Plan);
  });
  await client.query(`
    load 'auto_explain';
    set auto_explain.log_min_duration = 0;
    set auto_explain.log_nested_statements = on;
    set auto_explain.log_analyze = on;
    set auto_explain.log_timing = off;
    set auto_explain.log_format = json;
    set client_min_messages = log`);
  return { client, plans };
}

/** A plan's node and all below it. */
export const nodes = (plan: Plan): Plan[] => [plan, ...(plan.Plans ?? []).flatMap(nodes)];
