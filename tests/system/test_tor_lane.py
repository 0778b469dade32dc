"""The tor lane on a private Tor network: through it, the page while it is down, and nothing beside it ever."""

import os
import socket
import subprocess
import time

import tor_network
from lab import API_PORT, GATEWAY, SLOW, TORNADOCTL, WEB, Gateway, Lab, connect, fetch, in_namespace, inside, resolve, run, until
from support import LabCase


class Capture:
    """Packets on the uplink that carry a lane address, or that go to the web server from the gateway's own."""

    def __init__(self, pool="10.9.0."):
        self.pool = pool
        with inside("gw"):
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
            self.sock.bind(("eth0", 0))
        self.sock.settimeout(0.05)

    def leaks(self):
        """What has left since the last call."""
        found = []
        while True:
            try:
                frame, place = self.sock.recvfrom(65535)
            except (TimeoutError, socket.timeout):
                return found
            if place[2] != socket.PACKET_OUTGOING or len(frame) < 34 or frame[12:14] != b"\x08\x00":
                continue
            source, to = socket.inet_ntoa(frame[26:30]), socket.inet_ntoa(frame[30:34])
            if source.startswith(self.pool) or to == WEB:
                found.append((source, to, frame[23]))

    def close(self):
        self.sock.close()


class TorLaneCase(LabCase):
    CLIENTS = 2
    SETTINGS = {}

    @classmethod
    def setUpClass(cls):
        cls.lab = Lab(cls.CLIENTS)
        cls.addClassCleanup(cls.lab.close)
        cls.network = tor_network.shared(cls.lab)
        cls.network.wait_usable()
        settings = {"tor.launch": "supervised", "tor.options": cls.network.client_options(),
                    "tor.probe_name": "www.example.org", **cls.SETTINGS, **cls.settings_of_network()}
        cls.gateway = Gateway(cls.__name__, **settings)
        cls.addClassCleanup(cls.finish_gateway)
        cls.addClassCleanup(cls.end_tor)
        cls.gateway.start()

    @classmethod
    def settings_of_network(cls):
        """More of them, which only the network knows."""
        return {}

    @classmethod
    def end_tor(cls):
        if cls.gateway.process:
            cls.gateway.call("tor.stop")
            cls.wait_phase("stopped")

    @classmethod
    def status(cls):
        return cls.gateway.call("tor.status")

    @classmethod
    def wait_phase(cls, phase, seconds=150):
        try:
            return until(lambda: (status := cls.status())["phase"] == phase and status, f"tor is {phase}", seconds, every=0.05)
        except AssertionError as error:
            raise AssertionError(f"{error}: {cls.status()}; log: {cls.gateway.lines[-6:]}") from None

    def wait_mode(self, mode):
        """Of the lane itself, whatever the controller says."""
        port = {"tor": 9040, "maintenance": 9041}[mode]
        try:
            until(lambda: f"dnat ip to 10.9.0.1:{port}" in run(*in_namespace("gw", "nft", "list", "table", "inet", "tornado")),
                  f"the lane is in mode {mode}", 10)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.status()}; log: {self.gateway.lines[-8:]}") from None

    def wait_up(self):
        self.wait_phase("up")
        self.wait_mode("tor")

    def on_tor(self, index=0):
        client = self.client(index)
        return client.connect("tor")

    def fetched(self, client):
        """The page of the server; just after `up` the one of the lane itself may come once more."""
        wanted = self.lab.web.PAGE
        return until(lambda: fetch(client.namespace, timeout=8) == wanted and wanted, f"a page through tor for {client.name}", 20)


class Lane(TorLaneCase):
    def test_a_page_comes_from_an_exit(self):
        self.wait_up()
        client = self.on_tor()
        capture = Capture()
        self.addCleanup(capture.close)
        self.lab.web.seen.clear()
        self.assertEqual(self.fetched(client), self.lab.web.PAGE)
        self.assertTrue(set(self.lab.web.seen) <= set(self.network.exit_addresses), self.lab.web.seen)
        self.assertEqual(capture.leaks(), [])

    def test_names_are_resolved_through_tor_at_any_address(self):
        self.wait_up()
        client = self.on_tor()
        before = len(self.lab.dns.seen)
        self.assertEqual(until(lambda: resolve(client.namespace, "9.9.9.9", "deep.example.org", 8), "an answer", 20), WEB)
        self.assertIsNotNone(resolve(client.namespace, client.dns(), timeout=8))
        seen = set(self.lab.dns.seen[before:])
        self.assertTrue(seen and GATEWAY not in seen, seen)

    def test_udp_icmp_and_tcp_dns_do_not_leave(self):
        self.wait_up()
        client = self.on_tor()
        capture = Capture()
        self.addCleanup(capture.close)
        with inside(client.namespace):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for port in (443, 4433, 123, 9999):
                    sock.sendto(b"x" * 1200, (WEB, port))
        pinged = subprocess.run(in_namespace(client.namespace, "ping", "-c", "2", "-i", "0.2", "-W", "1", WEB), capture_output=True)
        self.assertNotEqual(pinged.returncode, 0)
        with self.assertRaises(ConnectionRefusedError):
            connect(client.namespace, "9.9.9.9", 53, 5)
        self.assertEqual(self.fetched(client), self.lab.web.PAGE)
        self.assertEqual(capture.leaks(), [])

    def test_the_api_is_answered_by_the_gateway_in_every_mode(self):
        self.wait_up()
        client = self.on_tor()
        for wish, phase, mode in (("tor.down", "maintenance", "maintenance"), ("tor.stop", "stopped", "maintenance"),
                                  ("tor.up", "up", "tor")):
            self.gateway.call(wish)
            self.wait_phase(phase)
            self.wait_mode(mode)
            answer = client.heartbeat()
            self.assertEqual((phase, answer.status), (phase, 200))
            self.assertEqual(client.reauth().status, 200)

    def test_maintenance_shows_the_page_and_up_brings_traffic_back(self):
        self.wait_up()
        client = self.on_tor()
        self.fetched(client)
        capture = Capture()
        self.addCleanup(capture.close)
        self.gateway.call("tor.down")
        self.wait_phase("maintenance")
        self.wait_mode("maintenance")
        answer = resolve(client.namespace, "9.9.9.9", "somewhere.example.org")
        self.assertEqual(answer, client.dns())
        page = fetch(client.namespace, answer)
        self.assertIn("switched off", page)
        with self.assertRaises(ConnectionRefusedError):
            connect(client.namespace, WEB, 443, 3)
        self.gateway.call("tor.up")
        began = time.monotonic()
        self.wait_up()
        self.assertEqual(self.fetched(client), self.lab.web.PAGE)
        self.assertLess(time.monotonic() - began, 30 * SLOW)
        self.assertEqual(capture.leaks(), [])

    def test_the_clients_switch_moves_traffic_both_ways(self):
        self.wait_up()
        client = self.client()
        client.connect("vpn")
        self.lab.web.seen.clear()
        self.assertEqual(self.fetched(client), self.lab.web.PAGE)
        self.assertEqual(set(self.lab.web.seen), {GATEWAY})
        client.toggle("tor")
        self.lab.web.seen.clear()
        self.fetched(client)
        self.assertTrue(set(self.lab.web.seen) <= set(self.network.exit_addresses), self.lab.web.seen)
        client.toggle("vpn")
        self.lab.web.seen.clear()
        self.fetched(client)
        self.assertEqual(set(self.lab.web.seen), {GATEWAY})

    def test_two_devices_never_share_a_circuit_and_one_is_renewed_alone(self):
        self.wait_up()
        one, two = self.on_tor(0), self.on_tor(1)
        for client in (one, two):
            self.fetched(client)

        def circuits(client):
            return {entry["id"] for entry in self.gateway.call("tor.circuits", device=client.device)}
        until(lambda: circuits(one) and circuits(two), "both have circuits", 10)
        self.assertFalse(circuits(one) & circuits(two))
        for entry in self.gateway.call("tor.circuits"):
            self.assertLessEqual(len(entry["sources"]), 1, entry)
        before, kept = circuits(one), circuits(two)
        closed = self.gateway.ctl("tor", "new-identity", "--device", one.device)
        self.assertGreaterEqual(closed["circuits_closed"], 1)
        until(lambda: not circuits(one) & before, "the old circuits go", 10)
        self.assertTrue(kept <= circuits(two))
        self.fetched(one)
        until(lambda: circuits(one), "new circuits", 10)
        self.assertFalse(circuits(one) & before)

    def test_an_ended_session_takes_its_circuits_along(self):
        self.wait_up()
        client = self.on_tor()
        self.fetched(client)
        address = client.tunnel["tor"]["ip"]

        def of_address():
            return [entry["id"] for entry in self.gateway.call("tor.circuits") if address in entry["sources"]]
        until(of_address, "circuits of the device", 10)
        client.down()
        client.logout()
        try:
            until(lambda: not of_address(), "its circuits are closed", 10)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.gateway.call('tor.circuits')}; {self.session_of(client)}; "
                                 f"{self.history_of(client)}; {self.status()}") from None

    def test_a_killed_tor_is_noticed_and_comes_back(self):
        self.wait_up()
        client = self.on_tor()
        self.fetched(client)
        capture = Capture()
        self.addCleanup(capture.close)
        before = self.status()["pid"]
        seen = self.gateway.call("gateway.status")["last_event"]
        os.kill(before, 9)
        until(lambda: any(event["fields"]["mode"] == "maintenance" for event in self.gateway.events("lane_mode", seen)),
              "the lane goes into maintenance", 5)
        self.wait_up()
        self.assertNotEqual(self.status()["pid"], before)
        self.fetched(client)
        self.assertEqual(capture.leaks(), [])

    def test_a_killed_daemon_leaves_tor_and_its_connections(self):
        self.wait_up()
        client = self.on_tor()
        self.fetched(client)
        pid = self.status()["pid"]
        with connect(client.namespace, WEB, self.lab.echo.PORT, 10) as sock:
            sock.settimeout(10 * SLOW)
            sock.sendall(b"before")
            self.assertEqual(sock.recv(100), b"before")
            self.gateway.kill()
            sock.sendall(b"without")
            self.assertEqual(sock.recv(100), b"without")
            self.gateway.start()
            status = until(lambda: (now := self.status())["adopted"] and now, "tor is adopted", 10)
            self.assertEqual((status["pid"], status["phase"]), (pid, "up"))
            sock.sendall(b"after")
            self.assertEqual(sock.recv(100), b"after")

    def test_the_command_line(self):
        self.wait_up()
        client = self.on_tor()
        self.fetched(client)
        status = self.gateway.ctl("tor", "status")
        self.assertEqual((status["wish"], status["phase"], status["bootstrap_pct"], status["error"]), ("up", "up", 100, None))
        self.assertTrue(status["guards"])
        circuits = self.gateway.ctl("tor", "circuits", "--device", client.device)
        self.assertTrue(circuits and all(entry["path"] and entry["purpose"] for entry in circuits), circuits)
        self.assertNotIn(WEB, str(self.gateway.ctl("tor", "circuits")), "load, never destinations")
        done = self.gateway.ctl("tor", "circuits", "--device", "nobody", expect=3)
        self.assertIn("no session", done.stderr)
        self.assertEqual(self.gateway.ctl("tor", "down")["wish"], "maintenance")
        self.wait_phase("maintenance")
        watch = subprocess.Popen([TORNADOCTL, "--socket", self.gateway.control, "tor", "watch", "--until-up"],
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(watch.kill)
        self.assertIn("maintenance", watch.stdout.readline())
        self.gateway.ctl("tor", "up")
        said = watch.communicate(timeout=60 * SLOW)[0]
        self.assertEqual(watch.returncode, 0)
        self.assertIn("100 %  up", said.splitlines()[-1])
        self.wait_mode("tor")


class Named(TorLaneCase):
    """A gateway that clients know by name."""
    NAME = "vpn.lab.test"
    SETTINGS = {"endpoint.host": NAME}

    def test_the_name_of_the_api_resolves_in_every_state(self):
        self.wait_up()
        client = self.on_tor()
        inside_address = client.dns()
        self.assertEqual(until(lambda: resolve(client.namespace, "9.9.9.9", self.NAME, 5), "an answer", 20), inside_address)
        self.assertNotIn(self.NAME, str(self.lab.dns.seen))
        self.gateway.call("tor.stop")
        self.wait_phase("stopped")
        self.wait_mode("maintenance")
        self.assertEqual(resolve(client.namespace, "9.9.9.9", self.NAME), inside_address)
        with connect(client.namespace, inside_address, API_PORT) as sock:
            sock.sendall(b"GET /auth/pubkey HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            self.assertIn(b"200 OK", sock.recv(4096))


class WithoutTor(LabCase):
    """No program, a program that is none: a closed lane, a reason, and everything else works."""
    SETTINGS = {"tor.launch": "supervised", "tor.program": "/nonexistent/tor"}

    def test_the_reason_is_told_and_nothing_else_suffers(self):
        status = until(lambda: (now := self.gateway.ctl("tor", "status"))["error"] and now, "a reason", 10)
        self.assertEqual((status["phase"], status["error"]), ("failed", "tor_missing"))
        self.assertIn("apt install tor", status["remedy"])
        tor = next(entry for entry in self.gateway.ctl("gateway", "health") if entry["component"] == "tor")
        self.assertFalse(tor["ready"])
        self.assertIn("/nonexistent/tor", tor["detail"])
        self.assertEqual(self.gateway.get("/health")[0], 200)
        client = self.client().connect("vpn")
        self.assertEqual(until(lambda: fetch(client.namespace), "a page on the vpn lane"), self.lab.web.PAGE)
        client.toggle("tor")
        self.assertEqual(client.heartbeat().status, 200)
        page = until(lambda: fetch(client.namespace), "the page")
        self.assertIn("Tor is not working", page)
        self.assertEqual(self.lab.web.seen[-1:], [GATEWAY])
