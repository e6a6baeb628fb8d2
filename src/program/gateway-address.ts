import type { Gateway } from "../db/outbox.ts";

/** Where a gateway's messages go; only the default gateway may go without an address of its own. */
export function gatewayAddress(gateway: Gateway, fallbackUrl: string | undefined): string | undefined {
  return gateway.url ?? (gateway.name === "default" ? fallbackUrl : undefined);
}
