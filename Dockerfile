# The relayer:              docker build -t outbox-relayer .
# A gateway to try it with: docker build -t demo-gateway --target demo-gateway .
#
#   docker run --rm outbox-relayer api-key NAME SCOPES
#   docker run -d --stop-timeout 30 -p 127.0.0.1:8080:8080 -e DATABASE_URL=… -e WEBHOOK_URL=… -e API_KEYS=… outbox-relayer
#   docker run --rm -e DATABASE_URL=… outbox-relayer migrate
#
# Settings come from the environment, or from files mounted at /app/config.yaml and /app/crontab. Docker kills after 10 s
# what has not stopped, and what a killed relayer had in flight is sent again: hence --stop-timeout (in Kubernetes
# terminationGracePeriodSeconds), longer than shutdown.grace and the up to 15 s in which it then settles and closes.

FROM node:26-bookworm-slim AS base
WORKDIR /app
ENV NODE_ENV=production HOST=0.0.0.0

FROM base AS dependencies
COPY package.json package-lock.json .npmrc ./
# Node never runs TypeScript below node_modules: what there is are declarations for editors, a third of the whole.
RUN npm ci --omit=dev --omit=optional --ignore-scripts \
 && find node_modules -type f -regex '.*\.[cm]?ts' -delete

FROM base AS source
COPY . .
# The demo stays out of the relayer's image. The modes are those of the checkout, which may be closed to other users.
RUN rm package-lock.json .npmrc && mv src/demo /demo && chmod -R a+rX . /demo

FROM base AS demo-gateway
COPY --from=source /app/package.json /demo/main.ts /demo/gateway.ts ./
ENV PORT=8081
EXPOSE 8081
USER 1000:1000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["node", "-e", "fetch(`http://localhost:${process.env.PORT}/`).then(({ ok }) => process.exit(ok ? 0 : 1))"]
ENTRYPOINT ["node", "main.ts"]

# The last one: what a build without --target makes.
FROM base AS relayer
LABEL org.opencontainers.image.title="outbox-relayer" \
      org.opencontainers.image.description="Relays messages from a Postgres outbox to a webhook gateway" \
      org.opencontainers.image.licenses="MIT"
COPY --from=dependencies /app/node_modules ./node_modules
COPY --from=source /app ./
ENV PORT=8080
EXPOSE 8080
# The image's user `node`, by number: Kubernetes' runAsNonRoot cannot judge a name.
USER 1000:1000
# Alive, not ready: a database that is away is no reason to replace the relayer.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["node", "-e", "fetch(`http://localhost:${process.env.PORT}/livez`).then(({ ok }) => process.exit(ok ? 0 : 1))"]
# Node is the process that gets the signals. An argument is the relayer's command: start (the default), migrate, watch,
# alert:test, query-store or api-key.
ENTRYPOINT ["node", "src/main.ts"]
