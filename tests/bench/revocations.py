#!/usr/bin/python3
"""Ends one session after the other through the control socket, for client_contract --revoke.

usage: revocations.py CONTROL_SOCKET STATE_DIR/tornado.db TRIALS

Half of the trials close a session, half suspend an account. Two times of each: until no packet passes any more
(`stopped`, as the daemon says) and until the answer has come, when the peer is gone from both interfaces. Every 50th
time both interfaces are asked whether the peer is gone.
"""
import base64
import json
import random
import socket
import sqlite3
import subprocess
import sys
import time


class Control:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.lines = self.socket.makefile("rb")

    def call(self, method, **params):
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        answer = json.loads(self.lines.readline())
        if "error" in answer:
            raise SystemExit(f"{method}: {answer['error']}")
        return answer["result"]


def has_peer(interface, key):
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(f"/run/wireguard/{interface}.sock")
        line.sendall(b"get=1\n\n")
        text = b""
        while not text.endswith(b"\n\n"):
            text += line.recv(1 << 20)
    return b"public_key=" + base64.b64decode(key).hex().encode() in text


def shown(name, times):
    times.sort()
    at = [times[min(len(times) - 1, int(len(times) * share))] for share in (0.5, 0.99)]
    print(f"  {name:<34} p50 {at[0]:7.2f}  p99 {at[1]:7.2f}  worst {times[-1]:7.2f} ms")


def main():
    control, trials = Control(sys.argv[1]), int(sys.argv[3])
    names = dict(sqlite3.connect(f"file:{sys.argv[2]}?mode=ro", uri=True).execute("SELECT id, username FROM users"))
    sessions = control.call("session.list")
    random.Random(1).shuffle(sessions)
    interfaces = [name for name in ("wg0", "wg1") if subprocess.call(["test", "-S", f"/run/wireguard/{name}.sock"]) == 0]
    print(f"{trials} revocations with {len(sessions)} sessions, one after the other")
    times = {(verb, what): [] for verb in ("close", "suspend") for what in ("no packet passes", "answered, peer gone")}
    checked = 0
    for number, session in enumerate(sessions[:trials]):
        verb = ("close", "suspend")[number % 2]
        began = time.monotonic()
        if verb == "close":
            answer = control.call("session.close", session=session["instance"])
        else:
            answer = control.call("user.suspend", name=names[session["user_id"]])
        times[verb, "answered, peer gone"].append(1000 * (time.monotonic() - began))
        times[verb, "no packet passes"].append(answer["cut"]["stopped_ms"])
        if number % 50 == 0:
            for interface in interfaces:
                if has_peer(interface, session["public_key"]):
                    raise SystemExit(f"{verb}: {interface} still has the peer")
                checked += 1
    for (verb, what), measured in times.items():
        shown(f"{verb}: {what}", measured)
    print(f"  {checked} looks at the interfaces found no peer that was cut; sessions now: {len(control.call('session.list'))}")


main()
