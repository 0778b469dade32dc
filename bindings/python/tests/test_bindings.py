"""Tests of the binding, not of the library: conversions, lifetimes, threads, errors."""
import base64
import gc
import inspect
import os
import pprint
import socket
import subprocess
import sys
import threading
import time
import unittest
from datetime import datetime, timedelta, timezone
from typing import Callable

import tornadovpn
from tornadovpn import _tornado

PASSWORD = "correct horse battery"


def new_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def run(script: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("the condition did not come true")
        time.sleep(0.01)


class WithGateway(unittest.TestCase):
    def setUp(self) -> None:
        self.gateway = tornadovpn.Gateway()
        self.gateway.open()
        self.addCleanup(self.gateway.close)
        self.client = self.gateway.control_client()
        self.device = tornadovpn.DeviceClient(self.gateway.url)


class Control(WithGateway):
    def test_has_a_method_for_every_operation(self) -> None:
        for operation in _tornado.operations():
            method = getattr(tornadovpn.ControlClient, operation["name"].replace(".", "_"))
            self.assertTrue(method.__doc__.startswith(operation["summary"]))
            wanted = {parameter["name"].replace("-", "_") for parameter in operation["parameters"]}
            self.assertEqual(set(inspect.signature(method).parameters) - {"self"}, wanted)

    def test_calls_with_and_without_parameters(self) -> None:
        made = self.client.user_add(name="alice", email="alice@example.org", password=PASSWORD, max_devices=3)
        self.assertEqual((made["username"], made["max_devices"]), ("alice", 3))
        self.assertEqual([user["id"] for user in self.client.user_list()], [made["id"]])
        self.assertEqual(self.client.call("user.show", name="alice")["id"], made["id"])
        self.assertEqual(self.client.call("user.list", search="nobody"), [])

    def test_raises_the_class_of_the_error(self) -> None:
        with self.assertRaises(tornadovpn.NotFound) as caught:
            self.client.user_show(name="nobody")
        self.assertEqual(caught.exception.code, "not_found")
        self.assertIsNone(caught.exception.status)
        self.assertIsInstance(caught.exception, tornadovpn.Error)
        with self.assertRaises(tornadovpn.InvalidArgument):
            self.client.call("user.list", no_such_parameter="x")
        with self.assertRaises(tornadovpn.Error):
            self.client.call("no.operation")
        with self.assertRaises(tornadovpn.Unavailable):
            tornadovpn.ControlClient("/nowhere/control.sock").gateway_status()
        with self.assertRaises(ValueError):
            tornadovpn.ControlClient("/nowhere/control.sock", timeout=0)

    def test_does_not_show_a_password(self) -> None:
        calls = (
            lambda: self.client.user_add(nme="alice", email="a@example.org", password=PASSWORD),
            lambda: self.client.user_add(name="al", email="a@example.org", password=PASSWORD),
            lambda: self.gateway.add_user("alice", password=PASSWORD),
            lambda: self.gateway.add_user(7, "a@example.org", PASSWORD),
            lambda: self.device.login("alice", PASSWORD),
            lambda: self.device.login("alice", PASSWORD, "more"),
            lambda: self.device.login(PASSWORD.encode(), PASSWORD),
        )
        for call in calls:
            with self.assertRaises((TypeError, tornadovpn.Error)) as caught:
                call()
            self.assertNotIn(PASSWORD, str(caught.exception) + repr(caught.exception))

    def test_takes_calls_from_several_threads(self) -> None:
        answers = []

        def ask() -> None:
            for _ in range(20):
                answers.append(self.client.gateway_status()["ready"])

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(answers, [True] * 80)


class Events(WithGateway):
    def test_streams_from_a_sequence_number_on(self) -> None:
        stream = self.client.events(after=0)
        first = next(stream)
        self.assertEqual((first.sequence, first.name, first.fields), (1, "start_step", {"step": "config"}))
        self.assertLess(abs(datetime.now(timezone.utc) - first.time), timedelta(seconds=60))
        self.assertEqual(next(stream).sequence, 2)
        stream.close()
        with self.assertRaises(tornadovpn.FailedPrecondition):
            next(stream)

    def test_streams_from_now_on_while_other_threads_run(self) -> None:
        self.gateway.add_user("alice", "alice@example.org", PASSWORD)
        stream = self.client.events()
        self.assertIsNone(stream.wait(1))
        seen = []
        reader = threading.Thread(target=lambda: seen.append(next(stream)))
        reader.start()
        self.device.login("alice", PASSWORD)
        self.device.initiate(new_key())
        reader.join(10)
        self.assertEqual(seen[0].name, "session_created")
        self.assertEqual(seen[0].fields["vpn_ip"], "10.8.0.2")

    def test_ends_with_an_error_when_the_gateway_does(self) -> None:
        stream = self.client.events()
        self.gateway.close()
        with self.assertRaises(tornadovpn.Unavailable):
            next(stream)


class DeviceSide(WithGateway):
    def setUp(self) -> None:
        super().setUp()
        self.user = self.gateway.add_user("alice", "alice@example.org", PASSWORD)

    def test_walks_the_straight_line(self) -> None:
        self.device.health()
        self.assertEqual(len(base64.b64decode(self.device.pubkey())), 32)
        login = self.device.login("alice", PASSWORD)
        self.assertEqual((login.user_id, login.username), (self.user.id, "alice"))
        self.assertNotIn(login.access_token, repr(login))
        key = new_key()
        tunnel = self.device.initiate(key)
        self.assertEqual(set(tunnel.lanes), {"vpn", "tor"})
        self.assertEqual(tunnel.lanes["vpn"].address, "10.8.0.2")
        self.assertEqual(tunnel.lanes["tor"].endpoint.rpartition(":")[2], "51821")
        self.assertEqual((tunnel.heartbeat_ttl, tunnel.hard_ttl), (90, 1296000))
        self.assertIs(self.device.heartbeat(), False)
        self.assertEqual(self.device.verify(), self.user.id)
        (session,) = self.gateway.sessions()
        self.assertEqual((session.user, session.device, session.public_key), (self.user.id, login.device_id, key))
        self.assertEqual(session.addresses, {name: lane.address for name, lane in tunnel.lanes.items()})
        self.assertEqual((session.state, session.presence, session.reason), ("active", "online", None))
        self.device.reauth()
        self.device.disconnect()
        wait_until(lambda: self.gateway.sessions() == [])
        with self.assertRaises(tornadovpn.NotFound) as caught:
            self.device.heartbeat()
        self.assertEqual((caught.exception.code, caught.exception.status), ("session_expired", 400))
        self.assertTrue(self.device.signed_in)
        self.device.logout()
        self.assertFalse(self.device.signed_in)

    def test_tells_refusals_apart(self) -> None:
        with self.assertRaises(tornadovpn.Unauthenticated) as caught:
            self.device.login("alice", "wrong password")
        error = caught.exception
        self.assertEqual((error.code, error.detail, error.status), ("invalid_credentials", "invalid_credentials", 401))
        with self.assertRaises(tornadovpn.Unauthenticated) as caught:
            self.device.initiate(new_key())
        self.assertEqual((caught.exception.code, caught.exception.status), ("token_missing", None))
        self.device.login("alice", PASSWORD)
        with self.assertRaises(tornadovpn.Error) as caught:
            self.device.initiate("not a key")
        self.assertEqual(caught.exception.code, "key_invalid")
        with self.assertRaises(tornadovpn.Error) as caught:
            self.device.initiate(base64.b64encode(bytes(32)).decode())
        self.assertEqual((caught.exception.code, caught.exception.status), ("key_invalid", 400))
        self.client.user_suspend(name="alice")
        with self.assertRaises(tornadovpn.Unauthenticated) as caught:
            self.device.heartbeat()
        self.assertEqual(caught.exception.status, 401)

    def test_says_when_nobody_answers(self) -> None:
        url = self.gateway.url
        self.gateway.close()
        with self.assertRaises(tornadovpn.Unavailable) as caught:
            tornadovpn.DeviceClient(url).pubkey()
        self.assertIsNone(caught.exception.status)
        for bad in ("", "https://example.org", "http://host:port", "http://user@host", "host:123456"):
            with self.assertRaises(ValueError):
                tornadovpn.DeviceClient(bad)

    def test_lets_other_threads_run_while_it_waits(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            device = tornadovpn.DeviceClient(f"127.0.0.1:{silent.getsockname()[1]}", timeout=1)
            failed = []

            def ask() -> None:
                try:
                    device.pubkey()
                except tornadovpn.DeadlineExceeded:
                    failed.append(True)

            waiting = threading.Thread(target=ask)
            waiting.start()
            begun = time.monotonic()
            turns = 0
            while waiting.is_alive():
                time.sleep(0.001)
                turns += 1
            self.assertEqual(failed, [True])
            self.assertGreater(turns, 50)
            self.assertGreater(time.monotonic() - begun, 0.5)


class FakeGateway:
    """Answers every connection with the same bytes and closes it."""

    def __init__(self, answer: bytes) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.answer = answer
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}/"
        self.thread = threading.Thread(target=self.serve)

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(self.answer)

    def __enter__(self) -> "FakeGateway":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.thread.join()


class Answers(unittest.TestCase):
    KEY = base64.b64encode(bytes(range(32))).decode()
    BODY = b'{"pubkey":"' + KEY.encode() + b'"}'

    def ask(self, answer: bytes) -> str:
        with FakeGateway(answer) as fake:
            return tornadovpn.DeviceClient(fake.url, timeout=5).pubkey()

    def test_come_in_every_form_of_http(self) -> None:
        size = str(len(self.BODY)).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        for answer in (
            head + b"Content-Length: " + size + b"\r\n\r\n" + self.BODY,
            head + b"\r\n" + self.BODY,
            head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(self.BODY) + self.BODY + b"\r\n0\r\n\r\n",
            b"HTTP/1.0 200 fine\r\n\r\n" + self.BODY,
        ):
            self.assertEqual(self.ask(answer), self.KEY)

    def test_that_are_cut_short_are_no_answers(self) -> None:
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self.BODY) + self.BODY
        for length in range(len(whole)):
            with self.assertRaises(tornadovpn.Error) as caught:
                self.ask(whole[:length])
            self.assertIn(caught.exception.code, ("protocol_error", "unavailable"), length)

    def test_that_make_no_sense_are_refused(self) -> None:
        ok = b"HTTP/1.1 200 OK\r\n\r\n"
        for answer, code in (
            (b"SSH-2.0-OpenSSH_9.2\r\n", "protocol_error"),
            (b"\x16\x03\x01" * 100, "protocol_error"),
            (ok + b"[]", "protocol_error"),
            (ok + b"{", "protocol_error"),
            (ok + b'{"pubkey": 7}', "key_invalid"),
            (ok + b'{"pubkey": "short"}', "key_invalid"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", "too_large"),
            (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200000, "too_large"),
            (b"HTTP/1.1 503 Away\r\n\r\n", "unavailable"),
            (b'HTTP/1.1 422 No\r\n\r\n{"detail":[{"type":"missing"}]}', "invalid_argument"),
            (b'HTTP/1.1 429 Slow\r\n\r\n{"detail":"ip_banned"}', "throttled"),
            (b"HTTP/1.1 500 Oh\r\n\r\nInternal Server Error", "internal"),
        ):
            with self.subTest(answer=answer[:60]), self.assertRaises(tornadovpn.Error) as caught:
                self.ask(answer)
            self.assertEqual(caught.exception.code, code)

    def test_do_not_make_a_client_seal_for_everybody(self) -> None:
        zero = base64.b64encode(bytes(32))
        with FakeGateway(b'HTTP/1.1 200 OK\r\n\r\n{"pubkey":"' + zero + b'"}') as fake:
            with self.assertRaises(tornadovpn.Error) as caught:
                tornadovpn.DeviceClient(fake.url).login("alice", PASSWORD)
        self.assertEqual(caught.exception.code, "protocol_error")


class Lifetime(unittest.TestCase):
    def test_cleans_up_behind_itself(self) -> None:
        with tornadovpn.Gateway() as gateway:
            directory = gateway.directory
            self.assertTrue(os.path.exists(gateway.control_socket))
            self.assertTrue(all(part.ready for part in gateway.health()))
        with self.assertRaises(tornadovpn.FailedPrecondition):
            gateway.sessions()
        with self.assertRaises(tornadovpn.FailedPrecondition):
            gateway.open()
        gateway.close()
        del gateway
        gc.collect()
        self.assertFalse(os.path.exists(directory))

    def test_a_client_keeps_its_gateway_alive(self) -> None:
        def make() -> tornadovpn.ControlClient:
            gateway = tornadovpn.Gateway(api=False)
            gateway.open()
            return gateway.control_client()

        client = make()
        gc.collect()
        self.assertTrue(client.gateway_status()["ready"])

    def test_values_outlive_their_gateway(self) -> None:
        with tornadovpn.Gateway(control=False) as gateway:
            user = gateway.add_user("alice", "alice@example.org", PASSWORD)
        del gateway
        gc.collect()
        self.assertEqual(user.username, "alice")
        self.assertIn("alice", pprint.pformat([user]))

    def test_refuses_settings_that_do_not_exist(self) -> None:
        with self.assertRaises(tornadovpn.InvalidArgument) as caught:
            tornadovpn.Gateway({"no.such_key": 1})
        self.assertEqual(caught.exception.code, "invalid_config")

    def test_an_open_gateway_does_not_hold_up_the_interpreter(self) -> None:
        for script in (
            "import tornadovpn as t; g = t.Gateway(); g.open(); print(g.url)",
            "import tornadovpn as t; g = t.Gateway(); g.open(); s = g.control_client().events(); print(g.url)",
            "import tornadovpn as t\ntry:\n  with t.Gateway() as g: print(g.url); 1/0\nexcept ZeroDivisionError: pass",
        ):
            done = run(script)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("http://127.0.0.1:", done.stdout)

    def test_several_gateways_in_one_process(self) -> None:
        with tornadovpn.Gateway() as one, tornadovpn.Gateway() as other:
            one.add_user("alice", "alice@example.org", PASSWORD)
            self.assertEqual(other.control_client().user_list(), [])
            self.assertNotEqual(one.url, other.url)


if __name__ == "__main__":
    unittest.main()
