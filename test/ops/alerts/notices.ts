import type { Notice, Told } from "../../../src/db/alerts.ts";

export const ALERT: Told = {
  event: "opened",
  id: 7,
  kind: "gateway_held",
  key: "gateway_held:default",
  severity: "critical",
  summary: "gateway default fails, and its circuit is open",
  since: "2030-06-01 11:53:00 UTC",
  lasted: "7 min",
  count: 12,
  sample_ids: [41, 42],
  help: "select outbox.resume('default');",
  request: "POST /gateways/default/resume",
  returns: 0,
};

export function notice(...alerts: readonly Partial<Told>[]): Notice {
  return {
    id: "0b5d6a3e-1111-4222-8333-444455556666",
    at: "2030-06-01 12:00:00 UTC",
    installation: "a1b2c3d4e5f6",
    alerts: (alerts.length === 0 ? [{}] : alerts).map((alert) => ({ ...ALERT, ...alert })),
  };
}
