-- Portable SQL: SQLite takes the type names as they are, PostgreSQL means them.
-- Times are written by the program, UTC; columns named *_ms are milliseconds since 1970.

CREATE TABLE users (
  id UUID PRIMARY KEY,
  tenant TEXT NOT NULL DEFAULT '',
  username TEXT NOT NULL,
  email TEXT NOT NULL,
  password_hash TEXT,
  is_active BOOLEAN NOT NULL DEFAULT TRUE,
  max_devices INTEGER NOT NULL DEFAULT 1 CHECK (max_devices > 0),
  total_sessions BIGINT NOT NULL DEFAULT 0 CHECK (total_sessions >= 0),
  total_bytes_tx BIGINT NOT NULL DEFAULT 0 CHECK (total_bytes_tx >= 0),
  total_bytes_rx BIGINT NOT NULL DEFAULT 0 CHECK (total_bytes_rx >= 0),
  last_login_at TIMESTAMPTZ,
  last_seen_at TIMESTAMPTZ,
  last_client_ip INET,
  last_device_id VARCHAR(100),
  epoch BIGINT NOT NULL DEFAULT 0,
  deleted_at TIMESTAMPTZ,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL
);
CREATE UNIQUE INDEX users_username_live ON users (tenant, lower(username)) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX users_email_live ON users (tenant, lower(email)) WHERE deleted_at IS NULL;
CREATE INDEX users_created ON users (created_at);

-- Names and addresses of live accounts share one name space, so that a login name means one account.
CREATE TABLE user_names (
  tenant TEXT NOT NULL DEFAULT '',
  name TEXT NOT NULL,
  user_id UUID NOT NULL REFERENCES users (id),
  PRIMARY KEY (tenant, name)
);
CREATE INDEX user_names_user ON user_names (user_id);

CREATE TABLE identities (
  issuer TEXT NOT NULL,
  subject TEXT NOT NULL,
  user_id UUID NOT NULL REFERENCES users (id),
  created_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (issuer, subject)
);
CREATE INDEX identities_user ON identities (user_id);

CREATE TABLE devices (
  id UUID PRIMARY KEY,
  user_id UUID NOT NULL REFERENCES users (id),
  label TEXT NOT NULL DEFAULT '',
  epoch BIGINT NOT NULL DEFAULT 0,
  created_at TIMESTAMPTZ NOT NULL,
  last_seen_at TIMESTAMPTZ NOT NULL,
  revoked_at TIMESTAMPTZ
);
CREATE INDEX devices_user_live ON devices (user_id) WHERE revoked_at IS NULL;

-- One row per sign-in: a family of refresh tokens of one device.
CREATE TABLE auth_sessions (
  id UUID PRIMARY KEY,
  user_id UUID NOT NULL REFERENCES users (id),
  device_id UUID NOT NULL REFERENCES devices (id),
  generation BIGINT NOT NULL DEFAULT 1,
  access_jti TEXT NOT NULL,
  refresh_jti TEXT NOT NULL,
  issued_ms BIGINT NOT NULL,
  expires_ms BIGINT NOT NULL,
  user_agent TEXT,
  ip_address INET,
  expires_at TIMESTAMPTZ NOT NULL,
  revoked_at TIMESTAMPTZ,
  created_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX auth_sessions_device ON auth_sessions (device_id) WHERE revoked_at IS NULL;
CREATE INDEX auth_sessions_user ON auth_sessions (user_id, expires_ms) WHERE revoked_at IS NULL;

-- One row per ended session instance. Rows outlive everything but an explicit erasure.
CREATE TABLE vpn_session_history (
  id UUID PRIMARY KEY,
  instance TEXT NOT NULL UNIQUE,
  session_key TEXT NOT NULL,
  user_id UUID NOT NULL REFERENCES users (id) ON DELETE RESTRICT,
  device_id TEXT NOT NULL,
  public_key TEXT,
  vpn_ip INET,
  tor_ip INET,
  client_ip INET,
  bytes_tx BIGINT NOT NULL DEFAULT 0 CHECK (bytes_tx >= 0),
  bytes_rx BIGINT NOT NULL DEFAULT 0 CHECK (bytes_rx >= 0),
  close_reason TEXT,
  started_at TIMESTAMPTZ NOT NULL,
  ended_at TIMESTAMPTZ,
  created_at TIMESTAMPTZ NOT NULL,
  CHECK (ended_at IS NULL OR ended_at >= started_at)
);
CREATE INDEX vpn_session_history_user ON vpn_session_history (user_id, started_at);
CREATE INDEX vpn_session_history_started ON vpn_session_history (started_at);
CREATE INDEX vpn_session_history_key ON vpn_session_history (session_key);
