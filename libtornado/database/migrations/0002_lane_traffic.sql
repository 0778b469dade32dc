-- What ended sessions have moved on each lane; drained from the journal together with their history.
CREATE TABLE lane_traffic (
  lane TEXT PRIMARY KEY,
  bytes_rx BIGINT NOT NULL DEFAULT 0 CHECK (bytes_rx >= 0),
  bytes_tx BIGINT NOT NULL DEFAULT 0 CHECK (bytes_tx >= 0)
);
