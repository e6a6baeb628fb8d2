import { accessSync, constants } from "node:fs";
import path from "node:path";
import { type Browser, chromium } from "playwright-core";

/**
 * Where Debian's chromium is. Where there is none, undefined: skip the test. On CI that throws, because nobody reads a skip there.
 */
export function findChromium(): string | undefined {
  const folders = (process.env.PATH ?? "").split(path.delimiter).filter((folder) => folder !== "");
  const found = folders.map((folder) => path.join(folder, "chromium")).find(isExecutable);
  const advice = "Install one (apt-get install chromium).";
  if (found === undefined && process.env.CI)
    throw new Error(`There is no chromium on the PATH, and on CI its tests may not be skipped. ${advice}`);
  if (found === undefined)
    console.warn(
      `\nSKIPPED: there is no chromium on the PATH, so Swagger UI is not tested in a browser. ${advice}\n`,
    );
  return found;
}

/** Without a window, with a profile of its own that `close` removes. */
export function launchChromium(executablePath: string): Promise<Browser> {
  return chromium.launch({
    executablePath,
    // As root it does not start with one; it only sees pages of our own.
    chromiumSandbox: false,
    args: [
      // What the browser itself would like to look up goes nowhere. Pages have a proxy of their own, see watch-page.ts, …
      "--proxy-server=127.0.0.1:1",
      // … on which it would ask what the fields of their forms may be for. (This takes the place of Playwright's list; the
      // others are those of that list that could matter here.)
      `--disable-features=${["AutofillServerCommunication", "DestroyProfileOnBrowserClose", "HttpsUpgrades", "PaintHolding"]}`,
    ],
  });
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
