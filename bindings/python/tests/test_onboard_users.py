"""examples/python/onboard_users.py against a gateway of its own."""
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import tornadovpn

SCRIPT = Path(__file__).resolve().parents[3] / "examples" / "python" / "onboard_users.py"


def onboard(socket: str, csv: str) -> "subprocess.CompletedProcess[str]":
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        file.write(csv)
        file.flush()
        command = [sys.executable, str(SCRIPT), "--socket", socket, file.name]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)


class OnboardUsers(unittest.TestCase):
    def test_creates_accounts_that_can_sign_in(self) -> None:
        with tornadovpn.Gateway() as gateway:
            done = onboard(gateway.control_socket, "name,email,max_devices\nalice,a@example.org,2\nbob,b@example.org,\n")
            self.assertEqual(done.returncode, 0, done.stderr)
            table = [line.split() for line in done.stdout.splitlines()]
            self.assertEqual([row[:3] for row in table[1:]],
                             [["alice", "a@example.org", "created"], ["bob", "b@example.org", "created"]])
            login = tornadovpn.DeviceClient(gateway.url).login("alice", table[1][3])
            self.assertEqual(login.email, "a@example.org")
            again = onboard(gateway.control_socket, "name,email\nalice,a@example.org\nxy,c@example.org\n")
            self.assertEqual(again.returncode, 1)
            self.assertIn("exists", again.stdout)
            self.assertIn("refused", again.stdout)

    def test_says_what_is_wrong(self) -> None:
        done = onboard("/nowhere/control.sock", "name,email\nalice,a@example.org\n")
        self.assertEqual(done.returncode, 1)
        self.assertIn("unavailable", done.stderr)
        with tornadovpn.Gateway(api=False) as gateway:
            self.assertEqual(onboard(gateway.control_socket, "user\nalice\n").returncode, 2)


if __name__ == "__main__":
    unittest.main()
