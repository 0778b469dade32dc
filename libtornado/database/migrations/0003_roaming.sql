-- Where a session was last seen, at `session.address_privacy` as `client_ip` is, and how often that changed.
ALTER TABLE vpn_session_history ADD COLUMN last_client_ip INET;
ALTER TABLE vpn_session_history ADD COLUMN roamed BIGINT NOT NULL DEFAULT 0;
