-- Who may reach what, how fast and how much. The latest version is in force; former ones stay to be looked up.
CREATE TABLE access_policies (
  version BIGINT PRIMARY KEY,
  document TEXT NOT NULL,
  applied_by TEXT NOT NULL DEFAULT '',
  applied_at TIMESTAMPTZ NOT NULL
);

-- What each session has moved in each calendar month (UTC), both directions, all lanes.
CREATE TABLE session_usage (
  instance TEXT NOT NULL,
  month TEXT NOT NULL,
  user_id UUID NOT NULL,
  bytes BIGINT NOT NULL DEFAULT 0 CHECK (bytes >= 0),
  is_open BOOLEAN NOT NULL DEFAULT TRUE,
  PRIMARY KEY (instance, month)
);
CREATE INDEX session_usage_month ON session_usage (month, user_id);
CREATE INDEX session_usage_user ON session_usage (user_id, month);
CREATE INDEX session_usage_open ON session_usage (instance) WHERE is_open;

-- Thresholds of quotas that were told, so that each is told once a month.
CREATE TABLE quota_notices (
  user_id UUID NOT NULL,
  month TEXT NOT NULL,
  percent INTEGER NOT NULL,
  noted_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (user_id, month, percent)
);
