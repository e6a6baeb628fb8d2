import type { OpenAPIHono } from "@hono/zod-openapi";
import type { MiddlewareHandler } from "hono";
import { bodyLimit } from "hono/body-limit";
import { matchedRoutes } from "hono/route";
import { METHOD_NAME_ALL } from "hono/router";
import { createAccesses } from "./access.ts";
import { createBareApp } from "./bare-app.ts";
import { createCursors } from "./cursor.ts";
import type { ApiDependencies, ApiEnv } from "./dependencies.ts";
import { API } from "./documentation.ts";
import { addOpenApiDocument } from "./openapi-document.ts";
import { ProblemError } from "./problem.ts";
import { addAlerts } from "./routes/alerts.ts";
import { addAudit } from "./routes/audit.ts";
import { addDeadLetters } from "./routes/dead-letters.ts";
import { addEvents } from "./routes/events.ts";
import { addExplanation } from "./routes/explanation.ts";
import { addGateways } from "./routes/gateways.ts";
import { addMessage } from "./routes/message.ts";
import { addMessageChanges } from "./routes/message-changes.ts";
import { addMessages } from "./routes/messages.ts";
import { addNewMessages } from "./routes/new-messages.ts";
import { addOperations } from "./routes/operations.ts";
import { addRelayers } from "./routes/relayers.ts";
import { addReplayDeadLetters } from "./routes/replay-dead-letters.ts";
import { addReplays } from "./routes/replays.ts";
import { addScheduler } from "./routes/scheduler.ts";
import { addSentMessages } from "./routes/sent-messages.ts";
import { addStats } from "./routes/stats.ts";
import { addSwaggerUi } from "./swagger-ui.ts";

const KIB = 1_024;
/** A thousand messages of the longest contents, with room for their metadata. */
const MAX_MESSAGES_BYTES = 8 * KIB * KIB;
const MAX_BODY_BYTES = 64 * KIB;

/** The whole HTTP face, without a socket: `app.request("/readyz")` answers in process. */
export function createApp(dependencies: ApiDependencies): OpenAPIHono<ApiEnv> {
  const app = createBareApp(dependencies);
  app.use(limitBodies);

  const access = createAccesses(dependencies);
  const cursors = createCursors(dependencies.pool);
  // Before the messages by id: "sent" is none.
  addSentMessages(app, access, cursors);
  addDeadLetters(app, access, cursors);
  addReplayDeadLetters(app, dependencies, access);
  addReplays(app, dependencies, access, cursors);
  addMessages(app, access, cursors);
  addNewMessages(app, dependencies, access);
  addMessage(app, dependencies, access);
  addExplanation(app, access);
  addMessageChanges(app, dependencies, access);
  addScheduler(app, dependencies, access);
  addGateways(app, dependencies, access);
  addStats(app, access);
  addRelayers(app, access);
  addAlerts(app, dependencies, access);
  addAudit(app, access, cursors);
  addEvents(app, dependencies, access, cursors);
  addOperations(app, dependencies);
  addOpenApiDocument(app, dependencies.version);
  addSwaggerUi(app);
  return app;
}

/** What no route takes is not read either: that it is not there, or not by this method, goes before its size. */
const limitBodies: MiddlewareHandler<ApiEnv> = (c, next) => {
  if (matchedRoutes(c).every(({ method }) => method === METHOD_NAME_ALL)) return next();
  const many = c.req.method === "POST" && c.req.path === `${API}/messages`;
  return many ? limitMessages(c, next) : limitOthers(c, next);
};

const limitMessages = bodyLimit({ maxSize: MAX_MESSAGES_BYTES, onError: tooLarge(MAX_MESSAGES_BYTES) });
const limitOthers = bodyLimit({ maxSize: MAX_BODY_BYTES, onError: tooLarge(MAX_BODY_BYTES) });

function tooLarge(bytes: number) {
  return (): never => {
    throw new ProblemError("body-too-large", `At most ${bytes / KIB} KiB.`);
  };
}
