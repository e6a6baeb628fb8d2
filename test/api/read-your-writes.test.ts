import { expect, test } from "vitest";
import { apiUnderTest, noPool } from "./api-under-test.ts";
import { type Served, useStandIn } from "./store-under-test.ts";

const standIn = useStandIn();

async function post({ request }: Served): Promise<{ path: string; lsn: string }> {
  const answer = await request("/api/v1/messages", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ recipient: "+905551234567", content: "hi" }),
  });
  expect(answer.status).toBe(201);
  const { id } = (await answer.json()) as { id: number };
  return { path: `/api/v1/messages/${id}`, lsn: answer.headers.get("X-Outbox-LSN") ?? "" };
}

const ask = ({ request }: Pick<Served, "request">, path: string, lsn?: string) =>
  request(path, { headers: lsn === undefined ? {} : { "X-Outbox-LSN": lsn } });

const readInStore = (answer: Response) => answer.headers.has("X-Query-Store-Lag");

test("who asks with the token of a write sees it, wherever it is read", async () => {
  const served = await standIn.serve();
  await served.becomes("usable");
  standIn.freeze();
  const { path, lsn } = await post(served);
  const blind = await ask(served, path);
  expect([blind.status, readInStore(blind)]).toEqual([404, true]);
  const seen = await ask(served, path, lsn);
  expect([seen.status, readInStore(seen)]).toEqual([200, false]);
  // Old ones are in the store for long.
  const old = await ask(served, "/api/v1/scheduler", "0/1");
  expect([old.status, readInStore(old)]).toEqual([200, true]);
});

test("the store is asked as soon as it has what was written, and it is not waited for the next beat", async () => {
  // The next one by itself would be in a second.
  const served = await standIn.serve();
  await served.becomes("usable");
  for (let n = 0; n < 5; n++) {
    const { lsn } = await post(served);
    const answers = await Promise.all([1, 2, 3].map(() => ask(served, "/api/v1/scheduler", lsn)));
    expect(answers.map(readInStore)).toEqual([true, true, true]);
  }
});

test("where the primary is to be spared, a read that the store cannot answer yet is refused", async () => {
  const served = await standIn.serve({ whenAway: "unavailable" });
  await served.becomes("usable");
  standIn.freeze();
  const { path, lsn } = await post(served);
  const refused = await ask(served, path, lsn);
  expect([refused.status, refused.headers.get("Retry-After")]).toEqual([503, "2"]);
  expect(await refused.json()).toMatchObject({
    type: "urn:outbox-relayer:problem:query-store-unavailable",
    detail: "It has not seen the write of the X-Outbox-LSN yet. Ask again shortly.",
  });
  standIn.thaw();
  expect(readInStore(await ask(served, "/api/v1/scheduler", lsn))).toBe(true);
});

test("a token from beyond the end of the log makes nobody wait for the store", async () => {
  const served = await standIn.serve();
  await served.becomes("usable");
  const durations: number[] = [];
  for (let n = 0; n < 5; n++) {
    const started = performance.now();
    expect(readInStore(await ask(served, "/api/v1/scheduler", "FFFFFFFF/FFFFFFFF"))).toBe(false);
    durations.push(performance.now() - started);
  }
  // To wait takes a second each time.
  expect(Math.min(...durations)).toBeLessThan(900);
});

test.each(["", "0", "0/", "0/G", "1/2/3", "0/16B3748, 0/16B3749", "123456789/0", "-1/0"])(
  "%j is refused, and named",
  async (token) => {
    // Before any database is asked.
    const answer = await ask(apiUnderTest(noPool), "/api/v1/scheduler", token);
    expect([answer.status, await answer.json()]).toEqual([
      400,
      expect.objectContaining({
        type: "urn:outbox-relayer:problem:invalid-request",
        errors: [
          {
            parameter: "X-Outbox-LSN",
            detail: "is damaged: send the X-Outbox-LSN of a write as it came, or none",
          },
        ],
      }),
    ]);
  },
);

test("without a query store a token is as good: the primary has seen it", async () => {
  const served = await standIn.serve({}, { queryStore: undefined });
  const { path, lsn } = await post(served);
  const answer = await ask(served, path, lsn);
  expect([answer.status, readInStore(answer)]).toEqual([200, false]);
});

test("every kind of change gives a token, and a dry run, which changes nothing, none", async () => {
  const served = await standIn.serve();
  const { path } = await post(served);
  const tokens: (string | null)[] = [];
  const change = async (method: string, url: string, body?: object) => {
    const answer = await served.request(url, {
      method,
      ...(body && { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }),
    });
    expect(answer.ok, await answer.clone().text()).toBe(true);
    tokens.push(answer.headers.get("X-Outbox-LSN"));
  };
  await change("PATCH", path, { content: "ho" });
  await change("POST", `${path}/cancel`);
  await change("POST", `${path}/replay`, {});
  await change("POST", "/api/v1/scheduler/stop");
  await change("POST", "/api/v1/scheduler/start");
  await change("POST", "/api/v1/gateways/default/pause");
  await change("POST", "/api/v1/gateways/default/resume");
  await change("POST", "/api/v1/dead-letters/replay", { dry_run: false });
  const places = tokens.map((token) => BigInt(`0x${token?.split("/")[1]}`));
  expect(places.toSorted((a, b) => Number(a - b))).toEqual(places);
  await change("POST", "/api/v1/dead-letters/replay", { dry_run: true });
  expect(tokens.at(-1)).toBeNull();
});

test("a page of another site may send the token, and read it and the lag", async () => {
  const served = await standIn.serve({}, { corsOrigins: ["https://desk.example"] });
  await served.becomes("usable");
  const asked = await served.app.request("/api/v1/scheduler", {
    method: "OPTIONS",
    headers: { Origin: "https://desk.example", "Access-Control-Request-Method": "GET" },
  });
  expect(asked.headers.get("Access-Control-Allow-Headers")).toContain("X-Outbox-LSN");
  const answer = await served.request("/api/v1/scheduler", { headers: { Origin: "https://desk.example" } });
  const exposed = answer.headers.get("Access-Control-Expose-Headers")?.split(",") ?? [];
  expect(exposed).toEqual(expect.arrayContaining(["X-Outbox-LSN", "X-Query-Store-Lag"]));
});
