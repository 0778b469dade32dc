"""Bridges: tor gets into its network through them, and by no other way."""

import socket

import tor_network
from lab import inside
from test_tor_lane import TorLaneCase


class Entries:
    """The relays' ports that the gateway has opened a connection to, or tried to."""

    def __init__(self):
        with inside("gw"):
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
            self.sock.bind(("eth0", 0))
        self.sock.settimeout(0.05)
        self.found = set()

    def seen(self):
        while True:
            try:
                frame, place = self.sock.recvfrom(65535)
            except (TimeoutError, socket.timeout):
                return self.found
            packet = frame[14:]
            if place[2] != socket.PACKET_OUTGOING or frame[12:14] != b"\x08\x00" or len(packet) < 40 or packet[9] != socket.IPPROTO_TCP:
                continue
            segment = packet[(packet[0] & 15) * 4:]
            first = segment[13] & 0x12 == 0x02
            to = socket.inet_ntoa(packet[16:20])
            if first and to.startswith("10.99.0."):
                self.found.add((to, int.from_bytes(segment[2:4], "big")))

    def close(self):
        self.sock.close()


class BridgeCase(TorLaneCase):
    CLIENTS = 1
    KIND = None

    @classmethod
    def settings_of_network(cls):
        line = cls.network.bridge()[cls.KIND]
        # From before tor is started.
        cls.entries = Entries()
        cls.addClassCleanup(cls.entries.close)
        return {"tor.bridges": [line]}

    def assert_a_page_comes_through(self, port):
        self.wait_up()
        client = self.on_tor()
        self.lab.web.seen.clear()
        self.assertEqual(self.fetched(client), self.lab.web.PAGE)
        self.assertTrue(set(self.lab.web.seen) <= set(self.network.exit_addresses), self.lab.web.seen)
        self.assertEqual(self.entries.seen(), {(tor_network.BRIDGE, port)})
        # Every circuit begins at the bridge.
        fingerprint = self.network.bridge()["plain"].split()[1]
        first = {circuit["path"][0] for circuit in self.gateway.call("tor.circuits") if circuit["path"]}
        self.assertTrue(first and first <= {"bridge", "$" + fingerprint}, first)


class Plain(BridgeCase):
    KIND = "plain"

    def test_a_page_comes_through_it(self):
        self.assert_a_page_comes_through(9001)


class Obfs4(BridgeCase):
    KIND = "obfs4"

    def test_a_page_comes_through_it(self):
        self.assert_a_page_comes_through(tor_network.BRIDGE_OBFS4_PORT)

    def test_a_report_does_not_name_it(self):
        self.wait_up()
        self.assertNotIn(tor_network.BRIDGE, str(self.gateway.ctl("report")))
