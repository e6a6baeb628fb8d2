import type { AddressInfo } from "node:net";
import { SMTPServer, type SMTPServerOptions } from "smtp-server";

/** A letter as the server took it. */
export interface Letter {
  readonly from: string;
  readonly to: readonly string[];
  /** Headers by name in lowercase, lines unfolded. */
  readonly headers: ReadonlyMap<string, string>;
  readonly text: string;
  /** Over TLS, and as whom. */
  readonly secure: boolean;
  readonly user: string | undefined;
}

export interface TestSmtpServer extends AsyncDisposable {
  readonly port: number;
  readonly letters: readonly Letter[];
  /** Resolves when the n-th letter of all has come. */
  received(n: number): Promise<void>;
  close(): Promise<void>;
}

/** A real mail server on loopback that takes what comes, unless the options say otherwise. */
export async function startSmtpServer(options: SMTPServerOptions = {}, port = 0): Promise<TestSmtpServer> {
  const letters: Letter[] = [];
  let waiting: { readonly n: number; readonly resolve: () => void }[] = [];
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: options.key === undefined ? ["STARTTLS"] : [],
    disableReverseLookup: true,
    logger: false,
    ...options,
    onData(stream, session, done) {
      const chunks: Buffer[] = [];
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("end", () => {
        const { mailFrom, rcptTo } = session.envelope;
        letters.push({
          from: mailFrom === false ? "" : mailFrom.address,
          to: rcptTo.map(({ address }) => address),
          ...parsed(Buffer.concat(chunks).toString("utf8")),
          secure: session.secure,
          user: session.user as string | undefined,
        });
        done();
        const due = waiting.filter(({ n }) => n <= letters.length);
        waiting = waiting.filter(({ n }) => n > letters.length);
        for (const { resolve } of due) resolve();
      });
    },
  });
  // Clients that hang up, and that do not trust its certificate.
  server.on("error", () => {});
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  let closed: Promise<void> | undefined;

  const close = () => {
    closed ??= new Promise<void>((resolve) => server.close(() => resolve()));
    return closed;
  };
  return {
    port: (server.server.address() as AddressInfo).port,
    letters,
    received(n) {
      if (letters.length >= n) return Promise.resolve();
      return new Promise((resolve) => waiting.push({ n, resolve }));
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

function parsed(message: string): Pick<Letter, "headers" | "text"> {
  const [head = "", ...body] = message.split("\r\n\r\n");
  const lines = head.replace(/\r\n[ \t]+/g, " ").split("\r\n");
  const headers = new Map(
    lines.map((line) => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 2)]),
  );
  const text = body.join("\r\n\r\n").replaceAll("\r\n", "\n");
  return {
    headers,
    text: headers.get("content-transfer-encoding") === "quoted-printable" ? unquoted(text) : text,
  };
}

function unquoted(text: string): string {
  const bytes = text
    .replace(/=\n/g, "")
    .replace(/=([0-9A-F]{2})/g, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)));
  return Buffer.from(bytes, "latin1").toString("utf8");
}
