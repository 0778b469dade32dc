"""The leak matrix of the tor lane: every door times everything that can happen to Tor, the daemon and the host.

What counts is what the uplink saw: in no state may a packet of the lane be on it, nor a connection that the gateway
makes on the lane's behalf; only tor speaks to relays. The last test opens the lane and shows that the eyes would see.
"""

import os
import signal
import threading
import time

import leaks
import tor_network
from client import Client
from lab import GATEWAY, WEB, Transfer, fetch, in_namespace, run, until
from leaks import Eyes, Probes
from test_tor_lane import TorLaneCase


class LeakCase(TorLaneCase):
    """One device with probes, a second one beside it, and eyes on the wires for all tests of the class."""
    CLIENTS = 2
    SETTINGS = {"lanes.vpn.pool6": leaks.VPN6, "lanes.tor.pool6": leaks.TOR6}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        lab = cls.lab
        for name, interface, address in (("gw", "eth0", leaks.GATEWAY6 + "/64"), ("net", "togw", leaks.ROUTER6 + "/64"), ("net", "lo", leaks.WEB6 + "/128")):
            lab.ip(name, "addr", "add", address, "dev", interface, "nodad")
        lab.ip("gw", "-6", "route", "add", "default", "via", leaks.ROUTER6)
        lab.ip("gw", "route", "add", "169.254.0.0/16", "via", "198.51.100.1")
        cls.clients = []
        for i in (0, 1):
            cls.gateway.add_user(f"leak{i}")
            cls.clients.append(Client(f"c{i}", f"leak{i}").login())
            cls.addClassCleanup(cls.clients[i].down)
            cls.addClassCleanup(cls.clients[i].hang_up)
            cls.clients[i].connect("tor")
        own, other = (cls.addresses(client) for client in cls.clients)
        cls.eyes = Eyes("c1")
        cls.addClassCleanup(cls.eyes.close)
        cls.probes = Probes(cls.clients[0], own["wg1"][1], other["wg1"])
        cls.addClassCleanup(cls.probes.close)
        for client in cls.clients:
            until(lambda c=client: c.handshake(), "a handshake", 10)

    @classmethod
    def addresses(cls, client):
        """{interface: [IPv4, IPv6]}; unchanged clients are not told the second, but the lane carries it."""
        return {name: [prefix.split("/")[0] for prefix in cls.gateway.dump(name)[1][client.public][0].split(",")]
                for name in ("wg0", "wg1")}

    def setUp(self):
        self.began = time.monotonic()
        if not self.gateway.process:
            self.gateway.start()
        self.forget()

    def forget(self):
        self.eyes.leaks.clear()
        self.eyes.beside.clear()
        self.eyes.host()
        self.lab.web.seen.clear()
        self.lab.dns.seen.clear()

    def tearDown(self):
        self.probes.hang_up()
        print(f"  {self.id().split('.')[-1]}: {time.monotonic() - self.began:.1f} s, {self.eyes.frames} packets seen, "
              f"{self.probes.rounds} rounds of probes", flush=True)

    def try_all(self, condition, knock=True, table=True):
        """Every probe once; all of them are known to have come to the gateway, and none to have gone on."""
        wanted = {}

        def all_arrived():
            turn, sent = self.probes.send()
            wanted.update(turn=turn, names={name for name in sent if not name.startswith("spoofed-")})
            try:
                until(lambda: wanted["names"] <= self.eyes.arrived.get(turn, set()), "arrival", 1.5)
                return True
            except AssertionError:
                return False
        try:
            until(all_arrived, f"all probes are at the gateway: {condition}", 15)
        except AssertionError as error:
            missing = wanted["names"] - self.eyes.arrived.get(wanted["turn"], set())
            raise AssertionError(f"{error}; missing {sorted(missing)}") from None
        if knock:
            self.probes.knock()
        self.assert_held(condition, table)

    def assert_held(self, condition, table=True):
        """Without the table the second barrier is alone. It keeps the lane from the outside, and from nothing else."""
        self.assertEqual((condition, self.eyes.leaks[:5]), (condition, []))
        if table:
            names, peers = self.eyes.host()
            self.assertEqual((condition, self.eyes.beside, names, peers), (condition, set(), set(), set()))
        # Exits ask for names from the address of their namespace.
        self.assertLessEqual(set(self.lab.web.seen), set(self.network.exit_addresses), condition)
        self.assertLessEqual(set(self.lab.dns.seen), {*self.network.exit_addresses, tor_network.ADDRESS}, condition)
        self.assertEqual((condition, self.eyes.dropped()), (condition, 0))

    def without_table(self, condition):
        """Says what passed while the table was gone, and forgets it."""
        names, peers = self.eyes.host()
        print(f"  {condition}: {sorted(self.eyes.beside)} came to the other device, {len(names)} probes and "
              f"{len(peers)} callers to the host", flush=True)
        self.assert_held(condition, table=False)
        self.forget()

    def during(self, what):
        """Probes without a pause while something is done."""
        stop = threading.Event()

        def go():
            while not stop.wait(0.02):
                self.probes.send()
        thread = threading.Thread(target=go, daemon=True)
        thread.start()
        try:
            what()
        finally:
            stop.set()
            thread.join(5)

    def mode_now(self):
        listed = run(*in_namespace("gw", "nft", "list", "table", "inet", "tornado"), check=False)
        return "tor" if "dnat ip to 10.9.0.1:9040" in listed else "maintenance" if "10.9.0.1:9041" in listed else None

    def nft(self, *words):
        return run(*in_namespace("gw", "nft", *words))


class Matrix(LeakCase):
    def test_1_up_maintenance_stopped(self):
        self.wait_up()
        self.try_all("up")
        self.assertEqual(self.fetched(self.clients[0]), self.lab.web.PAGE)
        self.assertTrue(self.eyes.relays)
        for wish, phase in (("tor.down", "maintenance"), ("tor.stop", "stopped")):
            self.during(lambda: (self.gateway.call(wish), self.wait_phase(phase), self.wait_mode("maintenance")))
            self.try_all(phase)
            self.assertIn("switched off", fetch("c0", WEB) or "")
        self.during(lambda: (self.gateway.call("tor.up"), self.wait_up()))
        self.try_all("up again")

    def test_2_tor_killed_and_bootstrapping_without_a_network(self):
        self.wait_up()
        self.during(lambda: os.kill(self.status()["pid"], signal.SIGKILL))
        self.try_all("tor killed")
        self.wait_up()
        self.lab.ip("net", "route", "replace", "blackhole", "10.99.0.0/24")
        try:
            os.kill(self.status()["pid"], signal.SIGKILL)
            self.wait_phase("bootstrapping")
            self.wait_mode("maintenance")
            self.during(lambda: self.try_all("bootstrapping"))
            page = until(lambda: fetch("c0", WEB), "the page", 10)
            self.assertIn("Tor is connecting", page)
            self.assertEqual(self.status()["phase"], "bootstrapping")
        finally:
            self.lab.ip("net", "route", "replace", "10.99.0.0/24", "via", tor_network.ADDRESS)
        self.gateway.call("tor.stop")
        self.wait_phase("stopped")
        self.gateway.call("tor.up")
        self.wait_up()
        self.try_all("up after that")

    def test_3_two_hundred_changes(self):
        self.wait_up()
        modes = len(self.gateway.events("lane_mode"))

        def change():
            for i in range(200):
                self.gateway.call(("tor.down", "tor.up")[i % 2])
                if i % 50 == 49:
                    self.wait_up()
        self.during(change)
        self.wait_up()
        self.try_all("after 200 changes")
        print(f"  200 changes of the wish, {len(self.gateway.events('lane_mode')) - modes} of the mode", flush=True)

    def test_4_forwarding_toggled_and_table_flushed_while_the_daemon_lives(self):
        self.wait_up()

        def toggle():
            for value in "0101":
                for name in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
                    self.lab.sysctl("gw", name, value)
                self.try_all(f"ip_forward {value}", knock=False)
        self.during(toggle)

        def flush():
            for _ in range(3):
                told = len(self.gateway.logged("firewall_changed_elsewhere"))
                self.nft("flush", "ruleset")
                self.probes.send()
                until(lambda: len(self.gateway.logged("firewall_changed_elsewhere")) > told, "the daemon notices", 10)
                until(lambda: self.mode_now() == "tor", "the table is back", 10)
        self.during(flush)
        self.without_table("flushed while the daemon lives")
        self.try_all("after the table was flushed")

    def test_5_daemon_killed_flushed_and_restarted(self):
        self.wait_up()
        self.during(self.gateway.kill)
        self.try_all("daemon killed")
        self.lab.web.seen.clear()
        self.fetched(self.clients[0])
        self.assertLessEqual(set(self.lab.web.seen), set(self.network.exit_addresses))
        self.during(self.gateway.start)
        self.try_all("daemon back")
        for wish, phase in (("tor.down", "maintenance"), ("tor.up", "up")):
            self.gateway.call(wish)
            self.wait_phase(phase)
            self.during(self.gateway.restart)
            self.wait_phase(phase)
            self.try_all(f"restarted while {phase}")
        self.gateway.kill()
        self.nft("flush", "ruleset")
        self.during(lambda: self.try_all("flushed, daemon dead", table=False))
        self.during(self.gateway.start)
        self.wait_up()
        self.without_table("flushed until the daemon was back")
        self.try_all("back after a flush")

    def rename(self, former, name, routes=True):
        """A link goes down for it, and loses its IPv6 address and the routes of the pools."""
        for words in ((former, "down"), (former, "name", name), (name, "up")):
            self.lab.ip("gw", "link", "set", *words)
        for pool in (leaks.TOR4, leaks.TOR6) if routes else ():
            self.lab.ip("gw", "route", "replace", pool, "dev", name)

    def test_6_interface_renamed(self):
        self.wait_up()
        self.gateway.kill()
        self.rename("wg1", "wgx")
        self.try_all("interface renamed")
        self.nft("flush", "ruleset")
        self.during(lambda: self.try_all("renamed and flushed", table=False))
        self.rename("wgx", "wg1")
        self.gateway.start()
        self.wait_up()
        self.without_table("renamed and flushed")
        self.try_all("named as before")

    def test_7_flushed_table_keeps_devices_apart(self):
        self.wait_up()
        self.gateway.kill()
        self.nft("flush", "ruleset")
        self.try_all("flushed", table=False)
        self.assertEqual(self.eyes.beside, set())

    def test_8_renamed_without_the_routes_of_its_pool(self):
        self.wait_up()
        self.gateway.kill()
        self.nft("flush", "ruleset")
        self.rename("wg1", "wgx", routes=False)
        try:
            self.try_all("renamed and flushed", table=False)
        finally:
            self.rename("wgx", "wg1")

    def test_9_link_down_while_a_device_downloads(self):
        self.wait_up()
        self.gateway.kill()
        transfer = Transfer("c0")
        self.addCleanup(transfer.close)
        transfer.goes_on()
        self.lab.ip("gw", "link", "set", "wg1", "down")
        try:
            with self.assertRaises(AssertionError):
                until(lambda: self.eyes.leaks, "tor's answers to the device leave by the uplink", 3)
        finally:
            self.lab.ip("gw", "link", "set", "wg1", "up")
        self.assertEqual(self.eyes.leaks, [])
        self.nft("flush", "ruleset")
        self.lab.ip("gw", "link", "set", "wg1", "down")
        try:
            with self.assertRaises(AssertionError):
                until(lambda: self.eyes.leaks, "the same without a ruleset", 3)
        finally:
            self.lab.ip("gw", "link", "set", "wg1", "up")


    def test_a_configuration_reloaded(self):
        """Each of them replaces the table as a whole."""
        self.wait_up()
        self.addCleanup(self.gateway.write_configuration, {})

        def reload():
            for i in range(20):
                self.gateway.write_configuration({"firewall": {"connections_per_device": 1000 + i}})
                self.assertEqual([change["takes_effect"] for change in self.gateway.call("config.reload")], ["now"])
        self.during(reload)
        self.assertEqual(self.mode_now(), "tor")
        self.assertIn("1019", self.nft("list", "table", "inet", "tornado"))
        self.try_all("after 20 reloads")
        self.assertEqual(self.fetched(self.clients[0]), self.lab.web.PAGE)


class Opened(LeakCase):
    """The other way round: a lane that somebody opened on purpose. Whatever is silent here proves nothing above."""

    def test_every_probe_is_seen(self):
        self.wait_up()
        self.try_all("before")
        self.gateway.kill()
        self.nft("flush", "ruleset")
        for family in ("-4", "-6"):
            rules = run("ip", "-n", "gw", family, "rule", "show").splitlines()
            for line in rules:
                if line.split(":")[0] in ("100", "101", "102"):
                    self.lab.ip("gw", family, "rule", "del", "pref", line.split(":")[0])
        run(*in_namespace("gw", "nft", "-f", "-"), text="""
            table inet opened { chain out { type nat hook postrouting priority 100;
              oifname "eth0" ip saddr 10.9.0.0/24 masquerade
              oifname "eth0" ip6 saddr fd10:9::/64 masquerade
              }
            }""")
        self.lab.ip("net", "route", "add", leaks.TOR4, "via", GATEWAY)
        self.eyes.host()
        turn, sent = self.probes.send(base=50000)
        self.probes.knock()
        by_reach = {}
        for name, reach in sent.items():
            by_reach.setdefault(reach, set()).add(name)
        outside = by_reach["world"] | by_reach["device"]

        def seen():
            return self.eyes.marked.get(turn, set())
        try:
            until(lambda: outside <= seen(), "every probe shows", 5)
        except AssertionError as error:
            raise AssertionError(f"{error}: not seen {sorted(outside - seen())}") from None
        self.assertFalse(seen() & (by_reach["nothing"] | by_reach["host"]), seen())
        reached, callers = set(), set()

        def host():
            names, peers = self.eyes.host()
            reached.update(names)
            callers.update(peers)
            return by_reach["host"] <= reached and callers
        until(host, f"probes of the host show: {by_reach['host']}", 5)
        kinds = {why for why, *_ in self.eyes.leaks}
        self.assertLessEqual({"at the router", "the gateway's own address"}, kinds)
        self.assertEqual(self.eyes.beside, by_reach["device"])
        self.nft("delete", "table", "inet", "opened")
        turn, _ = self.probes.send(base=52000)
        until(lambda: any(why == "a lane address" for why, *_ in self.eyes.leaks), "a lane address on the uplink", 5)
        print(f"  opened lane: {len(outside)} probes seen on the way out, {len(reached)} at the host", flush=True)
        # Closed again by the daemon, they stop.
        self.gateway.start()
        self.wait_up()
        self.forget()
        turn, sent = self.probes.send(base=54000)
        wanted = {name for name in sent if not name.startswith("spoofed-")}
        until(lambda: wanted <= self.eyes.arrived.get(turn, set()), "arrival", 10)
        self.assert_held("closed again")
