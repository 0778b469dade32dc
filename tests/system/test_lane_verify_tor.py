"""`tornadoctl lane verify` on a lane that goes through Tor: redirected is held, and what is beside it is held, too."""

import json
import subprocess

from lab import SLOW, TORNADOCTL, in_namespace
from test_tor_lane import TorLaneCase


class ThroughTor(TorLaneCase):
    CLIENTS = 1
    SETTINGS = {"lanes.tor.pool6": "fd00:9::/64", "lanes.vpn.pool6": "fd00:8::/64"}

    def verify(self, mode):
        done = subprocess.run(in_namespace("gw", TORNADOCTL, "--socket", self.gateway.control, "--json", "lane", "verify", "tor"),
                              capture_output=True, text=True, timeout=40 * SLOW)
        self.assertTrue(done.stdout, done.stderr)
        out = json.loads(done.stdout)
        self.assertEqual({row["probe"]: (row["verdict"], row["observed"]) for row in out["probes"] if row["verdict"] != "held"}, {})
        self.assertEqual((done.returncode, out["mode"]), (0, mode))
        return {row["probe"]: row["observed"] for row in out["probes"]}

    def test_every_probe_is_held_in_every_mode(self):
        self.wait_up()
        seen = self.verify("tor")
        self.assertEqual((seen["tcp_https"], seen["dns_tcp"], seen["udp_quic"]), ("redirected", "refused at once", "dropped"))
        self.gateway.call("tor.down")
        self.wait_phase("maintenance")
        self.wait_mode("maintenance")
        seen = self.verify("maintenance")
        self.assertEqual((seen["tcp_http"], seen["tcp_https"], seen["dns_udp"]),
                         ("redirected", "refused at once", "answered by the gateway"))
        self.gateway.call("tor.up")
        self.wait_up()
        self.verify("tor")
