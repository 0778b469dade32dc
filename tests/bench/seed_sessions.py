#!/usr/bin/python3
"""Gives a gateway's SQLite file accounts with a live session each, as if they had connected a moment ago.

usage: seed_sessions.py COUNT STATE_DIR/tornado.db

The gateway must have made the file and be stopped. Its pools must hold 10.8.0.0/15 (vpn) and 10.12.0.0/15 (tor).
"""
import base64
import os
import sqlite3
import sys
import time
import uuid

count, path = int(sys.argv[1]), sys.argv[2]
now, text = int(time.time() * 1000), time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
db = sqlite3.connect(path)


def address(second, number):
    number += 2
    return f"10.{second + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def time_ordered(number):
    """A UUIDv7, as instances are named."""
    raw = (now + number // 1000).to_bytes(6, "big") + b"\x70" + os.urandom(1) + b"\x80" + os.urandom(7)
    return str(uuid.UUID(bytes=raw))


with db:
    for i in range(count):
        user, device, instance = str(uuid.uuid4()), str(uuid.uuid4()), time_ordered(i)
        key = base64.b64encode(os.urandom(32)).decode()
        vpn, tor = address(8, i), address(12, i)
        db.execute("INSERT INTO users (id, username, email, is_active, max_devices, created_at, updated_at) "
                   "VALUES (?, ?, ?, 1, 1, ?, ?)", (user, f"seeded{i}", f"seeded{i}@example.test", text, text))
        for name in (f"seeded{i}", f"seeded{i}@example.test"):
            db.execute("INSERT INTO user_names (tenant, name, user_id) VALUES ('', ?, ?)", (name, user))
        db.execute("INSERT INTO devices (id, user_id, label, created_at, last_seen_at) VALUES (?, ?, '', ?, ?)", (device, user, text, text))
        db.execute("INSERT INTO session_journal (instance, user_id, device_id, public_key, state, client_ip, opened_ms, activated_ms, "
                   "hard_deadline_ms, addresses) VALUES (?, ?, ?, ?, 'active', '192.0.2.9', ?, ?, ?, ?)",
                   (instance, user, device, key, now, now, now + 86_400_000, f"vpn {vpn};tor {tor}"))
        for lane, held in (("vpn", vpn), ("tor", tor)):
            db.execute("INSERT INTO session_addresses (instance, device_id, user_id, lane, v4) VALUES (?, ?, ?, ?, ?)",
                       (instance, device, user, lane, held))
        db.execute("INSERT INTO session_keys (public_key, device_id, first_ms) VALUES (?, ?, ?)", (key, device, now))
