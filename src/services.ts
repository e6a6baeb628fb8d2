/** A long-lived part of the program. Stopping twice, or without having started, is fine. */
export interface Service {
  start?(): unknown;
  stop(): unknown;
}

/** Starts parts one after the other and stops them in the reverse order. */
export interface Services {
  start<S extends Service>(name: string, service: S): Promise<S>;
  /** Stops each, also when one fails to; says which. */
  stop(): Promise<void>;
}

export function createServices(onError: (name: string, error: unknown) => void): Services {
  const started: { name: string; service: Service }[] = [];

  async function stop(): Promise<void> {
    for (let next = started.pop(); next !== undefined; next = started.pop()) {
      try {
        await next.service.stop();
      } catch (error) {
        onError(next.name, error);
      }
    }
  }

  return {
    async start(name, service) {
      // Before it starts: one that fails half-way is stopped as well.
      started.push({ name, service });
      await service.start?.();
      return service;
    },
    stop,
  };
}
