import { expect, test } from "vitest";
import { parseQueryStoreWords } from "../../src/query-store/command.ts";
import { formatBytes, formatSeconds } from "../../src/query-store/sizes.ts";

test.each([
  ["init", { action: "init" }],
  ["status", { action: "status" }],
  ["drop", { action: "drop", keepData: false, loseHistory: false, slot: undefined }],
  ["drop --keep-data", { action: "drop", keepData: true, loseHistory: false }],
  ["drop --yes", { action: "drop", keepData: false, loseHistory: true }],
  ["drop --slot outbox_query_store_1", { action: "drop", slot: "outbox_query_store_1" }],
])("query-store %s", (words, asked) => {
  expect(parseQueryStoreWords(words.split(" "))).toMatchObject(asked);
});

test.each(["", "make", "init --yes", "status now", "drop --slot", "drop --all", "drop --yes --keep-data"])(
  "query-store %s is refused with what there is",
  (words) => {
    expect(parseQueryStoreWords(words.split(" "))).toEqual({
      fault: "query-store takes init, status, or drop [--keep-data | --yes | --slot NAME]",
    });
  },
);

test("sizes and times are for people", () => {
  expect([0, 48, 1_023, 1_024, 1_610_612_736, 5e14].map(formatBytes)).toEqual([
    ...["0 B", "48 B", "1023 B", "1.0 kB", "1.5 GB", "455 TB"],
  ]);
  expect([40, 9_994, 12_345].map(formatSeconds)).toEqual(["0.04 s", "9.99 s", "12 s"]);
});
