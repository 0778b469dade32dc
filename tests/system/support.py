"""What the test cases share."""

import collections
import unittest

from client import ApiError, Client
from lab import Gateway, Lab, until
from sealing import key_pair


class LabCase(unittest.TestCase):
    """A lab and a gateway for all tests of a class. Every test uses users of its own."""
    CLIENTS = 1
    SETTINGS = {}
    START = True

    @classmethod
    def setUpClass(cls):
        cls.lab = Lab(cls.CLIENTS)
        cls.addClassCleanup(cls.lab.close)
        cls.gateway = Gateway(cls.__name__, **cls.SETTINGS)
        cls.addClassCleanup(cls.finish_gateway)
        if cls.START:
            cls.gateway.start()

    @classmethod
    def finish_gateway(cls):
        """A daemon that stops badly, or says anything but its log (a sanitizer does), fails the class."""
        code = cls.gateway.stop()
        if code or cls.gateway.other_output:
            raise AssertionError(f"tornadod ended with {code}: {''.join(cls.gateway.other_output)[:8000]}")

    def client(self, index=0, host=None, devices=1, sign_in=True):
        """A client with an account of its own, signed in; its tunnel goes when the test ends."""
        name = f"u{index}-" + self.id().split(".")[-1][5:].replace("_", "-")[:40]
        self.gateway.add_user(name, max_devices=devices)
        client = Client(f"c{index}", name, **({"host": host} if host else {}))
        self.addCleanup(client.down)
        self.addCleanup(client.hang_up)
        return client.login() if sign_in else client

    def history_of(self, client):
        return [row for row in self.gateway.history() if row["device_id"] == client.device]

    def session_of(self, client):
        found = [row for row in self.gateway.sessions() if row["device_id"] == client.device]
        self.assertLessEqual(len(found), 1)
        return found[0] if found else None

    def assert_closed(self, client, reason, rows=1):
        def done():
            history = self.history_of(client)
            return len(history) == rows and self.session_of(client) is None and history
        history = until(done, f"{rows} history rows of {client.name}", 5)
        self.assertEqual(history[0]["close_reason"], reason)
        return history[0]

    def assert_detail(self, answer, status, detail):
        self.assertEqual((answer.status, answer.detail()), (status, detail))


def inconsistencies(gateway):
    """What invariants I-01, I-04 and I-06 forbid, seen from outside while nothing is going on."""
    problems = []
    sessions, history = gateway.sessions(), gateway.history()
    wanted = {}
    for session in list(sessions):
        if session["state"] not in ("online", "offline", "idle"):
            problems.append(f"session {session['instance']} is {session['state']}")
            sessions.remove(session)
            continue
        wanted[session["public_key"]] = {"wg0": session["vpn_ip"] + "/32", "wg1": session["tor_ip"] + "/32"}
    for interface in ("wg0", "wg1"):
        peers = gateway.dump(interface)[1]
        for key in peers.keys() - wanted.keys():
            problems.append(f"{interface}: peer {key} without a session")
        for key, allowed in wanted.items():
            if key not in peers:
                problems.append(f"{interface}: session key {key} without a peer")
            elif peers[key][0] != allowed[interface]:
                problems.append(f"{interface}: {key} has {peers[key][0]}, not {allowed[interface]}")
    for lane in ("vpn_ip", "tor_ip"):
        for address, count in collections.Counter(session[lane] for session in sessions).items():
            if count > 1:
                problems.append(f"{address} is given {count} times")
    for device, count in collections.Counter(session["device_id"] for session in sessions).items():
        if count > 1:
            problems.append(f"device {device} has {count} sessions")
    for instance, count in collections.Counter(row["instance"] for row in history).items():
        if count > 1:
            problems.append(f"{instance} has {count} history rows")
    live = {session["instance"] for session in sessions}
    for row in history:
        if row["instance"] in live:
            problems.append(f"{row['instance']} is live and in the history")
        if not row["close_reason"] or not row["ended_at"]:
            problems.append(f"{row['instance']} ended without reason or time")
    return problems


__all__ = ["ApiError", "Client", "Gateway", "Lab", "LabCase", "inconsistencies", "key_pair", "until"]
