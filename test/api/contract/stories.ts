import fc from "fast-check";
import type { Contract, Operation } from "./document.ts";
import { madeBy, wantedBy } from "./facts.ts";
import type { Plan, Plans } from "./plan.ts";

/** A request, or the one before once more. */
export type Step = Plan | "again";

/** Something is made or found, something may happen to it, and then comes the operation in question. */
export function storiesOf(
  operation: Operation,
  plansOf: (operation: Operation) => Plans,
  contract: Contract,
): fc.Arbitrary<Step[]> {
  const { operations } = contract;
  const wanted = operation.parameters.flatMap((parameter) => wantedBy(operation, parameter));
  const makers = operations.filter((one) => {
    const made = madeBy(one, contract);
    return wanted.some((name) => made.has(name));
  });
  const [start] = operation.path.split("{");
  const others = operations.filter(({ path }) => path.includes("{") && path.split("{")[0] === start);

  const again = fc.constant<Step>("again");
  const some = (among: readonly Operation[], maxLength: number) =>
    among.length === 0
      ? fc.constant([])
      : fc.array(fc.oneof(...among.map((one): fc.Arbitrary<Step> => plansOf(one).good)), { maxLength });
  return fc
    .tuple(
      some(makers, 2),
      some(others, 1),
      plansOf(operation).any,
      fc.array(again, { maxLength: 1 }),
      some(others, 1),
    )
    .map(([made, meanwhile, question, more, after]) => [...made, ...meanwhile, question, ...more, ...after]);
}
