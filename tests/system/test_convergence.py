"""What others do to our interfaces and host: told, kept or mended; and preshared keys."""

import os
import re
import time
import unittest

from lab import WORK, Lab, fetch, in_namespace, run
from support import LabCase, key_pair, until


def preshared_keys(interface):
    """{key: preshared key or None} as WireGuard itself has them."""
    rows = [line.split("\t") for line in run(*in_namespace("gw", "wg", "show", interface, "preshared-keys")).splitlines()]
    return {key: None if preshared == "(none)" else preshared for key, preshared in rows}


def key_file(name, key):
    path = f"{WORK}/{name}.psk"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(key + "\n")
    return path


class Adoption(LabCase):
    SETTINGS = {"wireguard.foreign_peers": "adopt"}

    def setUp(self):
        self.key = key_pair()[1]
        self.secret = key_pair()[0]
        run(*in_namespace("gw", "wg", "set", "wg0", "peer", self.key, "allowed-ips", "10.8.0.2/32,192.168.7.0/24",
                          "preshared-key", key_file("foreign", self.secret)))
        until(lambda: self.adopted(), "the adoption", 10)

    def adopted(self):
        return [row for row in self.gateway.ctl("gateway", "adopted") if row["public_key"] == self.key]

    def as_it_was(self):
        row = self.gateway.dump("wg0")[1].get(self.key)
        return row and set(row[0].split(",")) == {"10.8.0.2/32", "192.168.7.0/24"} and preshared_keys("wg0")[self.key] == self.secret

    def test_kept_through_everything_and_let_go(self):
        row = self.adopted()[0]
        self.assertEqual((row["lane"], row["allowed_ips"], row["adopted_by"], row["preshared_key"]),
                         ("vpn", "10.8.0.2/32 192.168.7.0/24", "policy", True))
        self.assertEqual(self.gateway.ctl("gateway", "status")["adopted"], 1)
        client = self.client().connect()
        self.assertEqual(client.tunnel["vpn"]["ip"], "10.8.0.3", "its address is nobody's")
        Lab.ip("gw", "link", "del", "wg0")
        until(lambda: "wg0" in run("ip", "-n", "gw", "link") and self.as_it_was(), "the peer again", 15)
        self.gateway.kill()
        Lab.ip("gw", "link", "del", "wg0")
        self.gateway.start()
        until(self.as_it_was, "the peer after a restart", 15)
        self.assertEqual(self.gateway.ctl("gateway", "adopted")[0]["adopted_at"], row["adopted_at"])
        self.assertEqual(len(self.gateway.logged("peer_adopted")), 0, "told when it was adopted, and not again")
        self.assertFalse(self.gateway.logged("foreign_peers"))
        self.assertNotIn(self.secret, "".join(map(str, self.gateway.lines)))
        self.gateway.ctl("gateway", "release", self.key, expect=2)
        self.assertEqual(self.gateway.ctl("gateway", "release", self.key, "--yes"), {"released": self.key})
        self.assertNotIn(self.key, self.gateway.dump("wg0")[1])
        self.assertEqual(self.adopted(), [])
        self.gateway.ctl("gateway", "release", self.key, "--yes", expect=3)
        until(lambda: fetch("c0", timeout=1), "the client goes on", 25)


class HostDifference(LabCase):
    SETTINGS = {"session.reconcile_interval": 300}

    def lines(self):
        return self.gateway.ctl("gateway", "diff")["host"]

    def rest(self):
        """Until no pass is under way or asked for: one follows another within 0.6 s."""
        def passes():
            return re.findall(r"^tornado_reconcile_passes_total.*$", self.gateway.get("/metrics", 9586)[1], re.MULTILINE)
        known, since = passes(), time.monotonic()

        def quiet():
            nonlocal known, since
            if passes() != known:
                known, since = passes(), time.monotonic()
            return time.monotonic() - since > 2
        until(quiet, "no pass any more", 20, every=0.2)
        self.assertEqual(self.lines(), [])

    def test_what_nobody_notices_is_listed_and_mended(self):
        """Changes of routes, sysctls, keys and ports tell nobody: they stay until a pass."""
        self.rest()
        spoiled = [
            (["ip", "route", "del", "blackhole", "default", "table", "51901"], "there is no route blackhole 0.0.0.0/0 in table 51901"),
            (["ip", "-6", "route", "del", "blackhole", "default", "table", "51901"], "there is no route blackhole ::/0 in table 51901"),
            (["sysctl", "-qw", "net.ipv4.ip_forward=0"], "net/ipv4/ip_forward is 0, not 1"),
            (["wg", "set", "wg0", "listen-port", "40404"], "wg0 listens on port 40404, not 51820"),
            (["wg", "set", "wg1", "private-key", key_file("other", key_pair()[0])], "wg1 has another private key"),
        ]
        keys = self.gateway.server_keys()
        for command, line in spoiled:
            run(*in_namespace("gw", *command))
            self.assertIn(line, self.lines())
        self.assertFalse(self.gateway.ctl("gateway", "reconcile", "--dry-run")["same"])
        self.assertEqual(len(self.lines()), len(spoiled), "a dry run changes nothing")
        self.gateway.ctl("gateway", "reconcile")
        self.assertEqual(self.lines(), [])
        self.assertEqual(self.gateway.server_keys(), keys)

    def test_rules_come_back_by_themselves(self):
        def rules():
            return run(*in_namespace("gw", "ip", "rule")) + run(*in_namespace("gw", "ip", "-6", "rule"))
        before = rules()
        run(*in_namespace("gw", "ip", "rule", "del", "priority", "100"))
        run(*in_namespace("gw", "ip", "-6", "rule", "del", "priority", "100"))
        until(lambda: rules() == before, "the rules again", 10)
        until(lambda: self.lines() == [], "everything as it should be", 10)


class Preshared(LabCase):
    CLIENTS = 2

    def ask(self, client):
        client.private, client.public = key_pair()
        body = {"public_key": client.public, "preshared_key": True}
        client.tunnel = client.good(client.request("POST", "/vpn/initiate", body, client.access))
        return client.tunnel["session"].get("preshared_key")

    def use(self, client, key):
        run(*in_namespace(client.namespace, "wg", "set", client.interface, "peer", client.tunnel[client.lane]["server_pubkey"],
                          "preshared-key", key_file(client.namespace, key)))

    def test_a_tunnel_with_the_key(self):
        client = self.client()
        key = self.ask(client)
        for interface in ("wg0", "wg1"):
            self.assertEqual(preshared_keys(interface)[client.public], key)
        for lane in ("vpn", "tor"):
            client.down()
            client.up(lane)
            self.use(client, key)
            until(client.handshake, f"a handshake on lane {lane}", 15)
        client.toggle("vpn")
        self.use(client, key)
        until(lambda: fetch(client.namespace, timeout=1), "traffic", 15)
        self.assertTrue(self.session_of(client)["preshared_key"])
        self.gateway.kill()
        Lab.ip("gw", "link", "del", "wg0")
        self.gateway.start()
        until(lambda: preshared_keys("wg0").get(client.public) == key, "the same key after a restart", 15)
        until(lambda: fetch(client.namespace, timeout=1), "traffic again", 25)
        run(*in_namespace("gw", "wg", "set", "wg0", "peer", client.public, "preshared-key", key_file("wrong", key_pair()[0])))
        until(lambda: preshared_keys("wg0").get(client.public) == key, "the key is put right", 10)

    def test_no_tunnel_with_another_key_or_none(self):
        client = self.client()
        key = self.ask(client)
        client.up()
        self.assertIsNone(fetch(client.namespace, timeout=3), "without the key")
        self.use(client, key_pair()[0])
        self.assertIsNone(fetch(client.namespace, timeout=7), "with another one")
        self.assertEqual(client.handshake(), 0)
        self.assertEqual(self.gateway.dump("wg0")[1][client.public][1], 0)
        self.use(client, key)
        until(lambda: fetch(client.namespace, timeout=1), "traffic with the key", 15)

    def test_unchanged_clients_see_nothing_of_it(self):
        client = self.client(1).connect()
        self.assertEqual(client.tunnel["session"], {"heartbeat_ttl": 90, "hard_ttl": 1296000})
        self.assertEqual(set(client.tunnel), {"status", "vpn", "tor", "session"})
        self.assertIsNone(preshared_keys("wg0")[client.public])
        self.assertTrue(fetch(client.namespace))
        client.down()
        for other in (False, "yes", 1, None):
            pair = key_pair()
            body = {"public_key": pair[1], "preshared_key": other}
            answer = client.good(client.request("POST", "/vpn/initiate", body, client.access))
            self.assertEqual(answer["session"], {"heartbeat_ttl": 90, "hard_ttl": 1296000})
        until(lambda: len(self.history_of(client)) == 4, "the replaced sessions end", 10)


class PresharedOff(LabCase):
    SETTINGS = {"wireguard.preshared_keys": "off"}

    def test_nobody_gets_one(self):
        client = self.client()
        pair = key_pair()
        answer = client.good(client.request("POST", "/vpn/initiate", {"public_key": pair[1], "preshared_key": True}, client.access))
        self.assertEqual(answer["session"], {"heartbeat_ttl": 90, "hard_ttl": 1296000})
        self.assertIsNone(preshared_keys("wg0")[pair[1]])


if __name__ == "__main__":
    unittest.main()
