/** A log that a test can wait on. */
export interface LogLines {
  readonly lines: string[];
  readonly log: (message: string) => void;
  /** Resolves with the first line that matches, written already or still to come. */
  line(pattern: RegExp): Promise<string>;
}

export function logLines(): LogLines {
  const lines: string[] = [];
  const waiting: { pattern: RegExp; resolve: (line: string) => void }[] = [];
  return {
    lines,
    log(message) {
      lines.push(message);
      for (const { pattern, resolve } of waiting) if (pattern.test(message)) resolve(message);
    },
    line(pattern) {
      const { promise, resolve } = Promise.withResolvers<string>();
      const written = lines.find((line) => pattern.test(line));
      if (written !== undefined) resolve(written);
      waiting.push({ pattern, resolve });
      return promise;
    },
  };
}
