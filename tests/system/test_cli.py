"""The command line of tornadod and tornadoctl."""

import collections
import json
import os
import socket
import subprocess
import tempfile
import unittest

from client import Client
from lab import TORNADOCTL, TORNADOD, WORK, Gateway, in_namespace
from support import LabCase


def call(*words, stdin="", env=None, tty=False):
    return subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=60, env={**os.environ, **(env or {})})


class Tornadoctl(LabCase):

    def ctl(self, *words, stdin="", json_output=False, socket=None):
        return call(TORNADOCTL, *(["--json"] if json_output else []), "--socket", socket or self.gateway.control, *words, stdin=stdin)

    def commands(self):
        """Noun and verb of every command that the general help lists."""
        lines = [line.split() for line in call(TORNADOCTL, "--help").stdout.splitlines() if line.startswith("  ") and line[2] not in " -"]
        pairs = {(words[0], words[1] if len(words) > 1 and words[1].islower() else None) for words in lines if words[0] != "tornadoctl"}
        pairs = {(noun, None if noun == "report" else verb) for noun, verb in pairs}
        self.assertGreater(len(pairs), 20)
        return sorted(pairs, key=str)

    def test_help_everywhere(self):
        for words in (["--help"], ["help"]):
            done = call(TORNADOCTL, *words)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn("usage: tornadoctl", done.stdout)
            self.assertIn("exit status", done.stdout)
        for noun, verb in self.commands():
            with self.subTest(noun=noun, verb=verb):
                done = call(TORNADOCTL, noun, *([verb] if verb else []), "--help")
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertTrue(done.stdout.startswith(f"usage: tornadoctl {noun}"), done.stdout)
        for noun in {noun for noun, _ in self.commands()}:
            done = call(TORNADOCTL, noun, "--help")
            self.assertEqual(done.returncode, 0)
        done = call(TORNADOD, "--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("--config", done.stdout)
        for program in (TORNADOCTL, TORNADOD):
            self.assertRegex(call(program, "--version").stdout, r"^tornado(ctl|d) \d+\.\d+\.\d+\n$")

    def test_exit_status(self):
        status = lambda *words, **more: self.ctl(*words, **more).returncode
        self.gateway.add_user("taken")
        self.assertEqual(status("gateway", "status"), 0)
        for words in ((), ("user",), ("user", "fly"), ("nothing",), ("user", "show"), ("user", "show", "a", "b"), ("user", "list", "--limit", "x"),
                      ("user", "list", "--unknown"), ("user", "delete", "taken"), ("config", "check"), ("events", "tail", "--count")):
            self.assertEqual(status(*words), 2, words)
        add = ("--email", "x@example.org", "--password-stdin")
        self.assertEqual(status("user", "add", "ab", *add, stdin="correct horse\n"), 2)
        self.assertEqual(status("user", "add", "short", *add, stdin="short\n"), 2)
        self.assertEqual(status("user", "add", "x1x", "--email", "nonsense", "--password-stdin", stdin="correct horse\n"), 2)
        for words in (("user", "show", "nobody"), ("user", "suspend", "nobody"), ("session", "show", "nobody"), ("session", "close", "nobody"),
                      ("device", "revoke", "6b1f0000-0000-4000-8000-000000000000"), ("session", "history", "--user", "nobody")):
            self.assertEqual(status(*words), 3, words)
        self.assertEqual(status("user", "add", "taken", *add, stdin="correct horse\n"), 4)
        self.assertEqual(status("user", "add", "TAKEN", *add, stdin="correct horse\n"), 4)
        self.assertEqual(status("user", "reinstate", "taken"), 4)
        self.assertEqual(status("gateway", "status", socket="/nonexistent.sock"), 5)
        self.assertEqual(status("gateway", "reconcile", socket=self.gateway.runtime + "/status.sock"), 6)
        self.assertEqual(status("user", "delete", "taken", "--yes"), 0)
        self.assertEqual(call(TORNADOCTL, "gateway", "status", env={"TORNADO_SOCKET": self.gateway.control}).returncode, 0)

    def test_json_prints_json_only(self):
        self.gateway.add_user("somebody")
        client = Client("c0", "somebody").login()
        client.initiate()
        skip = {"add", "tail", "check", "delete", "revoke", "close", "suspend", "reinstate", "password", "set", "clear",
                "verify", "verify-begin", "verify-end", "confirm-ends", "confirm-removals", "apply", "test", "adopt", "release"}
        arguments = {("user", "show"): ["somebody"], ("session", "show"): [client.device], ("key", "rotate"): ["login"], ("device", "list"): ["somebody"], ("why", None): ["somebody"],
                     ("policy", "explain"): ["somebody", "192.0.2.1:80"], ("policy", "usage"): ["somebody"]}
        self.ctl("policy", "apply", "-", stdin="{}")
        status = collections.defaultdict(int, why=1)  # its tunnel is not up
        for noun, verb in self.commands():
            if verb in skip or noun == "tor":  # this gateway has none
                continue
            with self.subTest(noun=noun, verb=verb):
                done = self.ctl(noun, *([verb] if verb else []), *arguments.get((noun, verb), []), json_output=True)
                self.assertEqual((done.returncode, done.stderr), (status[noun], ""))
                json.loads(done.stdout)
        for words in (("user", "show", "nobody"), ("user", "fly"), ("session", "close", "x")):
            done = self.ctl(*words, json_output=True)
            self.assertEqual(done.stdout, "")
            self.assertTrue(done.stderr.startswith("tornadoctl: "), done.stderr)
        done = self.ctl("events", "tail", "--after", "0", "--count", "3", json_output=True)
        self.assertEqual([json.loads(line)["name"] for line in done.stdout.splitlines()], ["start_step"] * 3)
        done = self.ctl("session", "list")
        self.assertIn("session_id", done.stdout.splitlines()[0])
        self.assertIn(client.device, done.stdout)

    def test_passwords_only_from_stdin(self):
        for words in (("--password", "correct horse"), ("--password=correct horse",)):
            done = self.ctl("user", "add", "argv", "--email", "argv@example.org", *words)
            self.assertEqual(done.returncode, 2)
            self.assertIn("secrets are not taken from arguments", done.stderr)
            self.assertNotIn("correct horse", done.stderr)
        done = self.ctl("user", "add", "argv", "--email", "argv@example.org")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--password-stdin", done.stderr)
        done = self.ctl("user", "add", "argv", "--email", "argv@example.org", "--password-stdin")
        self.assertEqual(done.returncode, 2)
        self.assertEqual(self.ctl("user", "show", "argv").returncode, 3)
        self.gateway.add_user("keeper", password="one password")
        Client("c0", "keeper", password="one password").login()
        done = self.ctl("user", "password", "keeper", "--password-stdin", stdin="two passwords\r\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(Client("c0", "keeper", password="one password").sign_in().status, 401)
        Client("c0", "keeper", password="two passwords").login()

    def test_odd_words(self):
        self.gateway.ctl("user", "add", "o'brien", "--email", "o'brien@example.org", "--password-stdin", stdin="correct horse\n")
        self.gateway.ctl("user", "add", "unicode", "--email", "unicode@example.org", "--password-stdin", stdin="p\u00e4ssw\u00f6rd \u2603\n")
        Client("c0", "unicode", password="p\u00e4ssw\u00f6rd \u2603").login()
        self.assertEqual(self.gateway.ctl("user", "list", "--search", "%"), [])
        self.assertEqual(self.ctl("user", "list", "--search", "x" * 5000).returncode, 2)


class Tornadod(unittest.TestCase):

    def setUp(self):
        self.directory = tempfile.mkdtemp(dir=WORK)
        # An address that cannot be listened on, for starts that are to get as far as that.
        self.taken = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.taken.close)
        self.busy = "127.0.0.1:%d" % self.taken.getsockname()[1]

    def write(self, text):
        path = self.directory + "/tornado.json"
        with open(path, "w") as file:
            file.write(text if isinstance(text, str) else json.dumps(text))
        return path

    def refused(self, *words, says, env=None, status=2):
        done = call(TORNADOD, "--check", *words, env=env)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        for text in says:
            self.assertIn(text, done.stderr)

    def test_good_configuration(self):
        path = self.write('// a comment\n{"lanes": {"vpn": {"pool": "10.20.0.0/16"}}, /* another */ "client_api": {"public": ["192.0.2.1"]}}')
        done = call(TORNADOD, "--check", "--config", path)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        done = call(TORNADOCTL, "--json", "config", "check", path)
        self.assertEqual(json.loads(done.stdout), {"valid": True, "set": ["client_api.public", "lanes.vpn.pool"]})
        self.assertEqual(os.listdir(self.directory), ["tornado.json"])

    def test_errors_name_path_and_cause(self):
        cases = [
            ({"lanes": {"vpn": {"pol": "10.0.0.0/8"}}}, ["lanes.vpn.pol", "no such key"]),
            ({"lane": {}}, ["lane", "no such key"]),
            ({"lanes": {"vpn": {"pool": "10.9.0.0/16"}}}, ["lanes.tor.pool", "overlaps lanes.vpn.pool"]),
            ({"lanes": {"vpn": {"pool": "10.8.0.0/31"}}}, ["lanes.vpn.pool", "/8 to /30"]),
            ({"lanes": {"vpn": {"pool": "10.8.0.0/33"}}}, ["lanes.vpn.pool"]),
            ({"lanes": {"vpn": {"pool": "10.8.0.5/24"}}}, ["lanes.vpn.pool"]),
            ({"lanes": {"vpn": {"pool": "fd00::/64"}}}, ["lanes.vpn.pool"]),
            ({"lanes": {"vpn": {"listen_port": 70000}}}, ["lanes.vpn.listen_port"]),
            ({"lanes": {"vpn": {"listen_port": "51820"}}}, ["lanes.vpn.listen_port", "whole number"]),
            ({"lanes": {"tor": {"listen_port": 51820}}}, ["lanes.tor.listen_port"]),
            ({"lanes": {"vpn": {"interface": "../etc"}}}, ["lanes.vpn.interface"]),
            ({"dns": {"upstream": "127.0.0.53"}}, ["dns.upstream", "loopback"]),
            ({"session": {"heartbeat_ttl": -1}}, ["session.heartbeat_ttl"]),
            ({"ipam": {"quarantine": 1}}, ["ipam.quarantine"]),
            ({"client_api": {"listen": "everywhere"}}, ["client_api.listen"]),
            ({"endpoint": {"host": "fd00::1"}}, ["endpoint.host"]),
            ({"state_dir": "relative"}, ["state_dir", "absolute"]),
        ]
        for tree, says in cases:
            with self.subTest(tree):
                path = self.write(tree)
                self.refused("--config", path, says=says)
                done = call(TORNADOCTL, "config", "check", path)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn(says[0], done.stderr)

    def test_files_that_cannot_be_read(self):
        self.refused("--config", "/nonexistent/tornado.json", says=["/nonexistent/tornado.json"])
        self.refused("--config", self.directory, says=[self.directory])
        self.refused("--config", self.write("{"), says=["tornado.json"])
        self.refused("--config", self.write("[]"), says=["tornado.json", "object"])

    def test_settings_and_environment(self):
        self.refused("--set", "lanes.vpn.pool", says=["--set lanes.vpn.pool", "key=value"])
        self.refused("--set", "nothing.here=1", says=["nothing.here", "no such key"])
        self.refused("--set", "lanes.vpn.listen_port=many", says=["lanes.vpn.listen_port"])
        self.refused("--nonsense", says=["nonsense"])
        self.refused(says=["lanes.vpn.pool"], env={"TORNADO_LANES__VPN__POOL": "nowhere"})
        done = call(TORNADOD, "--check", "--set", "lanes.vpn.pool=10.30.0.0/16", env={"TORNADO_LANES__VPN__POOL": "nowhere"})
        self.assertEqual(done.returncode, 0, "--set comes after the environment")

    def test_reasons_of_a_failed_start(self):
        """The daemon says why it does not start, and what to do about it."""
        def start(*words):
            return call(TORNADOD, "--state-dir", self.directory + "/state", "--runtime-dir", self.directory + "/run", *words)
        memory = ("--set", "wireguard.backend=memory")
        done = start(*memory, "--set", "client_api.listen=" + self.busy)
        self.assertEqual(done.returncode, 1)
        self.assertIn(self.busy, done.stderr)
        done = start("--set", "wireguard.program=/nonexistent/wireguard-go", "--set", "dns.upstream=192.0.2.53")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nonexistent/wireguard-go", done.stderr)
        done = call("setpriv", "--bounding-set=-net_admin", TORNADOD, "--state-dir", self.directory + "/state", "--runtime-dir", self.directory + "/run",
                    "--set", "dns.upstream=192.0.2.53")
        self.assertEqual(done.returncode, 1)
        self.assertIn("CAP_NET_ADMIN", done.stderr)
        with open(self.directory + "/occupied", "w"):
            pass
        done = call(TORNADOD, "--state-dir", self.directory + "/occupied", "--runtime-dir", self.directory + "/run", *memory)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("occupied", done.stderr)

    def test_damaged_state(self):
        """A damaged file is named, and never replaced by something new."""
        def start():
            return call(TORNADOD, "--state-dir", self.directory + "/state", "--runtime-dir", self.directory + "/run", "--set", "wireguard.backend=memory",
                        "--set", "client_api.listen=" + self.busy)
        start()
        for name, content in (("keys/signing-keys.json", b"{"), ("wireguard/vpn.key", b"short"), ("tornado.db", b"this is no database" * 500)):
            path = f"{self.directory}/state/{name}"
            with open(path, "rb") as file:
                before = file.read()
            with open(path, "wb") as file:
                file.write(content)
            with self.subTest(name):
                done = start()
                self.assertEqual(done.returncode, 1)
                self.assertIn(os.path.basename(name), done.stderr.splitlines()[-1])
                with open(path, "rb") as file:
                    self.assertEqual(file.read(), content)
            with open(path, "wb") as file:
                file.write(before)
            for side in ("-wal", "-shm"):
                if name == "tornado.db" and os.path.exists(path + side):
                    os.unlink(path + side)
        self.assertIn(self.busy, start().stderr.splitlines()[-1])


class OnePerStateDirectory(LabCase):

    def test_second_daemon_is_refused(self):
        second = Gateway("second", client_api__listen="127.0.0.1:4700")
        second.state = self.gateway.state
        done = call(*in_namespace("gw", *second.command()))
        self.assertEqual(done.returncode, 4)
        self.assertIn(self.gateway.state, done.stderr)
        self.assertIn("another tornadod", done.stderr)
        third = Gateway("third", client_api__listen="127.0.0.1:4700", wireguard__backend="memory")
        third.runtime = self.gateway.runtime
        done = call(*in_namespace("gw", *third.command()))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("another daemon answers", done.stderr)
        self.assertTrue(self.gateway.call("gateway.status")["ready"])
        self.assertEqual(self.gateway.get("/health")[0], 200)


if __name__ == "__main__":
    unittest.main()
