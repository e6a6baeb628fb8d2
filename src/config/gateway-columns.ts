import type { GatewaySettings } from "./config.ts";

/** What the configuration names of a gateway, as columns of `outbox.gateways`. Secrets are not among them. */
export function gatewayColumns(settings: GatewaySettings): Record<string, string | number> {
  const columns = {
    url: settings.url,
    concurrency: settings.concurrency,
    timeout: interval(settings.timeoutMs),
    max_attempts: settings.maxAttempts,
    base_delay: interval(settings.baseDelayMs),
    max_delay: interval(settings.maxDelayMs),
    jitter: settings.jitter,
    on_unknown: settings.onUnknown,
    hold_for: interval(settings.holdForMs),
    rate_per_second: settings.ratePerSecond,
    burst: settings.burst,
    circuit_failures: settings.circuitFailures,
    circuit_ratio: settings.circuitRatio,
    circuit_window: interval(settings.circuitWindowMs),
    circuit_pause: interval(settings.circuitPauseMs),
    circuit_max_pause: interval(settings.circuitMaxPauseMs),
    circuit_probes: settings.circuitProbes,
  };
  return Object.fromEntries(Object.entries(columns).filter((column) => column[1] !== undefined)) as Record<
    string,
    string | number
  >;
}

function interval(ms: number | undefined): string | undefined {
  return ms === undefined ? undefined : `${ms} milliseconds`;
}
