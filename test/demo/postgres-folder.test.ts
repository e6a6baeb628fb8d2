import fs from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import { thisHost } from "../../src/demo/host.ts";
import { startLocalPostgres } from "../../src/demo/local-postgres.ts";
import { serverAccount } from "../../src/demo/postgres-account.ts";
import { asRoot, forkStart, NOBODY, optionsFor, temporaryFolder, toldBy } from "./postgres-folders.ts";

async function refusal(dataDir: string): Promise<string> {
  const error: unknown = await startLocalPostgres(await optionsFor(dataDir)).catch((cause) => cause);
  expect(error).toMatchObject({ name: "LocalPostgresError" });
  return (error as Error).message;
}

it("refuses a folder of another major version", async () => {
  const dataDir = path.join(temporaryFolder(), "data");
  fs.mkdirSync(dataDir);
  fs.writeFileSync(path.join(dataDir, "PG_VERSION"), "17\n");
  if (asRoot) fs.chownSync(dataDir, NOBODY, NOBODY);
  expect(await refusal(dataDir)).toMatch(
    /made by PostgreSQL 17, and this is PostgreSQL 18.*EMBEDDED_POSTGRES_DATA_DIR/,
  );
});

it("refuses a folder that holds something else, and leaves it alone", async () => {
  const dataDir = temporaryFolder();
  fs.writeFileSync(path.join(dataDir, "thesis.txt"), "");
  expect(await refusal(dataDir)).toMatch(
    /holds files, but not a PostgreSQL database.*EMBEDDED_POSTGRES_DATA_DIR/,
  );
  expect(fs.readdirSync(dataDir)).toEqual(["thesis.txt"]);
});

it("refuses a place below a file", async () => {
  const file = path.join(temporaryFolder(), "file");
  fs.writeFileSync(file, "");
  expect(await refusal(path.join(file, "data"))).toContain(
    `The data folder ${file}/data cannot be read (ENOTDIR`,
  );
});

it.runIf(asRoot)(
  "says which folder the postgres user cannot pass through, before it makes anything",
  async () => {
    const closed = path.join(temporaryFolder(), "closed");
    fs.mkdirSync(closed, { mode: 0o700 });
    expect(await refusal(path.join(closed, "a", "data"))).toMatch(
      new RegExp(`the user postgres, who cannot pass through ${closed} to .*EMBEDDED_POSTGRES_DATA_DIR`),
    );
    expect(fs.readdirSync(closed)).toEqual([]);
  },
);

it.runIf(asRoot)("refuses root's own data folder", async () => {
  const dataDir = path.join(temporaryFolder(), "data");
  fs.mkdirSync(dataDir);
  fs.writeFileSync(path.join(dataDir, "PG_VERSION"), "18\n");
  expect(await refusal(dataDir)).toMatch(/belongs to the user with the id 0, .* "chown -R \d+"/);
});

it.runIf(asRoot)("tells an ordinary user which folder is not theirs to write or to read", async () => {
  const root = temporaryFolder();
  const secret = path.join(root, "secret");
  fs.mkdirSync(secret, { mode: 0o700 });
  const [write, read] = await Promise.all(
    [path.join(root, "data"), secret].map(async (dataDir) =>
      toldBy(forkStart(await optionsFor(dataDir), NOBODY)),
    ),
  );
  expect(write?.error).toBe("LocalPostgresError");
  expect(write?.message).toMatch(
    new RegExp(
      `folder ${root}/data cannot be made \\(EACCES.*Make ${root} writable.*EMBEDDED_POSTGRES_DATA_DIR`,
    ),
  );
  expect(read?.error).toBe("LocalPostgresError");
  expect(read?.message).toMatch(
    new RegExp(`folder ${secret} cannot be read \\(EACCES.*the user who owns it.*EMBEDDED_POSTGRES_DATA_DIR`),
  );
});

it("says so when root has no user to run PostgreSQL as and cannot make one", async () => {
  const account = serverAccount({ ...thisHost(), uid: 0 }, "/nonexistent", "no:such user");
  await expect(account).rejects.toMatchObject({
    name: "LocalPostgresError",
    message: expect.stringMatching(
      /refuses to run as root.*"no:such user".*cannot be made \(.+\).*DATABASE_URL/,
    ),
  });
});
