"""`tornadoctl lane verify`: a closed lane holds every probe, and each probe fires where the lane was torn open."""

import json
import os
import subprocess

from lab import SLOW, TORNADOCTL, WORK, Lab, in_namespace, run, until
from support import LabCase

OUTWARD = ("icmp_echo", "udp_ntp", "udp_quic", "udp_high", "udp_fragments", "dns_udp", "dns_tcp", "tcp_http", "tcp_https",
           "sctp", "gre", "unknown_protocol")
FORGED = ("spoof_device", "spoof_gateway", "spoof_foreign")
MODE_PORTS = ("tor_control", "tor_trans", "page", "tor_dns", "responder")
V6 = ("2001:db8:ff::1", "2001:db8:ff::2")


def inward(other):
    return "host_tcp", "host_udp", f"lane_{other}_tcp", f"lane_{other}_udp", f"lane_{other}_device", "device"


def both(names):
    return {name + family for name in names for family in ("", "6")}


# Every probe by name: one that goes missing is noticed.
TOR = (both(OUTWARD + FORGED + inward("vpn") + MODE_PORTS)
       | both(["upstream", "uplink_tcp"]) | {"loopback_tcp", "loopback_udp", "link_local6", "link_local_host6", "source_route"})
VPN = both(FORGED + inward("tor")) | {"loopback_tcp", "loopback_udp", "link_local6", "link_local_host6"}


class VerifyCase(LabCase):
    CLIENTS = 1
    SETTINGS = {"lanes.vpn.pool6": "fd00:8::/64", "lanes.tor.pool6": "fd00:9::/64"}
    START = False

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # A way out for IPv6, too, or its probes would be held by nothing at all.
        for name, link, address in (("gw", "eth0", V6[0]), ("net", "togw", V6[1])):
            Lab.ip(name, "-6", "addr", "add", address + "/64", "dev", link, "nodad")
        Lab.ip("gw", "-6", "route", "add", "default", "via", V6[1])
        cls.gateway.start()

    def verify(self, lane, *words, expect=0):
        done = subprocess.run(in_namespace("gw", TORNADOCTL, "--socket", self.gateway.control, "--json", "lane", "verify", lane, *words),
                              capture_output=True, text=True, timeout=40 * SLOW)
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        self.errors = done.stderr
        if not done.stdout:
            return None
        out = json.loads(done.stdout)
        self.assertEqual(len(out["probes"]), len({row["probe"] for row in out["probes"]}))
        return out

    def verdicts(self, out):
        return {row["probe"]: row["verdict"] for row in out["probes"]}

    def assert_held(self, out, names):
        self.assertEqual({name: verdict for name, verdict in self.verdicts(out).items() if verdict != "held"}, {}, out)
        self.assertEqual(set(self.verdicts(out)), names)

    def assert_gone(self):
        """Nothing is left of the throw-away device."""
        for interface in ("wg0", "wg1"):
            self.assertEqual(self.gateway.dump(interface)[1], {})
        self.assertEqual(self.gateway.call("lease.list"), [])
        self.assertEqual((self.gateway.sessions(), self.gateway.history()), ([], []))
        self.assertFalse(os.path.exists(self.gateway.state + "/verification.json"))
        self.assertEqual(self.gateway.events("foreign_peers"), [])
        self.assertNotIn("tv", [line.split(":")[1].strip()[:2] for line in run("ip", "-n", "gw", "-o", "link").splitlines()])

    def wrapper(self, text):
        """A program in the place of wireguard-go: by then the device is admitted, and nothing has been sent yet."""
        path = f"{WORK}/{self.id().split('.')[-1]}.sh"
        with open(path, "w") as file:
            file.write("#!/bin/sh -e\n" + text + '\nexec wireguard-go "$@"\n')
        os.chmod(path, 0o755)
        return path


class Closed(VerifyCase):
    def test_every_probe_is_held_and_the_outcome_is_remembered(self):
        for lane, mode, names in (("tor", "closed", TOR), ("vpn", "open", VPN)):
            out = self.verify(lane)
            self.assert_held(out, names)
            self.assertEqual((out["lane"], out["mode"], out["verdict"]), (lane, mode, "held"))
            self.assert_gone()
            event = self.gateway.events("lane_verified")[-1]["fields"]
            self.assertEqual((event["lane"], event["held"], event["failed"]), (lane, len(names), []))
        last = {row["lane"]: row for row in self.gateway.ctl("lane", "verified")}
        self.assertEqual({lane: row["failed"] for lane, row in last.items()}, {"tor": [], "vpn": []})

    def test_one_at_a_time_and_never_foreign(self):
        key = run("wg", "genkey").strip()
        public = run("wg", "pubkey", text=key).strip()
        ticket = self.gateway.call("lane.verify_begin", lane="tor", public_key=public)
        self.assertEqual(list(self.gateway.dump("wg1")[1]), [public])
        self.assertEqual(self.gateway.dump("wg0")[1], {})
        self.verify("vpn", expect=4)
        self.assertIn("being verified", self.errors)
        self.assertEqual(self.gateway.ctl("gateway", "reconcile")["foreign"], 0)
        self.gateway.call("lane.verify_end", token=ticket["token"], held=0, failed="a leaked,b answered")
        self.assertEqual(self.gateway.call("lane.verified")[0]["failed"], ["a leaked", "b answered"])
        self.assert_gone()

    def test_a_killed_daemon_takes_what_is_left_away(self):
        public = run("wg", "pubkey", text=run("wg", "genkey")).strip()
        self.gateway.call("lane.verify_begin", lane="tor", public_key=public)
        self.gateway.kill()
        self.gateway.start()
        until(lambda: not os.path.exists(self.gateway.state + "/verification.json"), "the record goes", 10)
        self.assert_gone()

    def test_errors_name_cause_and_next_step(self):
        self.verify("tor", "--wireguard-go", "/nonexistent/wireguard-go", expect=3)
        self.assertIn("install it", self.errors)
        self.assert_gone()
        self.verify("moon", expect=2)
        self.verify("tor", "--foreign", "nowhere", expect=2)
        self.assert_gone()
        done = subprocess.run([TORNADOCTL, "--socket", "/nonexistent.sock", "lane", "verify"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 5, done.stderr)
        done = subprocess.run(["setpriv", "--reuid", "65534", "--clear-groups", TORNADOCTL, "lane", "verify"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 6, done.stderr)
        self.assertIn("as root", done.stderr)


class TornOpen(VerifyCase):
    """Without the ruleset, without the barrier, with everything Linux or WireGuard would refuse by itself let through."""

    KNOBS = [f"net.ipv4.conf.{link}.{name}={value}" for link in ("all", "wg0", "wg1")
             for name, value in (("route_localnet", 1), ("accept_local", 1), ("accept_source_route", 1), ("rp_filter", 0))]
    KNOBS += ["net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0"]

    NO_BARRIER = "for family in -4 -6; do for priority in 100 101 102; do ip $family rule del priority $priority; done; done\n"

    def loosen(self, interface):
        return (f"sysctl -qw {' '.join(self.KNOBS)}\n"
                f"wg set {interface} peer $(wg show {interface} peers) allowed-ips 0.0.0.0/0,::/0\n")

    def loosen_undisturbed(self, interface):
        """As long as the device is there the daemon stands still, or it would put its peer right."""
        daemon = self.gateway.process.pid
        return (f"device=$$\n(while kill -0 $device; do sleep 0.01; done; kill -CONT {daemon}) >/dev/null 2>&1 &\n"
                f"kill -STOP {daemon}\n" + self.loosen(interface))

    def torn(self, interface):
        return (f"kill -9 {self.gateway.process.pid}\n" + self.loosen(interface) + """
nft flush ruleset
nft add table inet open
nft add chain inet open post '{ type nat hook postrouting priority 100; }'
nft add rule inet open post oifname eth0 masquerade
""" + self.NO_BARRIER)

    def test_each_probe_fires(self):
        for lane, interface, names in (("tor", "wg1", TOR), ("vpn", "wg0", VPN)):
            out = self.verify(lane, "--wireguard-go", self.wrapper(self.torn(interface)), expect=1)
            self.assertIn("could not be told", self.errors)
            self.gateway.gone()
            fired = {row["probe"] for row in out["probes"] if row["verdict"] in ("leaked", "answered")}
            self.assertEqual(names - fired, set(), [row for row in out["probes"] if row["probe"] not in fired])
            # The daemon puts all of it back, and takes the device of the verification it knows of.
            run(*in_namespace("gw", "nft", "flush", "ruleset"))
            self.gateway.start()
            until(lambda: not os.path.exists(self.gateway.state + "/verification.json"), "the record goes", 10)
            self.assert_gone()

    def test_the_barrier_alone_lets_nothing_out(self):
        """I-20: the ruleset is gone, and nobody is there to put it back."""
        script = f"kill -9 {self.gateway.process.pid}\n" + self.loosen("wg1") + "nft flush ruleset\n"
        out = self.verify("tor", "--wireguard-go", self.wrapper(script), expect=1)
        self.gateway.gone()
        leaked = {row["probe"]: row["observed"] for row in out["probes"] if row["verdict"] == "leaked"}
        # What the host itself answers is the ruleset's to refuse.
        self.assertEqual(leaked, {})
        held = {name for name, verdict in self.verdicts(out).items() if verdict == "held"}
        self.assertEqual((both(OUTWARD + FORGED + ("lane_vpn_device",)) | {"source_route", "upstream", "upstream6"}) - held, set())
        self.gateway.start()
        until(lambda: not os.path.exists(self.gateway.state + "/verification.json"), "the record goes", 10)
        self.assert_gone()

    def test_the_ruleset_alone_holds_every_probe(self):
        script = f"kill -9 {self.gateway.process.pid}\n" + self.loosen("wg1") + self.NO_BARRIER
        out = self.verify("tor", "--wireguard-go", self.wrapper(script))
        self.gateway.gone()
        self.assert_held(out, TOR)
        self.gateway.start()
        until(lambda: not os.path.exists(self.gateway.state + "/verification.json"), "the record goes", 10)
        self.assert_gone()

    def test_the_ruleset_holds_what_wireguard_and_linux_let_through(self):
        out = self.verify("tor", "--wireguard-go", self.wrapper(self.loosen_undisturbed("wg1")))
        self.assert_held(out, TOR)
        self.assertIn("dropped", {row["observed"] for row in out["probes"] if row["probe"].startswith("spoof")})
        # On an open lane only WireGuard knows which device is which; losing that is found out.
        out = self.verify("vpn", "--wireguard-go", self.wrapper(self.loosen_undisturbed("wg0")), expect=1)
        self.assertEqual({name for name, verdict in self.verdicts(out).items() if verdict != "held"}, both(["spoof_device"]))
        self.assertEqual({verdict for verdict in self.verdicts(out).values()}, {"held", "leaked"})
        component = next(part for part in self.gateway.call("gateway.health") if "lane_vpn_verified" in part.values())
        self.assertFalse(component["ready"])
        self.assertIn("spoof_device leaked", component["detail"])
