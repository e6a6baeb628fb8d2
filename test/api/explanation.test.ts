import { expect, test } from "vitest";
import { useOutbox } from "../sql/outbox-under-test.ts";
import { apiUnderTest } from "./api-under-test.ts";

const outbox = useOutbox();
const explain = async (id: number | string) => {
  const answer = await apiUnderTest(outbox.pool).request(`/api/v1/messages/${id}/explanation`);
  return { status: answer.status, body: await answer.json() };
};

test("it is what outbox.explain() says", async () => {
  const id = await outbox.insert();
  await outbox.pool.query("select outbox.pause(actor => 'alice')");
  const { status, body } = await explain(id);
  const said = await outbox.rows("select outbox.explain($1) as line", [id]);
  expect(status).toBe(200);
  expect(body).toEqual({ id, explanation: said.map(({ line }) => line) });
  expect(said[0]?.line).toContain("alice");
  await outbox.pool.query("select outbox.resume()");
});

test("a message that is not there is a 404 that says why, as far as anybody knows", async () => {
  const { status, body } = await explain(999_999);
  expect(status).toBe(404);
  expect(body).toMatchObject({
    type: "urn:outbox-relayer:problem:unknown-message",
    detail: await outbox.value("select string_agg(line, ' ') from outbox.explain(999999) as line"),
  });
});

test("what is no id is a 400", async () => {
  expect((await explain("sent")).status).toBe(400);
});
