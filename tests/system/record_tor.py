#!/usr/bin/python3
"""Records what a tor says to a controller, for tests/codec/recorded: record_tor.py PROGRAM FILE (as root).

A gateway runs that tor on a private Tor network; beside it another controller asks what ours asks, and what no tor
knows, while a device opens a page and asks for a name. The file has tor's side of it, as it came.
"""

import hashlib
import hmac
import os
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import lab  # noqa: E402
import tor_network  # noqa: E402
from client import Client  # noqa: E402
from lab import WEB, Gateway, Lab, fetch, resolve, until  # noqa: E402

PROOF = b"Tor safe cookie authentication controller-to-server hash"
QUESTIONS = (
    "GETINFO version", "GETINFO status/bootstrap-phase status/circuit-established network-liveness status/version/current",
    "GETCONF DisableNetwork", "GETCONF ContactInfo", "GETINFO process/pid", "GETINFO circuit-status",
    "GETINFO traffic/read traffic/written entry-guards", "GETINFO nothing/of/the/kind", "GETCONF NoSuchOption",
    "SETCONF NoSuchOption=1", "CLOSECIRCUIT 4000000", "NOSUCHCOMMAND",
    "SETEVENTS STATUS_CLIENT STATUS_GENERAL NETWORK_LIVENESS CIRC CIRC_MINOR STREAM")


class Conversation:
    def __init__(self, directory):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(directory + "/control")
        self.record = b""
        self.ask("PROTOCOLINFO 1")
        with open(directory + "/cookie", "rb") as file:
            cookie = file.read()
        nonce = os.urandom(32)
        answer = self.ask("AUTHCHALLENGE SAFECOOKIE " + nonce.hex())
        server = bytes.fromhex(answer.split(b"SERVERNONCE=")[1].split()[0].decode())
        self.ask("AUTHENTICATE " + hmac.new(PROOF, cookie + nonce + server, hashlib.sha256).hexdigest())

    def ask(self, command):
        self.sock.sendall(command.encode() + b"\r\n")
        return self.listen(10, answered)

    def listen(self, seconds, enough=lambda heard: False):
        self.sock.settimeout(seconds)
        heard = b""
        while not enough(heard):
            try:
                part = self.sock.recv(65536)
            except TimeoutError:
                break
            if not part:
                break
            heard += part
        self.record += heard
        return heard


def answered(heard):
    """Whether the last line of an answer is there: neither an event's nor one of data."""
    data = final = False
    lines = heard.split(b"\r\n")
    for line in lines[:-1]:
        if data:
            data = line != b"."
            continue
        data = line[3:4] == b"+"
        final = final or (line[3:4] == b" " and not line.startswith(b"650"))
    return final and not data and lines[-1] == b""


def main(program, path):
    place = Lab(1)
    network = tor_network.TorNetwork(place).start().wait_usable()
    gateway = Gateway("record", **{"tor.launch": "supervised", "tor.options": network.client_options(),
                                   "tor.probe_name": "www.example.org", "tor.program": program}).start()
    until(lambda: gateway.call("tor.status")["phase"] == "up", "tor is up", 90)
    version = gateway.call("tor.status")["version"]
    gateway.add_user("record")
    client = Client("c0", "record").login().connect("tor")
    conversation = Conversation(gateway.state + "/tor/data")
    for question in QUESTIONS:
        conversation.ask(question)
    assert until(lambda: fetch("c0", WEB, timeout=8), "a page", 60) and resolve("c0", "9.9.9.9", timeout=8) == WEB
    conversation.listen(3)
    conversation.ask("GETINFO circuit-status")
    for value in "10":
        conversation.ask("SETCONF DisableNetwork=" + value)
        conversation.listen(3)
    with open(path, "wb") as file:
        file.write(conversation.record)
    print(f"{path}: tor {version}, {len(conversation.record)} bytes, {conversation.record.count(bytes([13, 10]) + b'650 ')} events")
    client.down()
    gateway.call("tor.stop")
    until(lambda: gateway.call("tor.status")["phase"] == "stopped", "tor is stopped", 30)
    gateway.stop()
    network.close()
    place.close()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    lab.enter()
    main(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]))
