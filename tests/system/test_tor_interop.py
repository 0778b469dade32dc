"""Other programs at the managed tor's control socket: what they say of it is what tornadoctl says."""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios

import stem
import stem.connection
from stem.control import Controller, EventType

from lab import ROOT, WEB, WORK, until
from test_tor_lane import TorLaneCase

FAKE_TOR = ROOT + "/tests/support/fake_tor"


def hops(path):
    return [nickname or "$" + fingerprint for fingerprint, nickname in path]


def same_path(theirs, ours):
    """tor tells a circuit's hops with nicknames once it has their descriptors; what we were told before has none."""
    return len(theirs) == len(ours) and all(name in (nickname, "$" + fingerprint) for (fingerprint, nickname), name in zip(theirs, ours))


class Screen:
    """A program in a terminal of its own; what it has drawn, without the control sequences."""

    def __init__(self, words, **environment):
        self.pid, self.file = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm", COLUMNS="120", LINES="50", **environment)
            os.execvp(words[0], words)
        fcntl.ioctl(self.file, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
        self.text = ""

    def read(self):
        while select.select([self.file], [], [], 0)[0]:
            try:
                self.text += os.read(self.file, 65536).decode(errors="replace")
            except OSError:
                break
        return re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>])", "", self.text)

    def type(self, keys):
        os.write(self.file, keys)

    def ended(self):
        return os.waitpid(self.pid, os.WNOHANG)[0] != 0

    def close(self):
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(self.file)


class Managed(TorLaneCase):
    """At the tor that the gateway runs."""

    def attach(self):
        controller = Controller.from_socket_file(self.gateway.state + "/tor/data/control")
        self.addCleanup(controller.close)
        controller.authenticate()
        controller.set_caching(False)
        return controller

    def test_stem_and_tornadoctl_agree_on_circuits(self):
        self.wait_up()
        clients = [self.client(i).connect("tor") for i in (0, 1)]
        for client in clients:
            self.fetched(client)
        controller = self.attach()
        self.assertTrue(controller.is_authenticated())
        self.assertEqual(str(controller.get_version()).split(" ")[0], self.status()["version"])

        def differences():
            theirs = {circuit.id: circuit for circuit in controller.get_circuits()}
            ours = {entry["id"]: entry for entry in self.gateway.ctl("tor", "circuits")}
            out = [f"circuit {number} is known to one" for number in theirs.keys() ^ ours.keys()]
            for number in theirs.keys() & ours.keys():
                one, other = theirs[number], ours[number]
                if (one.status, one.purpose) != (other["state"], other["purpose"]) or not same_path(one.path, other["path"]):
                    out.append(f"{one} and {other}")
            self.circuits = theirs
            return out
        try:
            until(lambda: not differences(), "both say the same", 10)
        except AssertionError as error:
            raise AssertionError(f"{error}: {differences()}") from None
        circuits = {circuit.id: (circuit.status, circuit.purpose, hops(circuit.path)) for circuit in self.circuits.values()}
        self.assertTrue(any(len(path) == 3 for _, _, path in circuits.values()), circuits)
        self.assertGreater(len({purpose for _, purpose, _ in circuits.values()}), 1, circuits)
        print(f"  {len(circuits)} circuits, purposes {sorted({purpose for _, purpose, _ in circuits.values()})}", flush=True)

    def test_stem_sees_a_device_on_the_circuits_we_name(self):
        self.wait_up()
        client = self.client().connect("tor")
        controller = self.attach()
        sources, seen = {}, {}

        def remember(event):
            # Only the first event of a stream says where it comes from.
            if event.source_address:
                sources[event.id] = event.source_address
            if event.circ_id:
                seen.setdefault(sources.get(event.id), set()).add(event.circ_id)
        controller.add_event_listener(remember, EventType.STREAM)
        self.fetched(client)
        address = client.tunnel["tor"]["ip"]
        until(lambda: seen.get(address), f"stem sees a stream of {address}: {seen}", 10)

        def ours():
            return {entry["id"] for entry in self.gateway.call("tor.circuits", device=client.device)}
        alive = {circuit.id for circuit in controller.get_circuits()}
        until(lambda: (seen[address] & alive) <= ours() and ours(), "we name them, too", 10)

    def test_stem_follows_a_change_of_the_wish(self):
        self.wait_up()
        controller = self.attach()
        self.assertEqual(controller.get_conf("DisableNetwork"), "0")
        self.addCleanup(self.gateway.call, "tor.up")
        self.gateway.call("tor.down")
        self.wait_phase("maintenance")
        self.assertEqual(controller.get_conf("DisableNetwork", default=None), "1")
        until(lambda: not controller.get_circuits(), "no circuits", 10)
        self.gateway.call("tor.up")
        self.wait_up()
        self.assertIn("PROGRESS=100", controller.get_info("status/bootstrap-phase"))
        # Nothing that a stranger could connect to, beside the ports of the lane.
        self.assertEqual(controller.get_ports("control"), [])
        self.assertEqual(controller.get_info("net/listeners/socks"), "")

    def test_nyx_attaches(self):
        self.wait_up()
        self.fetched(self.client().connect("tor"))
        home = WORK + "/nyx"
        os.makedirs(home, exist_ok=True)
        with open(home + "/nyxrc", "w") as file:
            file.write("startup.data_directory none\nshow_bits false\nquery.connections none\n")
        screen = Screen(["nyx", "--socket", self.gateway.state + "/tor/data/control", "--config", home + "/nyxrc"], HOME=home)
        self.addCleanup(screen.close)
        version = self.status()["version"]
        try:
            until(lambda: f"Tor {version}" in screen.read(), "nyx shows the version of our tor", 20)
        except AssertionError as error:
            raise AssertionError(f"{error}; it drew {screen.read()[-1500:]!r}") from None
        until(lambda: "Bandwidth" in screen.read(), "nyx draws its graph", 10)
        screen.type(b"q")

        def left():
            screen.type(b"q")
            screen.read()
            return screen.ended()
        until(left, "nyx ends", 10, every=0.2)
        self.assertEqual(self.status()["phase"], "up")


class Fake(TorLaneCase):
    """At the program that stands in for tor in other tests: a parser that is not ours must take it for one."""

    @classmethod
    def setUpClass(cls):
        pass  # neither a lab nor a network

    def setUp(self):
        self.directory = WORK + "/fake"
        shutil.rmtree(self.directory, ignore_errors=True)
        os.makedirs(self.directory)
        shutil.copy(FAKE_TOR, self.directory + "/tor")
        with open(self.directory + "/torrc", "w") as file:
            file.write(f'ControlSocket "{self.directory}/control"\nCookieAuthFile "{self.directory}/cookie"\n')
        self.behave(circuits=["5 BUILT $" + "A" * 40 + "~one,$" + "B" * 40 + "~two BUILD_FLAGS=NEED_CAPACITY PURPOSE=GENERAL TIME_CREATED=2026-01-01T00:00:00.000000"],
                    events=["CIRC 6 LAUNCHED PURPOSE=GENERAL", 'STREAM 1 NEW 0 192.0.2.80:80 SOURCE_ADDR=10.9.0.2:4000 PURPOSE=USER',
                            'STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=40 TAG=conn SUMMARY="Connecting"'])

    def behave(self, **behaviour):
        with open(self.directory + "/behaviour.json", "w") as file:
            json.dump(behaviour, file)

    def start(self):
        process = subprocess.Popen(["/usr/bin/python3", self.directory + "/tor", "-f", self.directory + "/torrc"])
        self.addCleanup(lambda: (process.kill(), process.wait(10)))

        def opened():
            try:
                return Controller.from_socket_file(self.directory + "/control")
            except stem.SocketError:
                return None
        controller = until(opened, "the control socket", 10)
        self.addCleanup(controller.close)
        return controller

    def test_protocolinfo_authentication_and_questions(self):
        controller = self.start()
        told = controller.get_protocolinfo()
        self.assertEqual((told.protocol_version, str(told.tor_version), told.cookie_path), (1, "0.4.9.11", self.directory + "/cookie"))
        controller.authenticate()
        self.assertEqual(controller.get_info("traffic/read"), "1000")
        self.assertEqual(controller.get_info(["traffic/read", "network-liveness"]), {"traffic/read": "1000", "network-liveness": "up"})
        self.assertIn("PROGRESS=100", controller.get_info("status/bootstrap-phase"))
        circuit, = controller.get_circuits()
        self.assertEqual((circuit.id, circuit.status, circuit.purpose, hops(circuit.path)), ("5", "BUILT", "GENERAL", ["one", "two"]))
        self.assertEqual(str(controller.msg("GETCONF DisableNetwork")), "DisableNetwork=0")
        controller.set_conf("DisableNetwork", "1")
        self.assertEqual(controller.get_info("network-liveness"), "down")
        with self.assertRaises(stem.ControllerError):
            controller.get_info("no/such/key")
        controller.close_circuit("5")

    def test_events(self):
        controller = self.start()
        controller.authenticate()
        seen = []
        controller.add_event_listener(seen.append, EventType.CIRC, EventType.STREAM, EventType.STATUS_CLIENT)
        kinds = until(lambda: len(seen) >= 3 and {event.type: event for event in seen}, "the events", 10)
        self.assertEqual((kinds["CIRC"].id, kinds["CIRC"].status), ("6", "LAUNCHED"))
        self.assertEqual((kinds["STREAM"].target, kinds["STREAM"].source_addr), (WEB + ":80", "10.9.0.2:4000"))
        self.assertEqual((kinds["STATUS_CLIENT"].action, kinds["STATUS_CLIENT"].arguments["PROGRESS"]), ("BOOTSTRAP", "40"))

    def test_a_cookie_of_somebody_else_is_refused(self):
        self.behave(wrong_cookie=True)
        controller = self.start()
        with self.assertRaises(stem.connection.AuthenticationFailure):
            controller.authenticate()
