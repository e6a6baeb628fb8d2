import { createServer } from "node:http";

/*
 * A gateway that takes its time, to run in a container beside the relayer's. It prints the Idempotency-Key of each
 * message as it comes, and accepts it DELAY_MS later.
 */
const delayMs = Number(process.env.DELAY_MS);

createServer((request, response) => {
  request.resume().once("end", () => {
    console.log(request.headers["idempotency-key"]);
    setTimeout(() => {
      response.writeHead(202, { "content-type": "application/json" });
      response.end(JSON.stringify({ message: "Accepted", messageId: "slow-1" }));
    }, delayMs);
  });
}).listen(8081, "0.0.0.0", () => console.log("listening"));
