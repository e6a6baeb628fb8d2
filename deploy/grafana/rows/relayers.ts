import type { Row } from "../panel.ts";
import { CLUSTER, last } from "../promql.ts";

export const relayers: Row = {
  title: "Relayers and their processes",
  panels: [
    {
      kind: "graph",
      title: "Alive, and scraped",
      description: "When fewer are alive than are scraped, one hangs or has lost its lock.",
      unit: "none",
      queries: [
        { expr: last("outbox_relayers_alive"), legend: "alive" },
        { expr: `count(outbox_build_info{${CLUSTER}})`, legend: "scraped" },
      ],
      width: 8,
    },
    {
      kind: "graph",
      title: "Rescues, late settles, Redis",
      description:
        "rescued: claims of relayers that were gone. stale: outcomes that came too late to be recorded. Both may have been posted twice.",
      unit: "short",
      queries: [
        {
          expr: `sum(increase(outbox_rescued_claims_total{${CLUSTER}}[$__rate_interval]))`,
          legend: "rescued",
        },
        {
          expr: `sum(increase(outbox_stale_settles_total{${CLUSTER}}[$__rate_interval]))`,
          legend: "stale",
        },
        {
          expr: `sum(increase(outbox_redis_errors_total{${CLUSTER}}[$__rate_interval]))`,
          legend: "Redis errors",
        },
      ],
      width: 8,
    },
    {
      kind: "graph",
      title: "Versions",
      description: "How many relayers run which.",
      unit: "none",
      queries: [
        {
          expr: `count by (version, node) (outbox_build_info{${CLUSTER}})`,
          legend: "{{version}}, Node {{node}}",
        },
      ],
      width: 8,
      stacked: true,
    },
    {
      kind: "graph",
      title: "Event loop lag, p99",
      description: "By how much a relayer is late in what it does. About 10 ms is the measuring itself.",
      unit: "s",
      queries: [{ expr: `nodejs_eventloop_lag_p99_seconds{${CLUSTER}}`, legend: "{{instance}}" }],
      width: 8,
      steps: [{ from: 0.25, color: "red" }],
    },
    {
      kind: "graph",
      title: "CPU",
      description: "1 is a whole core, which is about what one relayer can use.",
      unit: "percentunit",
      queries: [
        {
          expr: `rate(process_cpu_seconds_total{${CLUSTER}}[$__rate_interval])`,
          legend: "{{instance}}",
        },
      ],
      width: 8,
    },
    {
      kind: "graph",
      title: "Memory",
      description: "Of the process, and of that the heap of JavaScript.",
      unit: "bytes",
      queries: [
        { expr: `process_resident_memory_bytes{${CLUSTER}}`, legend: "{{instance}} process" },
        { expr: `nodejs_heap_size_used_bytes{${CLUSTER}}`, legend: "{{instance}} heap" },
      ],
      width: 8,
    },
  ],
};
