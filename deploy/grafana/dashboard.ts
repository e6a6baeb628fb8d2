/*
 * npm run deploy:dashboard
 *
 * Writes deploy/grafana/dashboard.json, for Grafana 11 and later, of the rows and panels in rows/.
 */
import { writeFileSync } from "node:fs";
import { DATASOURCE, grafanaPanel, HEIGHTS, type Row } from "./panel.ts";
import { backlog } from "./rows/backlog.ts";
import { gateways } from "./rows/gateways.ts";
import { latency } from "./rows/latency.ts";
import { objectives } from "./rows/objectives.ts";
import { postgres } from "./rows/postgres.ts";
import { relayers } from "./rows/relayers.ts";

export const DASHBOARD = new URL("dashboard.json", import.meta.url);

const ROWS: readonly Row[] = [objectives, backlog, latency, gateways, postgres, relayers];

const COLUMNS = 24;

export function dashboardJson(): string {
  const dashboard = {
    uid: "outbox-relayer",
    title: "Outbox relayer",
    description:
      "From INSERT to SMS. Load deploy/prometheus/rules.yml first: half of the panels show what it records.",
    tags: ["outbox-relayer"],
    schemaVersion: 42,
    version: 1,
    editable: true,
    graphTooltip: 1,
    refresh: "30s",
    time: { from: "now-6h", to: "now" },
    timezone: "browser",
    templating: { list: variables() },
    annotations: { list: [firingAlerts()] },
    panels: place(ROWS),
  };
  return `${JSON.stringify(dashboard, undefined, 2)}\n`;
}

/** From left to right and from top to bottom; a row of the dashboard has a heading of its own. */
function place(rows: readonly Row[]): object[] {
  const placed: object[] = [];
  const add = (panel: object, x: number, y: number, w: number, h: number) =>
    placed.push({ id: placed.length + 1, ...panel, gridPos: { x, y, w, h } });
  let y = 0;
  for (const { title, panels } of rows) {
    add({ type: "row", title, collapsed: false, panels: [] }, 0, y, COLUMNS, 1);
    y += 1;
    let x = 0;
    let line = 0;
    for (const panel of panels) {
      if (x + panel.width > COLUMNS) {
        x = 0;
        y += line;
        line = 0;
      }
      add(grafanaPanel(panel), x, y, panel.width, HEIGHTS[panel.kind]);
      x += panel.width;
      line = Math.max(line, HEIGHTS[panel.kind]);
    }
    y += line;
  }
  return placed;
}

function variables(): object[] {
  return [
    { name: "datasource", label: "Prometheus", type: "datasource", query: "prometheus" },
    {
      ...labelValues("job", "outbox_build_info"),
      label: "Cluster",
      description: "The job that the relayers of one database are scraped under.",
    },
    {
      ...labelValues("gateway", 'outbox_attempts_total{job="$job"}'),
      label: "Gateway",
      multi: true,
      includeAll: true,
      current: { text: "All", value: "$__all" },
    },
  ];
}

function labelValues(name: string, series: string): object {
  const query = `label_values(${series}, ${name})`;
  return {
    name,
    type: "query",
    datasource: DATASOURCE,
    // 1 is Grafana's number for label_values.
    query: { qryType: 1, query, refId: name },
    // 2: asked again whenever the time shown changes. Sort 1: by the alphabet.
    refresh: 2,
    sort: 1,
  };
}

/** A mark wherever one of the alerts fired. */
function firingAlerts(): object {
  return {
    name: "Alerts",
    datasource: DATASOURCE,
    enable: true,
    iconColor: "red",
    expr: 'ALERTS{alertname=~"Outbox.+", alertstate="firing", job="$job"}',
    step: "60s",
    titleFormat: "{{alertname}}",
    textFormat: "{{gateway}} {{instance}}",
    tagKeys: "severity",
  };
}

if (import.meta.main) writeFileSync(DASHBOARD, dashboardJson());
