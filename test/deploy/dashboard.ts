import { readFileSync } from "node:fs";
import { z } from "zod";
import { DASHBOARD } from "../../deploy/grafana/dashboard.ts";

const DataSource = z.strictObject({ type: z.literal("prometheus"), uid: z.literal(`\${datasource}`) });
const GridPos = z.strictObject({ x: z.int(), y: z.int(), w: z.int().min(1), h: z.int().min(1) });
const text = z.string().min(1);

const RowHeading = z.strictObject({
  id: z.int(),
  type: z.literal("row"),
  title: text,
  collapsed: z.literal(false),
  panels: z.array(z.never()),
  gridPos: GridPos,
});
const Panel = z.strictObject({
  id: z.int(),
  type: z.enum(["stat", "timeseries", "state-timeline"]),
  title: text,
  description: text,
  datasource: DataSource,
  gridPos: GridPos,
  fieldConfig: z.object({ defaults: z.object({ unit: text }), overrides: z.array(z.never()) }),
  options: z.object({}),
  targets: z.array(z.object({ refId: text, datasource: DataSource, expr: text, legendFormat: text })).min(1),
});
const Dashboard = z.object({
  uid: text,
  title: text,
  schemaVersion: z.int().min(39),
  templating: z.object({ list: z.array(z.object({ name: text, type: text })) }),
  annotations: z.object({ list: z.array(z.object({ datasource: DataSource, expr: text })) }),
  panels: z.array(z.discriminatedUnion("type", [RowHeading, Panel])),
});

export interface DashboardQuery {
  readonly title: string;
  readonly expr: string;
}

/** The file as it is, held against what each panel has to have: title, description, unit, legend and the data source chosen. */
export function readDashboard() {
  const dashboard = Dashboard.parse(JSON.parse(readFileSync(DASHBOARD, "utf8")));
  const panels = dashboard.panels.filter((panel) => panel.type !== "row");
  const queries: DashboardQuery[] = [
    ...panels.flatMap(({ title, targets }) => targets.map(({ expr }) => ({ title, expr }))),
    ...dashboard.annotations.list.map(({ expr }) => ({ title: "annotations", expr })),
  ];
  return { ...dashboard, queries };
}
