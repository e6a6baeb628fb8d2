export interface Query {
  readonly expr: string;
  /** What a line is called: text, with {{label}} in it. */
  readonly legend: string;
}

export interface ValueText {
  readonly text: string;
  readonly color: string;
}

/** From `from` on it has this color. */
export interface Step {
  readonly from: number;
  readonly color: string;
}

export interface Panel {
  /** graph: how values change. figure: the last value alone. states: when it was in which of the states that `values` names. */
  readonly kind: "graph" | "figure" | "states";
  readonly title: string;
  readonly description: string;
  /** One of Grafana's: s, bytes, percentunit, ops, short, … */
  readonly unit: string;
  readonly queries: readonly Query[];
  /** Of 24. */
  readonly width: number;
  /** Colors by value; green below the first. */
  readonly steps?: readonly Step[];
  /** What a number means, by the number. */
  readonly values?: Readonly<Record<number, ValueText>>;
  /** Shown where there is no value. */
  readonly otherwise?: string;
  readonly stacked?: boolean;
}

export interface Row {
  readonly title: string;
  readonly panels: readonly Panel[];
}

export const DATASOURCE = { type: "prometheus", uid: `\${datasource}` };

export const HEIGHTS: Readonly<Record<Panel["kind"], number>> = { figure: 4, graph: 8, states: 8 };

const TYPES: Readonly<Record<Panel["kind"], string>> = {
  figure: "stat",
  graph: "timeseries",
  states: "state-timeline",
};

/** A panel as Grafana keeps it, without its id and place. */
export function grafanaPanel(panel: Panel): object {
  return {
    type: TYPES[panel.kind],
    title: panel.title,
    description: panel.description,
    datasource: DATASOURCE,
    fieldConfig: { defaults: fieldDefaults(panel), overrides: [] },
    options: options(panel),
    targets: panel.queries.map(({ expr, legend }, nth) => ({
      refId: String.fromCharCode("A".charCodeAt(0) + nth),
      datasource: DATASOURCE,
      editorMode: "code",
      expr,
      legendFormat: legend,
      instant: panel.kind === "figure",
      range: panel.kind !== "figure",
    })),
  };
}

function fieldDefaults({ kind, unit, steps, values, otherwise, stacked }: Panel): object {
  return {
    unit,
    min: kind === "graph" ? 0 : undefined,
    noValue: otherwise,
    color: { mode: kind === "graph" ? "palette-classic" : "thresholds" },
    mappings:
      values === undefined
        ? []
        : [
            {
              type: "value",
              options: Object.fromEntries(
                Object.entries(values).map(([value, shown], index) => [value, { ...shown, index }]),
              ),
            },
          ],
    thresholds: {
      mode: "absolute",
      steps: [
        { color: "green", value: null },
        ...(steps ?? []).map(({ from, color }) => ({ color, value: from })),
      ],
    },
    custom: custom(kind, stacked === true, steps !== undefined),
  };
}

function custom(kind: Panel["kind"], stacked: boolean, withSteps: boolean): object | undefined {
  switch (kind) {
    case "figure":
      return undefined;
    case "states":
      return { fillOpacity: 70, lineWidth: 0 };
    case "graph":
      return {
        drawStyle: "line",
        lineWidth: 1,
        fillOpacity: stacked ? 40 : 8,
        showPoints: "auto",
        spanNulls: false,
        stacking: { mode: stacked ? "normal" : "none", group: "A" },
        thresholdsStyle: { mode: withSteps ? "line" : "off" },
      };
  }
}

function options({ kind, values }: Panel): object {
  switch (kind) {
    case "figure":
      return {
        colorMode: "value",
        graphMode: "none",
        justifyMode: "auto",
        orientation: "auto",
        reduceOptions: { calcs: ["lastNotNull"], fields: "", values: false },
        textMode: values === undefined ? "auto" : "value",
        wideLayout: true,
      };
    case "states":
      return {
        alignValue: "left",
        legend: { displayMode: "list", placement: "bottom", showLegend: true, calcs: [] },
        mergeValues: true,
        rowHeight: 0.8,
        showValue: "auto",
        tooltip: { mode: "single", sort: "none" },
      };
    case "graph":
      return {
        legend: {
          displayMode: "table",
          placement: "bottom",
          showLegend: true,
          calcs: ["lastNotNull", "max"],
        },
        tooltip: { mode: "multi", sort: "desc" },
      };
  }
}
