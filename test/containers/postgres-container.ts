import { GenericContainer, type StartedTestContainer, Wait } from "testcontainers";
import { inject } from "vitest";
import { RUN_LABEL } from "./docker.ts";

/** As the relayer reads it, and Postgres' image too. */
export const LOGIN = { POSTGRES_USER: "outbox", POSTGRES_PASSWORD: "p@ss/word:1", POSTGRES_DB: "messages" };

export interface PostgresContainer {
  readonly container: StartedTestContainer;
  /** From this machine. */
  readonly host: string;
  readonly port: number;
  readonly url: string;
}

export interface PostgresContainerOptions {
  /** A tag of the image. */
  readonly version?: string;
  /** The Docker network to be in, and the name to have there. */
  readonly network?: string;
  readonly name?: string;
}

export async function startPostgres(options: PostgresContainerOptions = {}): Promise<PostgresContainer> {
  const { POSTGRES_USER: user, POSTGRES_PASSWORD: password, POSTGRES_DB: database } = LOGIN;
  const definition = new GenericContainer(`postgres:${options.version ?? "18-alpine"}`)
    .withEnvironment(LOGIN)
    .withExposedPorts(5432)
    .withLabels({ [RUN_LABEL]: inject("run") })
    // Over TCP: the server that runs while the database is being made listens on a socket only.
    .withWaitStrategy(Wait.forSuccessfulCommand(`pg_isready --host=127.0.0.1 --username=${user}`));
  if (options.network !== undefined) definition.withNetworkMode(options.network);
  if (options.name !== undefined) definition.withName(options.name);
  const container = await definition.start();
  const host = container.getHost();
  const port = container.getMappedPort(5432);
  return {
    container,
    host,
    port,
    url: `postgres://${user}:${encodeURIComponent(password)}@${host}:${port}/${database}`,
  };
}
