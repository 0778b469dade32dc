"""The private Tor network itself: a plain tor client reaches the web server through it, and only through it."""

import os
import secrets
import shutil
import socket
import struct
import subprocess
import time
import unittest

import tor_network
from lab import GATEWAY, WEB, WORK, Lab, WebServer, connect, in_namespace, until

SOCKS = 9050


class PlainClient:
    """A tor with a SOCKS port in the gateway's namespace."""

    def __init__(self, network):
        self.directory = WORK + "/plain-tor"
        shutil.rmtree(self.directory, ignore_errors=True)
        os.makedirs(self.directory, mode=0o700)
        options = network.client_options() + [f"DataDirectory {self.directory}", f"SocksPort 127.0.0.1:{SOCKS}",
                                              f"Log notice file {self.directory}/log"]
        with open(self.directory + "/torrc", "w") as file:
            file.write("\n".join(options) + "\n")
        self.process = subprocess.Popen(in_namespace("gw", "tor", "--quiet", "-f", self.directory + "/torrc"),
                                        start_new_session=True)

    def bootstrapped(self):
        with open(self.directory + "/log") as file:
            return "Bootstrapped 100%" in file.read()

    def wait(self):
        until(lambda: os.path.exists(self.directory + "/log") and self.bootstrapped(), "the client's bootstrap", 30)

    def fetch(self, host):
        """The page of the web server, asked for through the SOCKS port; None if it cannot be had."""
        try:
            with connect("gw", "127.0.0.1", SOCKS, timeout=10) as sock:
                sock.sendall(b"\5\1\0")
                sock.recv(2)
                name = host.encode()
                sock.sendall(b"\5\1\0\3" + bytes([len(name)]) + name + struct.pack("!H", 80))
                reply = sock.recv(10, socket.MSG_WAITALL)
                if len(reply) < 10 or reply[1] != 0:
                    return None
                sock.sendall(b"GET / HTTP/1.1\r\nHost: " + name + b"\r\nConnection: close\r\n\r\n")
                answer = b""
                while got := sock.recv(65536):
                    answer += got
                return answer.partition(b"\r\n\r\n")[2].decode()
        except OSError:
            return None

    def close(self):
        self.process.kill()
        self.process.wait(10)


class TorNetworkTest(unittest.TestCase):
    """Every test has a lab of its own; the network is one for all of them."""

    def setUp(self):
        self.lab = Lab(clients=0)
        self.addCleanup(self.lab.close)
        start = time.monotonic()
        self.network = tor_network.shared(self.lab).wait_usable()
        usable = time.monotonic()
        self.client = PlainClient(self.network)
        self.addCleanup(self.client.close)
        self.client.wait()
        print(f"network usable after {usable - start:.1f} s, client after another {time.monotonic() - usable:.1f} s",
              flush=True)

    def assert_fetched(self, host):
        self.lab.web.seen.clear()
        page = until(lambda: self.client.fetch(host), f"the page of {host} through tor", 30)
        self.assertEqual(page, WebServer.PAGE)
        self.assertTrue(self.lab.web.seen)
        self.assertLessEqual(set(self.lab.web.seen), set(self.network.exit_addresses))

    def test_by_address(self):
        self.assert_fetched(WEB)

    def test_by_name(self):
        # A name that no exit can have asked for before.
        self.assert_fetched(f"{secrets.token_hex(6)}.example.org")
        self.assertTrue(self.lab.dns.seen)
        self.assertNotIn(GATEWAY, self.lab.dns.seen)


if __name__ == "__main__":
    unittest.main()
