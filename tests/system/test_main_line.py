"""The straight line: account, sign-in, tunnel, packets, and every way a session ends."""

import contextlib
import os
import socket
import unittest

from client import ApiError, Client
from lab import DNS, GATEWAY, INSIDE, PUBLIC, SLOW, WEB, WORK, connect, fetch, in_namespace, inside, resolve, run
from support import LabCase, inconsistencies, key_pair, until


class MainLine(LabCase):
    CLIENTS = 2

    def assert_page(self, client):
        self.lab.web.seen.clear()
        self.assertEqual(fetch(client.namespace), "hello from the internet\n")
        self.assertEqual(self.lab.web.seen, [GATEWAY])

    def assert_no_traffic(self, client):
        self.lab.web.seen.clear()
        self.lab.dns.seen.clear()
        self.assertIsNone(fetch(client.namespace, timeout=1))
        self.assertIsNone(resolve(client.namespace, client.dns(), timeout=0.5))
        self.assertIsNone(resolve(client.namespace, DNS, timeout=0.5))
        self.assertEqual((self.lab.web.seen, self.lab.dns.seen), ([], []))

    def assert_peers_match(self):
        """`wg show dump` and `peer list` say the same."""
        def shown():
            return {(p["interface"], p["public_key"]): (",".join(p["allowed_ips"]), p["last_handshake"], p["received"], p["sent"])
                    for p in self.gateway.ctl("peer", "list")}

        def dumped():
            return {(name, key): row for name in ("wg0", "wg1") for key, row in self.gateway.dump(name)[1].items()}
        # Counters move while a tunnel is up: the two must meet between two equal dumps.
        until(lambda: dumped() == shown() == dumped(), "the same peers in both", 10)

    def test_vpn_lane(self):
        client = self.client().connect()
        self.assert_page(client)
        self.assertEqual(resolve("c0", client.dns()), WEB)
        self.assertEqual(self.lab.dns.seen[-1], GATEWAY)
        self.assertEqual(client.heartbeat().json(), {"status": "ok"})
        for lane, prefix, port in (("vpn", "10.8.0.", "51820"), ("tor", "10.9.0.", "51821")):
            access = client.tunnel[lane]
            self.assertTrue(access["ip"].startswith(prefix))
            self.assertEqual(access["endpoint"], f"{GATEWAY}:{port}")
        self.assertEqual(client.tunnel["session"], {"heartbeat_ttl": 90, "hard_ttl": 1296000})
        session = until(lambda: (s := self.session_of(client)) and s["lane"] == "vpn" and s["bytes_rx"] > 0 and s["bytes_tx"] > 0 and s,
                        "counters of the session", 5)
        self.assertEqual((session["state"], session["client_ip"]), ("online", "203.0.113.0/24"))
        self.assertEqual((session["vpn_ip"], session["tor_ip"]), (client.tunnel["vpn"]["ip"], client.tunnel["tor"]["ip"]))
        self.assert_peers_match()

    def test_heartbeat_through_the_tunnel(self):
        client = self.client().connect()
        self.assertEqual(client.heartbeat().status, 200)
        before = self.gateway.dump("wg0")[1][client.public][2]
        for _ in range(5):
            self.assertEqual(client.heartbeat().status, 200)
        self.assertGreater(self.gateway.dump("wg0")[1][client.public][2], before + 500)

    def test_behind_nat(self):
        """K-08: the login address is one the gateway does not have."""
        gateway = self.gateway
        gateway.stop()
        old = dict(gateway.settings)
        try:
            for setting in ("endpoint.host", "client_api.public"):
                with self.subTest(setting):
                    gateway.settings = {key: value for key, value in old.items() if key != "endpoint.host"}
                    gateway.settings[setting] = PUBLIC
                    gateway.start()
                    name = "nat-" + setting.split(".")[0]
                    gateway.add_user(name)
                    client = Client("c0", name, host=PUBLIC)
                    self.addCleanup(client.down)
                    client.login().connect()
                    if setting == "endpoint.host":
                        self.assertEqual(client.tunnel["vpn"]["endpoint"], PUBLIC + ":51820")
                    for lane in ("vpn", "tor"):
                        client.toggle(lane)
                        self.assertEqual(client.heartbeat().status, 200, lane)
                        self.assertEqual(client.reauth().status, 200, lane)
                    client.down()
                    gateway.stop()
        finally:
            gateway.stop()
            gateway.settings = old
            gateway.start()

    def test_tor_lane_keeps_everything_but_the_api(self):
        client = self.client().connect()
        self.assert_page(client)
        client.toggle("tor")
        self.assertEqual(client.heartbeat().status, 200)
        self.assertEqual(client.reauth().status, 200)
        self.assert_no_traffic(client)
        # Nor any other port of the gateway, through any of its addresses.
        for host in (GATEWAY, INSIDE, client.dns(), client.tunnel["vpn"]["ip"][:-1] + "1"):
            with self.assertRaises(OSError, msg=host):
                connect("c0", host, 22, timeout=0.5)
        # The first reading of a lane cannot tell when its bytes came; what is used goes on to be used.
        for lane in ("tor", "vpn"):
            client.toggle(lane)
            until(lambda: client.heartbeat().status == 200 and self.session_of(client)["lane"] == lane,
                  "the lane in use is seen", 5)
        self.assert_page(client)

    def test_revocations_say_what_they_cut(self):
        def revoke(*words):
            client = self.client().connect()
            self.assert_page(client)
            answer = self.gateway.ctl(*(word.format(client=client) for word in words))
            self.assertIsNone(fetch(client.namespace, timeout=1))
            self.assertEqual(answer["closed_sessions"], [f"{client.user}-{client.device}"])
            self.assertEqual((answer["cut"]["peers"], answer["cut"]["addresses_flushed"], answer["cut"]["circuits"]), (2, 2, 0))
            self.assertLess(0, answer["cut"]["stopped_ms"])
            self.assertLessEqual(answer["cut"]["stopped_ms"], answer["cut"]["finished_ms"])
            client.down()
            self.gateway.ctl("user", "delete", client.name, "--yes")
            return answer["revoked_sign_ins"]
        self.assertEqual(revoke("user", "suspend", "{client.name}"), 1)
        self.assertEqual(revoke("device", "revoke", "{client.device}"), 1)
        self.assertEqual(revoke("session", "close", "{client.device}"), 0)

    def test_suspend_stops_traffic_and_tokens(self):
        client = self.client().connect()
        self.assert_page(client)
        cut = self.gateway.ctl("user", "suspend", client.name)
        self.assertEqual(len(cut["closed_sessions"]), 1)
        self.assert_no_traffic(client)
        row = self.assert_closed(client, "revoked")
        self.assertGreater(row["bytes_rx"], 0)
        self.assertGreater(row["bytes_tx"], 0)
        client.down()
        for answer in (client.heartbeat(), client.request("POST", "/vpn/initiate", {"public_key": key_pair()[1]}, client.access)):
            self.assertEqual(answer.status, 401)
            self.assertIn("Authentication failed", answer.detail())
        self.assert_detail(client.reauth(), 401, "user_invalid")
        self.assert_detail(client.sign_in(), 401, "user_inactive")
        self.gateway.ctl("user", "reinstate", client.name)
        client.login().connect()
        self.assert_page(client)

    def test_logout(self):
        client = self.client().connect()
        # The answer goes through the tunnel that it ends.
        self.assertEqual(client.logout(), {"status": "logged_out"})
        self.assert_closed(client, "disconnect")
        self.assert_no_traffic(client)
        client.down()
        self.assertEqual(client.logout(), {"status": "logged_out"})
        self.assertIn("Authentication failed", client.heartbeat().detail())
        self.assertEqual(client.reauth().status, 401)

    def test_disconnect(self):
        client = self.client().connect()
        self.assertEqual(client.disconnect().json(), {"status": "disconnected"})
        self.assert_closed(client, "disconnect")
        self.assert_no_traffic(client)
        client.down()
        self.assert_detail(client.heartbeat(), 400, "session_expired")
        self.assert_detail(client.disconnect(), 400, "session_expired")
        client.connect()
        self.assert_page(client)

    def test_killed_by_an_operator(self):
        client = self.client().connect()
        session = self.session_of(client)
        self.gateway.ctl("session", "close", session["session_id"])
        self.assert_no_traffic(client)
        self.assert_closed(client, "killed")
        self.gateway.ctl("session", "close", session["session_id"], expect=3)

    def test_new_key_replaces_the_old(self):
        client = self.client().connect()
        first, pair = client.tunnel, (client.private, client.public)
        client.connect()
        self.assertEqual([client.tunnel[lane]["ip"] for lane in ("vpn", "tor")], [first[lane]["ip"] for lane in ("vpn", "tor")])
        self.assert_page(client)

        def replaced():
            return [row["close_reason"] for row in self.history_of(client)] == ["replaced"]
        until(replaced, "one history row", 5)
        self.assertEqual(self.history_of(client)[0]["public_key"], pair[1])
        keys = {peer["public_key"] for peer in self.gateway.peers()}
        self.assertIn(client.public, keys)
        self.assertNotIn(pair[1], keys)
        # The old key is dead: no handshake, no traffic.
        client.down()
        client.private, client.public = pair
        client.up()
        self.assertIsNone(fetch("c0", timeout=1))
        self.assertEqual(client.handshake(), 0)

    def test_same_key_again_keeps_the_session(self):
        client = self.client().connect()
        instance = self.session_of(client)["instance"]
        client.initiate((client.private, client.public))
        self.assertEqual(self.session_of(client)["instance"], instance)
        self.assert_page(client)

    def test_key_of_another_device(self):
        client = self.client().connect()
        other = self.client(1)
        taken = (client.private, client.public)
        with self.assertRaises(ApiError) as refused:
            other.initiate(taken)
        self.assert_detail(refused.exception.answer, 409, "VPN Manager Error: public_key_in_use")
        client.disconnect()
        with self.assertRaises(ApiError, msg="a key that another device ever used"):
            other.initiate(taken)
        self.assertIsNone(self.session_of(other))

    def test_two_clients_do_not_meet(self):
        one, two = self.client(0).connect(), self.client(1).connect()
        self.assert_page(one)
        self.assert_page(two)
        self.assertNotEqual(one.tunnel["vpn"]["ip"], two.tunnel["vpn"]["ip"])
        for client, other in ((one, two), (two, one)):
            for lane in ("vpn", "tor"):
                with self.assertRaises(OSError):
                    connect(client.namespace, other.tunnel[lane]["ip"], 22, timeout=0.5)
        # A token that comes through the tunnel of another device is refused (I-16).
        answer = two.request("POST", "/session/heartbeat", token=one.access)
        self.assertEqual(answer.status, 401)
        self.assertEqual(inconsistencies(self.gateway), [])

    def test_wireguard_never_learns_a_private_key_of_a_client(self):
        client = self.client().connect()
        logs = run("sh", "-c", f"cat {self.gateway.state}/children/*.log 2>/dev/null || true")
        self.assertNotIn(client.private, logs + "".join(map(str, self.gateway.lines)))


class KnownByName(LabCase):
    """I-22 for a gateway behind 1:1 NAT whose address is that of a name, which does not always resolve."""
    NAME = "gate.lab.test"
    SETTINGS = {"endpoint.host": NAME}
    START = False
    looks = 0

    def resolves_to(self, *addresses):
        with open(self.hosts, "w") as file:
            file.write("".join(f"{address} {self.NAME}\n" for address in addresses) + "127.0.0.1 localhost\n")

    def reached_at(self):
        """The API's addresses once the gateway has looked at its host again."""
        KnownByName.looks += 1
        address = f"203.0.113.{100 + self.looks}"
        run(*in_namespace("gw", "ip", "address", "add", address + "/32", "dev", "eth0"))

        def listed():
            text = run(*in_namespace("gw", "nft", "list", "table", "inet", "tornado"))
            return address in text and text
        return until(listed, "the ruleset with the new address", 10)

    def record(self):
        return self.gateway.state + "/endpoint.known"

    def ruleset(self):
        return run(*in_namespace("gw", "nft", "list", "table", "inet", "tornado"), check=False)

    def with_resolver(self, options):
        """The host's name server is 127.0.0.1."""
        self.hosts, resolvers = WORK + "/hosts", WORK + "/resolvers"
        with open(resolvers, "w") as file:
            file.write(f"nameserver 127.0.0.1\noptions {options}\n")
        self.resolves_to()
        for source, target in ((self.hosts, "/etc/hosts"), (resolvers, "/etc/resolv.conf")):
            run("mount", "--bind", source, target)
            self.addCleanup(run, "umount", target)
        self.addCleanup(self.finish_gateway)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.record())

    def with_silent_resolver(self):
        """A lookup takes two and a half minutes."""
        self.with_resolver("timeout:30 attempts:5")
        with inside("gw"):
            silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(silent.close)
        silent.bind(("127.0.0.1", 53))
        silent.settimeout(5 * SLOW)
        return silent

    def test_the_last_answer_holds_while_there_is_none(self):
        self.with_resolver("timeout:1 attempts:1")
        self.resolves_to("198.18.0.1")
        self.gateway.start()
        self.reached_at()
        until(lambda: "198.18.0.1" in self.ruleset(), "the first answer")
        self.resolves_to()
        self.reached_at()
        until(lambda: self.gateway.logged("endpoint_unresolved"), "it is told")
        self.assertIn("198.18.0.1", self.reached_at())
        self.resolves_to("198.18.0.2")
        self.reached_at()
        until(lambda: "198.18.0.2" in self.ruleset(), "the new answer")
        self.assertNotIn("198.18.0.1", self.ruleset())

    def test_a_silent_resolver_holds_nothing(self):
        """No start waits for one, no ruleset and no stop."""
        silent = self.with_silent_resolver()
        os.makedirs(self.gateway.state, 0o700, exist_ok=True)
        with open(self.record(), "w") as file:
            file.write("another.lab.test\n198.18.0.9\n")
        self.gateway.start()
        self.assertNotIn("198.18.0.9", self.ruleset())
        self.assertIn(self.NAME.split(".")[0].encode(), silent.recv(512))
        told = until(lambda: self.gateway.logged("endpoint_unresolved"), "it is told")
        self.assertIn("no answer within 2 s", told[0]["detail"])
        self.reached_at()
        run(*in_namespace("gw", "nft", "delete", "table", "inet", "tornado"))
        until(lambda: "chain" in self.ruleset(), "the ruleset is back", 10)
        self.gateway.process.terminate()
        self.assertEqual(self.gateway.gone(10), 0)

    def test_a_restart_knows_what_the_name_meant(self):
        silent = self.with_silent_resolver()
        self.resolves_to("198.18.0.3")
        self.gateway.start()
        until(lambda: os.path.exists(self.record()), "it is on record")
        self.finish_gateway()
        self.resolves_to()
        with open(self.record(), "a") as file:
            file.write("no address\n")
        self.gateway.start()
        self.assertIn("198.18.0.3", self.ruleset())
        silent.recv(512)
        self.assertEqual(self.gateway.logged("endpoint_unresolved"), [])


if __name__ == "__main__":
    unittest.main()
