import pg from "pg";
import { describe, expect, inject, test, vi } from "vitest";
import { freePort } from "../support/redis.ts";
import { docker } from "./docker.ts";

const PROJECT = inject("run");

describe.skipIf(!inject("docker"))("docker compose", () => {
  test("up: a row inserted from this machine is sent; down: nothing is left but the volume", async () => {
    const ports = { RELAYER_PORT: String(await freePort()), DATABASE_PORT: String(await freePort()) };
    await compose(["up", "--build", "--detach", "--wait"], ports);

    const client = new pg.Client(`postgres://dev:dev@127.0.0.1:${ports.DATABASE_PORT}/devdb`);
    await client.connect();
    await client.query("insert into outbox.messages (recipient, content) values ('+905551234567', 'hello')");
    const id = await vi.waitFor(
      async () => {
        const { rows } = await client.query<{ gateway_message_id: string }>("select * from outbox.sent");
        expect(rows).toHaveLength(1);
        return rows[0]?.gateway_message_id;
      },
      { timeout: 10_000, interval: 20 },
    );
    await client.end();
    expect(await compose(["logs", "--no-log-prefix", "demo-gateway"])).toContain(id);
    await vi.waitFor(async () => expect(await inRedis(`message:${id}`)).toBe("1"), 5_000);

    const api = `http://127.0.0.1:${ports.RELAYER_PORT}/api/v1`;
    expect((await fetch(`${api}/messages/sent`)).status).toBe(401);
    const headers = { Authorization: "Bearer dev" };
    expect(await (await fetch(`${api}/messages/sent`, { headers })).json()).toMatchObject({
      messages: [{ recipient: "+905551234567", gateway_message_id: id }],
    });
    expect((await fetch(`${api}/swagger/index.html`)).status).toBe(200);

    // Also those without a name, which `down` would leave behind for ever.
    const volumes = await left("container", "--format={{.Mounts}}", "--no-trunc");
    expect(volumes.split(/[\s,]+/).filter(Boolean)).toEqual([`${PROJECT}_postgres-data`]);
    await compose(["down"]);
    expect(await left("container", "--all", "--quiet")).toBe("");
    expect(await left("network", "--quiet")).toBe("");
    expect(await left("volume", "--quiet")).toBe(`${PROJECT}_postgres-data`);
  });
});

function compose(args: readonly string[], ports: Readonly<Record<string, string>> = {}): Promise<string> {
  // Whatever this machine is set up for, the messages of this test go to the demo gateway.
  const own = { ...ports, WEBHOOK_URL: "", WEBHOOK_AUTH_KEY: "", WEBHOOK_SECRET: "", API_KEYS: "" };
  return docker(["compose", "--project-name", PROJECT, "--env-file", "/dev/null", ...args], own);
}

function inRedis(key: string): Promise<string> {
  return compose(["exec", "-T", "redis", "redis-cli", "exists", key]);
}

/** Lists what is there of this project. */
function left(kind: "container" | "network" | "volume", ...options: readonly string[]): Promise<string> {
  return docker([kind, "ls", "--filter", `label=com.docker.compose.project=${PROJECT}`, ...options]);
}
