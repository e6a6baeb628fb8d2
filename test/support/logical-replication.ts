/** Else a table that has been copied may wait for ten seconds to hear where it is to go on from. */
const FAST = {
  synchronous_commit: "off",
  max_worker_processes: "24",
  wal_retrieve_retry_interval: "100ms",
  wal_receiver_status_interval: "1s",
};

/** Settings of a server that may have several logical query stores. */
export const PRIMARY = {
  ...FAST,
  wal_level: "logical",
  max_wal_senders: "20",
  max_replication_slots: "20",
};

/** Settings of a server with query stores: all tables are copied at once. */
export const SUBSCRIBER = {
  ...FAST,
  max_logical_replication_workers: "16",
  max_sync_workers_per_subscription: "13",
  max_active_replication_origins: "20",
};
