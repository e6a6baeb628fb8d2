import { type AcceptedMessage, startDemoGateway } from "./gateway.ts";

/*
 * The demo gateway on its own, for docker compose: `node src/demo/main.ts`. One JSON line for each message it takes.
 */
const host = process.env.HOST || "0.0.0.0";
const port = Number(process.env.PORT || 8081);

// Whoever reads the lines may go away first; that is no reason to refuse messages.
process.stdout.on("error", () => {});
const print = (message: AcceptedMessage) => process.stdout.write(`${JSON.stringify(message)}\n`);

function quit(reason: string): never {
  process.stderr.write(`The demo gateway cannot start: ${reason}\n`);
  process.exit(1);
}

if (!Number.isInteger(port) || port < 0 || port > 65_535) {
  quit(`PORT is ${JSON.stringify(process.env.PORT)}, and has to be a number from 0 to 65535.`);
}
const gateway = await startDemoGateway({ host, port, log: print }).catch((error: Error) =>
  quit(`${error.message}. Choose another address with HOST and PORT.`),
);
for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.once(signal, () => void gateway.stop().then(() => process.exit(0)));
}
process.stderr.write(`The demo gateway is listening on ${gateway.url}\n`);
