import { type SpanExporter, TracerProvider } from "@opentelemetry/sdk-trace";
import { expect, test } from "vitest";
import { createSpanQueue } from "../../src/ops/span-queue.ts";

interface Export {
  readonly count: number;
  readonly done: Parameters<SpanExporter["export"]>[1];
}

/** A queue of three, whose exporter answers when the test says so. */
function queueOfThree() {
  const exports: Export[] = [];
  const told: unknown[] = [];
  const queue = createSpanQueue({
    longest: 3,
    exporter: {
      export: (spans, done) => void exports.push({ count: spans.length, done }),
      shutdown: async () => {},
    },
    onDelivered: () => told.push("delivered"),
    onLost: (count, reason) => told.push([count, reason]),
  });
  const tracer = new TracerProvider({ spanProcessors: [queue] }).getTracer("test");
  const end = (count: number) => {
    for (let n = 0; n < count; n++) tracer.startSpan("span").end();
  };
  return { queue, exports, told, end };
}

test("what comes while the queue is full is lost, and said to be; there is room again when a batch has left", () => {
  const { exports, told, end } = queueOfThree();
  // A full batch leaves at once, and is on its way; three more wait.
  end(3);
  expect(exports.map(({ count }) => count)).toEqual([3]);
  end(5);
  expect(told).toEqual([
    [1, "too many wait for the collector"],
    [1, "too many wait for the collector"],
  ]);
});

test("a batch that fails is lost with its reason; the next may pass", async () => {
  const { queue, exports, told, end } = queueOfThree();
  end(3);
  exports[0]?.done({ code: 1, error: new Error("Bad Request") });
  expect(told).toEqual([[3, "Bad Request"]]);
  end(2);
  const flushed = queue.forceFlush();
  exports[1]?.done({ code: 0 });
  await flushed;
  expect(told).toEqual([[3, "Bad Request"], "delivered"]);
});
