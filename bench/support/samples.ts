/** Takes a sample now, every `ms`, and when it is ended, which returns them: two at least. */
export function takeSamples<T>(ms: number, take: () => T): () => readonly T[] {
  const samples = [take()];
  const timer = setInterval(() => samples.push(take()), ms);
  return () => {
    clearInterval(timer);
    samples.push(take());
    return samples;
  };
}
