#!/usr/bin/python3
"""Fills a gateway's SQLite file with accounts that share one Argon2id hash, for load tests.

usage: seed_users.py COUNT STATE_DIR/tornado.db users.tsv

The gateway must have made the file and be stopped. The hash is made with tornadod's own cost: it is copied from the
account `seed`, whose password is `bench-pass-1`. Writes lines "username<TAB>password" to the last argument.
"""
import sqlite3
import sys
import uuid

count, path, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
db = sqlite3.connect(path)
(hash_,) = db.execute("SELECT password_hash FROM users WHERE username = 'seed'").fetchone()
now = "2026-01-01T00:00:00.000Z"
with db, open(out, "w") as tsv:
    for i in range(count):
        name, user = f"bench{i}", str(uuid.uuid4())
        db.execute("INSERT INTO users (id, username, email, password_hash, is_active, max_devices, created_at, updated_at) "
                   "VALUES (?, ?, ?, ?, 1, 100000, ?, ?)", (user, name, f"{name}@example.test", hash_, now, now))
        for key in (name, f"{name}@example.test"):
            db.execute("INSERT INTO user_names (tenant, name, user_id) VALUES ('', ?, ?)", (key, user))
        tsv.write(f"{name}\tbench-pass-1\n")
