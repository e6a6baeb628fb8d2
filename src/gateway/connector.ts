import { connect as connectTcp, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { type buildConnector, errors } from "undici";
import type { DeadlineWheel, Expiring } from "./deadline-wheel.ts";
import { printableDuration } from "./printable.ts";

export interface Connector {
  readonly connect: buildConnector.connector;
  /** Gives up the connections that are still opening. */
  giveUp(): void;
}

interface Opening extends Expiring {
  giveUp(): void;
}

/**
 * Opens connections for an undici pool within `timeoutMs`. undici's own connector is up to a second late, which the next
 * attempts would pay for, and what it has begun to open nobody can stop.
 */
export function createConnector(timeoutMs: number, deadlines: DeadlineWheel): Connector {
  const opening = new Set<Opening>();
  let session: Buffer | undefined;

  function open({ protocol, hostname: host, port }: buildConnector.Options): Socket {
    if (protocol !== "https:") {
      return connectTcp({ host, port: Number(port || 80) });
    }
    // Server name indication does not exist for addresses (RFC 6066, section 3).
    const servername = isIP(host) === 0 ? host : "";
    const alpn = ["http/1.1"];
    const socket = connectTls({ host, port: Number(port || 443), servername, ALPNProtocols: alpn, session });
    return socket.on("session", (ticket) => {
      session = ticket;
    });
  }

  return {
    connect(options, callback) {
      const socket = open(options);
      const entry: Opening = {
        expire() {
          socket.destroy(
            new errors.ConnectTimeoutError(`no connection within ${printableDuration(timeoutMs)}`),
          );
        },
        giveUp() {
          finish();
          socket.destroy();
        },
      };
      opening.add(entry);
      deadlines.add(entry, timeoutMs);

      function finish(): boolean {
        deadlines.remove(entry);
        return opening.delete(entry);
      }
      socket
        .setNoDelay(true)
        .setKeepAlive(true, 60_000)
        .once(options.protocol === "https:" ? "secureConnect" : "connect", () => {
          if (finish()) callback(null, socket);
        })
        // Stays for the socket's life: without any listener an error would end the process.
        .on("error", (error) => {
          if (finish()) callback(error, null);
        });
    },
    giveUp() {
      for (const entry of opening) entry.giveUp();
    },
  };
}
