import { describe, expect, test } from "vitest";
import { arrayLiteral } from "../../src/db/array-literal.ts";
import { useDatabase } from "../support/database.ts";

const database = useDatabase();

async function through(type: string, values: readonly (string | number | null)[]): Promise<unknown> {
  const { rows } = await database.pool.query(`select to_json($1::${type}) as values`, [arrayLiteral(values)]);
  return rows[0].values;
}

describe("Postgres reads what was written", () => {
  test.each([
    ["nothing", []],
    ["a word", ["gw-1"]],
    ["nothing at all", [null, null]],
    ["the word null", ["null", "NULL", null]],
    ["an empty word and spaces", ["", " ", "  a  "]],
    ["braces and commas", ["{a,b}", ",", "}{"]],
    ["quotes", ['say "hi"', '"', "'"]],
    ["backslashes", ["\\", "a\\b", '\\"']],
    ["what JSON escapes", ["a\nb", "\t", "\u0001", "\u007f", "\b\f\r"]],
    ["other scripts", ["ğüşiöç", "日本", "😀", "\u2028"]],
  ])("%s", async (_what, values) => {
    expect(await through("text[]", values)).toEqual(values);
  });

  test("numbers", async () => {
    const values = [0, -1, 32_767, null, 2 ** 53 - 1];
    expect(await through("bigint[]", values)).toEqual(values);
  });
});
