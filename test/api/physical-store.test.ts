import { eventually } from "../support/eventually.ts";
import { queryOnce } from "../support/private-postgres.ts";
import { useStandby } from "../support/standby.ts";
import { testReads } from "./real-stores.ts";

const servers = useStandby();

testReads("physical", {
  get primaryUrl() {
    return servers.primaryUrl;
  },
  get storeUrl() {
    return servers.standbyUrl;
  },
  async pause() {
    await queryOnce(servers.standbyUrl, "select pg_wal_replay_pause()");
    // It was only asked for.
    await eventually(
      () => queryOnce(servers.standbyUrl, "select pg_get_wal_replay_pause_state() as state"),
      ([row]) => row?.state === "paused",
    );
  },
  async resume() {
    await queryOnce(servers.standbyUrl, "select pg_wal_replay_resume()");
  },
  stop: servers.stopStandby,
  start: servers.startStandby,
});
