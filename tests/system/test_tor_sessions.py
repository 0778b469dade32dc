"""Sessions on the tor lane: through a long maintenance, and an address that changes hands."""

import json
import socket
import threading
import time

from stem.control import Controller, EventType

from lab import SLOW, WEB, connect, fetch, inside, resolve, until
from test_tor_lane import Capture, TorLaneCase

HEARTBEAT_TTL = 10  # the least that is allowed; with the default of 90 s an hour is 40 of them
PERIODS = 4
STOPS, LONGEST_CHANGE = 12, 0.06  # seconds


class Maintenance(TorLaneCase):
    SETTINGS = {"session.heartbeat_ttl": HEARTBEAT_TTL, "session.sample_interval": 1, "session.reconcile_interval": 2}

    def back_after_up(self, client):
        """Seconds. As a browser does it: again and again with little patience, as the first tries still find the page."""
        began = time.monotonic()
        self.gateway.call("tor.up")
        until(lambda: fetch(client.namespace, timeout=2) == self.lab.web.PAGE, "traffic is back", 20)
        return time.monotonic() - began

    def test_stopped_at_any_moment_of_a_change(self):
        """The wish changes the lane's mode and flushes its flows meanwhile; a daemon that is told to end then, ends. Which
        moment it is, is what varies."""
        self.wait_up()
        for moment in range(STOPS):
            self.gateway.call(("tor.down", "tor.up")[moment % 2])
            time.sleep(moment * LONGEST_CHANGE / STOPS)
            self.gateway.restart()
        self.gateway.call("tor.up")
        self.wait_up()
        self.fetched(self.on_tor())

    def test_who_waits_for_news_does_not_hold_a_stop(self):
        """On the socket that everybody may open, and whoever it is does not go when told that there is none."""
        self.wait_up()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30 * SLOW)
            sock.connect(self.gateway.control.replace("control.sock", "status.sock"))
            params = {"since": self.status()["revision"] + 1000}
            sock.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tor.status", "params": params}).encode() + b"\n")
            self.gateway.call("tor.status")
            self.gateway.restart()
            self.assertIn("error", json.loads(sock.makefile("rb").readline()))

    def test_flows_of_the_mode_before_a_restart_follow_the_one_after_it(self):
        """One flow of names, from one port, whose first question went to tor."""
        self.wait_up()
        client = self.on_tor()
        with inside(client.namespace):
            flow = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(flow.close)
        flow.settimeout(2 * SLOW)
        flow.connect(("9.9.9.9", 53))

        def asked():
            flow.send(b"\1\2\1\0\0\1\0\0\0\0\0\0\3www\7example\3org\0\0\1\0\1")
            try:
                return socket.inet_ntoa(flow.recv(2048)[-4:])
            except OSError:
                return None
        self.assertNotIn(until(asked, "an answer from tor", 20), (None, "10.9.0.1"))
        self.gateway.kill()
        with open(self.gateway.state + "/tor/wish", "w") as file:
            file.write("maintenance")
        self.gateway.start()
        try:
            until(lambda: asked() == "10.9.0.1", "an answer from the gateway itself", 12)
        finally:
            self.gateway.call("tor.up")

    def test_a_session_lives_through_a_long_maintenance(self):
        self.wait_up()
        client = self.on_tor()
        self.fetched(client)
        before = self.session_of(client)
        capture = Capture()
        self.addCleanup(capture.close)
        self.gateway.call("tor.down")
        self.wait_mode("maintenance")
        beats, late, pages = [], [], []
        end = time.monotonic() + PERIODS * HEARTBEAT_TTL
        pause = threading.Event()
        while time.monotonic() < end:
            began = time.monotonic()
            beats.append(client.heartbeat().status)
            late.append(time.monotonic() - began)
            pages.append("switched off" in (fetch(client.namespace, resolve(client.namespace, "9.9.9.9", timeout=2) or "10.9.0.1") or ""))
            row = self.session_of(client)
            self.assertEqual((row["instance"], row["state"]), (before["instance"], "online"))
            pause.wait(max(0, HEARTBEAT_TTL / 3 - (time.monotonic() - began)))
        self.assertEqual(set(beats), {200})
        self.assertTrue(all(pages))
        self.assertEqual(self.history_of(client), [])
        self.assertEqual([event for event in self.gateway.events("session_offline") if event["fields"]["device_id"] == client.device], [])
        self.assertEqual(client.reauth().status, 200)
        self.assertEqual(capture.leaks(), [])

        self.lab.web.seen.clear()
        back = [self.back_after_up(client)]
        # The machine may have been with others in just these seconds.
        while min(back) >= 3 * SLOW and len(back) < 3:
            self.gateway.call("tor.down")
            self.wait_mode("maintenance")
            back.append(self.back_after_up(client))
        print(f"  {len(beats)} heartbeats in {PERIODS} periods of {HEARTBEAT_TTL} s, slowest {max(late) * 1000:.0f} ms; "
              f"traffic back {', '.join(f'{seconds:.2f}' for seconds in back)} s after up", flush=True)
        self.assertLess(min(back), 3 * SLOW)
        self.assertEqual(self.session_of(client)["instance"], before["instance"])
        self.assertLessEqual(set(self.lab.web.seen), set(self.network.exit_addresses))


class Reuse(TorLaneCase):
    """The same address again, for another session: only one user can have it so soon (I-08), which is the same to tor."""

    @staticmethod
    def usable(controller):
        """Circuits that tor may put a stream on. One that it has been told to close may stay for a last test of its
        relays, under a purpose that no stream has."""
        return {circuit.id for circuit in controller.get_circuits() if circuit.purpose != "PATH_BIAS_TESTING"}

    def watch_streams(self):
        """A controller of our own, and the circuits that streams of each address come on from now on."""
        controller = Controller.from_socket_file(self.gateway.state + "/tor/data/control")
        self.addCleanup(controller.close)
        controller.authenticate()
        sources, used = {}, {}

        def remember(event):
            if event.source_address:
                sources[event.id] = event.source_address
            if event.circ_id and event.id in sources:
                used.setdefault(sources[event.id], []).append(event.circ_id)
        controller.add_event_listener(remember, EventType.STREAM)
        return controller, used

    def test_the_next_tenant_of_an_address_has_none_of_its_circuits(self):
        self.wait_up()
        controller, used = self.watch_streams()
        client = self.on_tor()
        address = client.tunnel["tor"]["ip"]
        gone = set()
        for tenant in range(3):
            self.assertEqual(client.tunnel["tor"]["ip"], address)
            self.fetched(client)
            until(lambda: used.get(address), "a stream of the device on a circuit", 10)
            mine = set(used[address])
            self.assertFalse(mine & gone, f"tenant {tenant} came on circuits of before")
            # Everything that existed while this tenant was there, its own or not.
            existing = {circuit.id for circuit in controller.get_circuits()}
            alive = mine & existing
            self.assertTrue(alive)
            # From outside: an end that is asked for through the tunnel waits until the answer has gone through it.
            client.down()
            began = time.monotonic()
            self.assertEqual(client.disconnect().status, 200)
            until(lambda: not alive & self.usable(controller), "its circuits are closed", 5)
            print(f"  tenant {tenant} of {address}: circuits {sorted(mine)}, closed {(time.monotonic() - began) * 1000:.0f} ms after "
                  f"it asked for its end", flush=True)
            self.assertFalse([entry for entry in self.gateway.call("tor.circuits")
                              if address in entry["sources"] and entry["purpose"] != "PATH_BIAS_TESTING"])
            gone |= mine
            used.clear()
            client.connect("tor")

    def test_a_session_that_is_replaced_starts_afresh_for_another_device_of_the_user(self):
        self.wait_up()
        client = self.on_tor()
        self.fetched(client)
        address = client.tunnel["tor"]["ip"]

        def of_address():
            return {entry["id"] for entry in self.gateway.call("tor.circuits")
                    if address in entry["sources"] and entry["purpose"] != "PATH_BIAS_TESTING"}
        before = until(of_address, "circuits of the first device", 10)
        client.down()
        client.logout()
        until(lambda: not of_address(), "they are closed", 5)
        # A new sign-in is a new device; it may have the same address, as it is the same user's.
        client.login()
        client.connect("tor")
        self.fetched(client)
        again = until(lambda: {entry["id"] for entry in self.gateway.call("tor.circuits", device=client.device)}, "circuits of the second", 10)
        self.assertFalse(before & again)
        print(f"  first device {address}, second {client.tunnel['tor']['ip']}: circuits {sorted(before)}, then {sorted(again)}", flush=True)

    def test_a_daemon_that_begins_anew_lets_nobody_onto_the_circuits_it_finds(self):
        """Of which tor cannot tell it whose streams they carry."""
        self.wait_up()
        _, used = self.watch_streams()
        client = self.on_tor()
        for held in (False, True):
            self.fetched(client)
            address = client.tunnel["tor"]["ip"]
            if held:
                sock = connect(client.namespace, WEB, 80)
                self.addCleanup(sock.close)
            before = set(until(lambda: used.get(address), "a stream of the device on a circuit", 10))
            self.gateway.restart()
            self.wait_up()
            client.down()
            client.logout()
            until(lambda: not self.gateway.sessions(), "the session has ended", 10)
            used.clear()
            client.login()
            client.connect("tor")
            after = client.tunnel["tor"]["ip"]
            if held:
                self.assertNotEqual(after, address, "a stream of the former device may still be open")
            self.fetched(client)
            circuits = set(until(lambda: used.get(after), "a stream of the next device on a circuit", 10))
            print(f"  stream open: {held}; former device {address} {sorted(before)}, next {after} {sorted(circuits)}", flush=True)
            self.assertFalse(before & circuits)

    def test_a_new_identity_after_a_restart_of_the_daemon_is_one(self):
        self.wait_up()
        _, used = self.watch_streams()
        client = self.on_tor()
        self.fetched(client)
        address = client.tunnel["tor"]["ip"]
        before = set(until(lambda: used.get(address), "a stream of the device on a circuit", 10))
        self.gateway.restart()
        self.wait_up()
        self.gateway.call("tor.new_identity", device=client.device)
        used.clear()
        self.fetched(client)
        self.assertFalse(before & set(until(lambda: used.get(address), "a stream of the device on a circuit", 10)))
