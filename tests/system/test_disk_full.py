"""A state directory without space: clear errors, nothing acknowledged is lost, ends and refreshes go on (I-11)."""

import os
import subprocess
import unittest

from client import Client
from lab import TORNADOCTL, Gateway, Lab, fetch
from support import ApiError, inconsistencies, until


class DiskFull(unittest.TestCase):

    def setUp(self):
        self.lab = Lab()
        self.addCleanup(self.lab.close)
        self.gateway = Gateway("full", auth__address_failures=100000, database__reserve_mib=2)
        os.makedirs(self.gateway.state, mode=0o700, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=0700", "small", self.gateway.state], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", self.gateway.state])
        self.gateway.start()
        self.addCleanup(self.gateway.stop)

    def fill(self):
        with open(self.gateway.state + "/filler", "ab", buffering=0) as file:
            block = 1 << 20
            while block:
                try:
                    file.write(b"x" * block)
                except OSError:
                    block //= 2

    def free(self):
        os.unlink(self.gateway.state + "/filler")

    def connected(self, name):
        self.gateway.add_user(name, max_devices=5)
        client = Client("c0", name).login()
        self.addCleanup(client.hang_up)
        client.initiate()
        return client

    def until_refused(self, attempt):
        """What still fits into pages already allocated is accepted; then comes the refusal."""
        for _ in range(2000):
            try:
                attempt()
            except ApiError as error:
                return error.answer
        self.fail("the disk is never full")

    def test_full_disk(self):
        gateway = self.gateway
        clients = [self.connected(f"user{i}") for i in range(8)]
        idle = self.connected("idle")
        idle.disconnect()
        tunnel = clients[0].up()
        self.addCleanup(tunnel.down)
        self.assertIsNotNone(fetch("c0"))
        tunnel.down()
        self.fill()

        # New things are refused, with a reason and as doubt, never as proof.
        added = []

        def add():
            name = f"late{len(added)}"
            done = subprocess.run([TORNADOCTL, "--socket", gateway.control, "user", "add", name, "--email", f"{name}@example.org",
                                   "--password-stdin"], input="correct horse\n",
                                  capture_output=True, text=True)
            if done.returncode == 0:
                added.append(name)
                self.fill()
            return done if done.returncode else None
        refused = until(add, "user add is refused", 60, every=0)
        self.assertEqual((refused.returncode, refused.stdout), (5, ""))
        self.assertIn("full", refused.stderr)
        for answer in (self.until_refused(lambda: idle.good(idle.sign_in())), self.until_refused(idle.initiate)):
            self.assertEqual((answer.status, answer.detail()), (503, "unavailable"))
            self.assertIn("Retry-After", answer.headers)

        # What is there goes on: beats, refreshes, ends.
        for client in clients:
            self.assertEqual(client.heartbeat().status, 200)
        for client in clients:
            self.assertEqual(client.reauth().status, 200)
        for client in clients[:3]:
            self.assertEqual(client.logout(), {"status": "logged_out"})
        self.assertEqual(clients[3].disconnect().status, 200)
        closed = [client.public for client in clients[:4]]
        until(lambda: {row["public_key"] for row in gateway.history()} >= set(closed), "ends are recorded", 10)
        self.assertFalse(set(closed) & {peer["public_key"] for peer in gateway.peers()})
        self.assertEqual(gateway.call("user.suspend", name="user7")["is_active"], False)

        # A crash on the full disk loses nothing of it.
        gateway.kill()
        gateway.start()
        live = {session["public_key"] for session in gateway.sessions()}
        self.assertEqual(live, {client.public for client in clients[4:7]})
        for client in clients[4:7]:
            self.assertEqual(client.heartbeat().status, 200)
            self.assertEqual(client.reauth().status, 200)
        self.assertLessEqual(set(added), {user["username"] for user in gateway.call("user.list")})

        # Space comes back: everything works again, without a restart.
        self.free()
        gateway.add_user("afterwards")
        Client("c0", "afterwards").login().initiate()
        for client in clients[:4]:
            client.login().initiate()
            self.assertEqual(client.heartbeat().status, 200)
        until(lambda: inconsistencies(gateway) == [], "consistent", 10)
        until(lambda: gateway.get("/health")[0] == 200, "healthy", 10)
        until(lambda: os.path.exists(gateway.state + "/tornado.db.reserve"), "the reserve is held again", 5)
        self.assertEqual(gateway.restart().get("/health")[0], 200)

    def test_start_on_a_full_disk(self):
        """The first start without any space fails and says why."""
        client = self.connected("alice")
        self.gateway.stop()
        self.fill()
        self.gateway.start()
        self.assertEqual(client.heartbeat().status, 200)
        self.assertEqual(client.reauth().status, 200)
        self.gateway.stop()
        for name in os.listdir(self.gateway.state):
            path = os.path.join(self.gateway.state, name)
            if os.path.isfile(path) and name != "filler":
                os.unlink(path)
        self.fill()
        self.gateway.start(wait=False)
        self.assertEqual(self.gateway.gone(), 1)
        self.assertIn("full", "".join(self.gateway.other_output))


if __name__ == "__main__":
    unittest.main()
