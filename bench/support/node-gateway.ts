/*
 * A gateway in a process of its own that accepts everything: `node node-gateway.ts DELAY_MS`. Its parent is told its port, may
 * have it stop answering for a while, and may ask when which message arrived.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { now } from "./clock.ts";
import type { Arrival, FromGateway, ToGateway } from "./gateway.ts";

const delayMs = Number(process.argv[2]);
let stalledUntil = 0;
let arrivals: Arrival[] = [];
let received = 0;
let watching = false;

const server = createServer({ keepAliveTimeout: 600_000 }, (request, response) => {
  if (watching) arrivals.push([numberOf(request.headers["idempotency-key"]), now()]);
  const id = `bench-${++received}`;
  request.resume();
  request.on("end", () => {
    const wait = Math.max(delayMs, stalledUntil - now());
    if (wait > 0) setTimeout(accept, wait);
    else accept();
  });

  function accept(): void {
    const answer = `{"message":"Accepted","messageId":"${id}"}`;
    response.writeHead(202, { "content-type": "application/json", "content-length": answer.length });
    response.end(answer);
  }
});

function numberOf(key: unknown): number {
  return Number(String(key).split("_")[2]);
}

function tell(message: FromGateway): void {
  process.send?.(message);
}

process.on("message", (message: ToGateway) => {
  switch (message.ask) {
    case "watch":
      arrivals = [];
      watching = true;
      return;
    case "arrivals":
      tell({ arrivals });
      return;
    case "received":
      tell({ received });
      return;
    case "stall":
      stalledUntil = now() + message.forMs;
  }
});
process.on("disconnect", () => process.exit());
server.listen(0, "127.0.0.1", 4_096, () => tell({ port: (server.address() as AddressInfo).port }));
