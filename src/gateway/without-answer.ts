const ANSWER = /(HTTP \d{3})[: ].*/gs;

/** An attempt's error, of the gateway's answer only the status: the answer may quote the number, written in any way, and the text. */
export function withoutAnswer(error: string): string {
  return error.replace(ANSWER, "$1");
}
