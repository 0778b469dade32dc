"""What the benches of the tor lane share: a gateway with a device on a private Tor network, and ways to measure."""

import os
import re
import socket
import socketserver
import statistics
import struct
import sys
import threading
import time
from contextlib import contextmanager

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))

import tor_network  # noqa: E402
from client import Client  # noqa: E402,F401
from lab import WEB, Gateway, Lab, WebServer, connect, fetch, inside, run, until  # noqa: E402,F401

SOCKS, BLOB = 9050, 8000
WEB_PAGE = WebServer.PAGE


@contextmanager
def place(clients=1, options=(), settings=None):
    """(network, gateway, clients): the tor lane is up and every client is on it and has seen a page."""
    lab = Lab(clients)
    network = tor_network.TorNetwork(lab)
    gateway, joined = None, []
    try:
        network.start().wait_usable()
        gateway = Gateway("bench", **{"tor.launch": "supervised", "tor.options": [*network.client_options(), *options],
                                      "tor.probe_name": "www.example.org", "tor.socks_port": SOCKS, **(settings or {})})
        gateway.start()
        for index in range(clients):
            gateway.add_user(f"bench{index}")
            joined.append(Client(f"c{index}", f"bench{index}").login())
            joined[-1].connect("tor")
        until(lambda: gateway.call("tor.status")["phase"] == "up", "tor is up", 60)
        for client in joined:
            page(client)
        yield network, gateway, joined
    finally:
        for client in joined:
            client.down()
        if gateway:
            gateway.stop()
        network.close()
        lab.close()


def page(client):
    until(lambda: fetch(client.namespace, timeout=4) == WEB_PAGE, "a page", 120)


def told(name, values, unit="ms", factor=1000):
    values = sorted(value * factor for value in values)
    print(f"{name}: median {statistics.median(values):.2f} {unit}, {values[0]:.2f} to {values[-1]:.2f} ({len(values)} times)", flush=True)


class TorControl:
    """The control socket of the gateway's tor, spoken plainly; single threaded but for `events`."""

    def __init__(self, gateway):
        directory = gateway.state + "/tor/data"
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(directory + "/control")
        self.lines = self.sock.makefile("rb")
        with open(directory + "/cookie", "rb") as file:
            self.ask("AUTHENTICATE " + file.read().hex())

    def send(self, command):
        self.sock.sendall(command.encode() + b"\r\n")

    def reply(self):
        """The lines of one answer or event; data lines stand between. [""] at the end."""
        out = []
        while True:
            line = self.lines.readline().decode().rstrip("\r\n")
            if not line:
                return [""]
            out.append(line)
            if line[3] == "+":
                while (data := self.lines.readline().decode().rstrip("\r\n")) != ".":
                    out.append(data)
            elif line[3] == " ":
                return out

    def ask(self, command):
        self.send(command)
        answer = self.reply()
        assert answer[-1].startswith("250"), (command, answer)
        return answer

    def circuits(self):
        """id: (status, purpose, the rest of the line)."""
        found = {}
        for line in self.ask("GETINFO circuit-status"):
            words = line.removeprefix("250+circuit-status=").removeprefix("250-circuit-status=").split()
            if len(words) > 2 and words[0].isdigit():
                purpose = re.search(r"PURPOSE=(\w+)", line)
                found[words[0]] = (words[1], purpose.group(1) if purpose else "", line)
        return found


class Blob(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


def serve(size):
    """Gives `size` megabytes to whoever connects."""
    block = os.urandom(1 << 20)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            try:
                for _ in range(size):
                    self.request.sendall(block)
            except OSError:
                pass
    with inside("net"):
        server = Blob((WEB, BLOB), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def drained(sock, size):
    """Megabytes a second, from the first byte to the last."""
    with sock:
        sock.settimeout(120)
        buffer = bytearray(1 << 18)
        got = sock.recv_into(buffer)
        began = time.monotonic()
        while count := sock.recv_into(buffer):
            got += count
        assert got == size << 20, got
        return size / (time.monotonic() - began)


def through_socks(namespace="gw", host="127.0.0.1"):
    sock = connect(namespace, host, SOCKS, 20)
    sock.sendall(b"\5\1\0")
    sock.recv(2, socket.MSG_WAITALL)
    sock.sendall(b"\5\1\0\1" + socket.inet_aton(WEB) + struct.pack("!H", BLOB))
    assert sock.recv(10, socket.MSG_WAITALL)[1] == 0
    return sock
