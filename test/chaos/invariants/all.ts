import type { Facts } from "../facts.ts";
import { checkDuplicates } from "./duplicates.ts";
import { checkEndings } from "./endings.ts";
import { checkKeys } from "./keys.ts";
import { checkPauses } from "./pauses.ts";
import { checkPlaces } from "./places.ts";
import { checkPosts } from "./posts.ts";
import { checkRecovery } from "./recovery.ts";
import { checkRelayers } from "./relayers.ts";
import type { Violation } from "./violation.ts";

const CHECKS = [
  checkPlaces,
  checkPosts,
  checkKeys,
  checkPauses,
  checkRecovery,
  checkEndings,
  checkDuplicates,
  checkRelayers,
];

export function checkInvariants(facts: Facts): Violation[] {
  return CHECKS.flatMap((check) => check(facts));
}
