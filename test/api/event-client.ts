import { once } from "node:events";
import { get, type IncomingMessage } from "node:http";
import { onTestFinished } from "vitest";

export interface Heard {
  readonly event: string;
  readonly id: string;
  // biome-ignore lint/suspicious/noExplicitAny: what it holds depends on the event
  readonly data: any;
}

/** A client as the HTML standard describes it, over a real connection. */
export interface EventClient {
  readonly response: IncomingMessage;
  /** Everything that came. */
  readonly text: string;
  readonly heard: readonly Heard[];
  /** Of the last block with an id, whether or not it had data. */
  readonly lastId: string;
  /** Resolves when the stream began, so that its first id is there. */
  begun(): Promise<this>;
  /** Resolves when so many events have come. */
  events(count: number): Promise<readonly Heard[]>;
  /** Resolves when `done` is true; looked at whenever something comes. */
  until(done: () => boolean): Promise<void>;
  /** Resolves when the server ends it in good order; rejects when the connection breaks. */
  readonly ended: Promise<void>;
  close(): void;
}

export async function listen(url: string, headers: Record<string, string> = {}): Promise<EventClient> {
  const request = get(url, { headers, agent: false });
  onTestFinished(() => void request.destroy());
  const [response] = (await once(request, "response")) as [IncomingMessage];
  const heard: Heard[] = [];
  const looks = new Set<() => void>();
  let text = "";
  let rest = "";
  let lastId = "";

  response.setEncoding("utf8");
  response.on("data", (chunk: string) => {
    text += chunk;
    const blocks = (rest + chunk).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const fields = new Map(
        block
          .split("\n")
          .filter((line) => !line.startsWith(":"))
          .map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trimStart()]),
      );
      lastId = fields.get("id") ?? lastId;
      const data = fields.get("data");
      if (data !== undefined)
        heard.push({ event: fields.get("event") ?? "message", id: lastId, data: JSON.parse(data) });
    }
    for (const look of [...looks]) look();
  });
  const ended = new Promise<void>((resolve, reject) => {
    response.once("close", () => (response.complete ? resolve() : reject(new Error("cut off"))));
  });
  ended.catch(() => {});

  const client: EventClient = {
    response,
    get text() {
      return text;
    },
    heard,
    get lastId() {
      return lastId;
    },
    async begun() {
      await client.until(() => lastId !== "");
      return client as never;
    },
    async events(count) {
      await client.until(() => heard.length >= count);
      return heard;
    },
    until: (done) =>
      new Promise((resolve, reject) => {
        const look = () => {
          if (!done()) return;
          looks.delete(look);
          resolve();
        };
        looks.add(look);
        look();
        const ends = () => reject(new Error(`it ended before:\n${text.slice(-2_000)}`));
        ended.then(ends, ends);
      }),
    ended,
    close: () => void request.destroy(),
  };
  return client;
}
