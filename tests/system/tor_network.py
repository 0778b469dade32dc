"""A private Tor network for the system suite and the demo: 3 authorities, 2 relays and 2 exits of Debian's tor.

It lives in a network namespace of its own, `tornet`, behind the `net` of a Lab, so the web server of the lab sees the
exits by their own addresses and never another. The namespace and its processes are no part of the lab: a lab that closes
takes only the cable along. A test run therefore starts one network, which takes about 15 s (seven runs: 14 to 21), and plugs it into one
lab after the other, which takes milliseconds:

    network = tor_network.shared(lab)       # starts it the first time, then only attaches it
    torrc = network.client_options() + [...]
    network.wait_usable()

Keys and consensus lie in WORK, a tmpfs of this run, and go with it. Keeping them for another run would save the two
seconds of making keys and nothing else, as a consensus is valid for less than a minute here.

Exits resolve names through the DnsServer of the lab. Without a lab attached they keep voting and relaying among themselves.
"""

import atexit
import os
import re
import shutil
import signal
import subprocess

from lab import DNS, SLOW, WORK, Lab, in_namespace, run, until

NAMESPACE = "tornet"
ROUTER = "10.98.0.1"
ADDRESS = "10.98.0.2"
AUTHORITIES = {f"auth{i}": f"10.99.0.1{i}" for i in (1, 2, 3)}
RELAYS = {f"relay{i}": f"10.99.0.2{i}" for i in (1, 2)}
EXITS = {f"exit{i}": f"10.99.0.3{i}" for i in (1, 2)}

BRIDGE, BRIDGE_OBFS4_PORT = "10.99.0.41", 9443

# Clients go by the summary of a microdescriptor, which leaves private ranges out: a policy that names only the lab's
# addresses reads as "no exit". The namespace is the wall.
EXIT_POLICY = "ExitPolicy accept *:*"

# Seconds; the least that tor accepts before and after the first consensus. The first one seldom has everybody.
# On an emulated processor a vote may take longer than 2 s to be made and passed on; then there is never a consensus.
INITIAL_INTERVAL, INTERVAL, DELAY = (5, 10, 2) if SLOW < 4 else (20, 30, 6)


class TorNetwork:
    """The network of one lab after the other. `start`, `wait_usable`, `close`; single threaded."""

    def __init__(self, lab, directory=WORK + "/tornet"):
        self.lab = lab
        self.directory = directory
        self.processes = {}
        self.authority_lines = []
        self.exit_addresses = sorted(EXITS.values())

    # Life.

    def start(self):
        """Makes keys and starts every process; `wait_usable` says when clients can come."""
        os.makedirs(self.directory, mode=0o700)
        run("ip", "netns", "add", NAMESPACE)
        Lab.ip(NAMESPACE, "link", "set", "lo", "up")
        for address in [*AUTHORITIES.values(), *RELAYS.values(), *EXITS.values()]:
            Lab.ip(NAMESPACE, "addr", "add", address + "/32", "dev", "lo")
        self.attach(self.lab)
        with open(self.directory + "/resolv.conf", "w") as file:
            file.write(f"nameserver {DNS}\n")
        self._make_authorities()
        for name in AUTHORITIES:
            self._launch(name)
        # A relay whose first upload is refused tries again after a minute only.
        until(lambda: all(self._listens(address, port) for address in AUTHORITIES.values() for port in (7000, 9001)),
              "the authorities listen", 20)
        for name, address in {**RELAYS, **EXITS}.items():
            self._write_relay(name, address)
            self._launch(name)
        return self

    def attach(self, lab):
        """Connects the network to the `net` of a lab, and thereby to its web and DNS servers and its gateway."""
        self.lab = lab
        run("ip", "-n", NAMESPACE, "link", "del", "tolab", check=False)
        lab.link(NAMESPACE, "tolab", ADDRESS, "totornet", ROUTER, 30)
        lab.ip("net", "route", "add", "10.99.0.0/24", "via", ADDRESS)

    def close(self):
        """Ends the processes started here, and the namespace."""
        for process in self.processes.values():
            process.send_signal(signal.SIGKILL)
        for process in self.processes.values():
            process.wait(10)
        self.processes = {}
        run("ip", "netns", "del", NAMESPACE, check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    # For clients.

    def client_options(self):
        """The lines of a torrc that make a client use this network and no other."""
        return ["TestingTorNetwork 1", "PathsNeededToBuildCircuits 0.25", "AssumeReachable 1", *self.authority_lines]

    def wait_usable(self, seconds=90):
        """Until every authority, relay and exit has a consensus with all exits; clients get it from any of them."""
        try:
            until(self._usable, "a consensus with exits everywhere", seconds, every=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.last_words()}") from None
        return self

    def bridge(self):
        """Starts a bridge, which no consensus lists, unless there is one. Its line for clients, plain and obfs4."""
        directory = f"{self.directory}/bridge"
        if "bridge" not in self.processes:
            run("ip", "-n", NAMESPACE, "addr", "add", BRIDGE + "/32", "dev", "lo")
            os.makedirs(directory, mode=0o700)
            self._write("bridge", [
                f"ORPort {BRIDGE}:9001", f"Address {BRIDGE}", f"OutboundBindAddress {BRIDGE}", "BridgeRelay 1",
                "PublishServerDescriptor 0", "ExitPolicy reject *:*", "ExtORPort auto",
                "ServerTransportPlugin obfs4 exec /usr/bin/obfs4proxy",
                f"ServerTransportListenAddr obfs4 {BRIDGE}:{BRIDGE_OBFS4_PORT}", *self.authority_lines])
            self._launch("bridge")

        def made():
            words = [line.split() for line in self._lines("bridge", "fingerprint")]
            offers = [line.split() for line in self._lines("bridge", "pt_state/obfs4_bridgeline.txt") if line.startswith("Bridge ")]
            return words and offers and self._has_everybody("bridge") and (words[0][1], offers[0][-2:])
        try:
            fingerprint, certificate = until(made, "the bridge is there", 60, every=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.last_words()}") from None
        return {"plain": f"{BRIDGE}:9001 {fingerprint}",
                "obfs4": f"obfs4 {BRIDGE}:{BRIDGE_OBFS4_PORT} {fingerprint} {' '.join(certificate)}"}

    def last_words(self):
        """The end of every process's log, for a failed test."""
        return "".join(f"-- {name}\n" + "".join(self._lines(name, "log")[-4:]) for name in self.processes)

    # Details.

    def _usable(self):
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise AssertionError(f"{name} ended with {process.returncode}\n{self.last_words()}")
        return all(self._has_everybody(name) for name in self.processes)

    def _has_everybody(self, name):
        """Whether the consensus in use at a process lists every router, and all exits as such."""
        consensus = self._lines(name, "cached-microdesc-consensus")
        exits = [line for line in consensus if line.startswith("s ") and " Exit " in line and " Running " in line]
        routers = [line for line in consensus if line.startswith("r ")]
        return len(exits) == len(EXITS) and len(routers) == len(AUTHORITIES) + len(RELAYS) + len(EXITS)

    def _lines(self, name, file):
        try:
            with open(f"{self.directory}/{name}/{file}", errors="replace") as opened:
                return opened.readlines()
        except FileNotFoundError:
            return []

    def _make_authorities(self):
        making = []
        for name, address in AUTHORITIES.items():
            keys = f"{self.directory}/{name}/keys"
            os.makedirs(keys, mode=0o700)
            os.chmod(f"{self.directory}/{name}", 0o700)
            making.append(subprocess.Popen(
                ["tor-gencert", "--create-identity-key", "-m", "12", "-a", f"{address}:7000", "--passphrase-fd", "0"],
                cwd=keys, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            making[-1].stdin.write(b"lab\n")
            making[-1].stdin.close()
        for process in making:
            if process.wait(60 * SLOW) != 0:
                raise RuntimeError("tor-gencert failed")
        identities, printing = {}, {}
        for name, address in AUTHORITIES.items():
            identities[name] = self._identity(name)
            self._write(name, self._authority_options(address))
            # An authority wants to know some authority before it prints even its own fingerprint.
            some = f"x orport=1 v3ident={identities[name]} 127.0.0.1:1 {'0' * 40}"
            printing[name] = subprocess.Popen(
                ["tor", "--quiet", "-f", self._torrc(name), "--DirAuthority", some, "--list-fingerprint"],
                stdout=subprocess.PIPE, text=True)
        for name, address in AUTHORITIES.items():
            words = printing[name].communicate(timeout=60 * SLOW)[0].strip().splitlines()[-1].split()
            self.authority_lines.append(f"DirAuthority {name} orport=9001 no-v2 v3ident={identities[name]} {address}:7000 "
                                        + "".join(words[1:]))
        for name, address in AUTHORITIES.items():
            self._write(name, self._authority_options(address) + self.authority_lines)

    def _identity(self, name):
        with open(f"{self.directory}/{name}/keys/authority_certificate") as file:
            return re.search(r"^fingerprint (\w+)$", file.read(), re.MULTILINE).group(1)

    @staticmethod
    def _authority_options(address):
        return [f"ORPort {address}:9001", f"DirPort {address}:7000", f"Address {address}", f"OutboundBindAddress {address}",
                "AuthoritativeDirectory 1", "V3AuthoritativeDirectory 1", "ExitPolicy reject *:*"]

    def _write_relay(self, name, address):
        os.makedirs(f"{self.directory}/{name}", mode=0o700)
        options = [f"ORPort {address}:9001", f"Address {address}", f"OutboundBindAddress {address}", *self.authority_lines]
        if name in EXITS:
            options += ["ExitRelay 1", EXIT_POLICY, f"ServerDNSResolvConfFile {self.directory}/resolv.conf",
                        "ServerDNSDetectHijacking 0", "ServerDNSTestAddresses", "ServerDNSAllowBrokenConfig 1"]
        else:
            options += ["ExitPolicy reject *:*"]
        self._write(name, options)

    def _write(self, name, options):
        directory = f"{self.directory}/{name}"
        lines = [
            "TestingTorNetwork 1", f"DataDirectory {directory}", f"Nickname {name}", f"Log notice file {directory}/log",
            "ContactInfo none", "SocksPort 0", "AssumeReachable 1", "PathsNeededToBuildCircuits 0.25",
            "TestingDirAuthVoteGuard *", "TestingDirAuthVoteHSDir *", "TestingMinExitFlagThreshold 0",
            "V3AuthNIntervalsValid 4",
            f"TestingV3AuthInitialVotingInterval {INITIAL_INTERVAL}", f"TestingV3AuthInitialVoteDelay {DELAY}",
            f"TestingV3AuthInitialDistDelay {DELAY}",
            f"V3AuthVotingInterval {INTERVAL}", f"V3AuthVoteDelay {DELAY}", f"V3AuthDistDelay {DELAY}",
        ]
        with open(self._torrc(name), "w") as file:
            file.write("\n".join(lines + options) + "\n")

    def _torrc(self, name):
        return f"{self.directory}/{name}/torrc"

    def _launch(self, name):
        self.processes[name] = subprocess.Popen(in_namespace(NAMESPACE, "tor", "--quiet", "-f", self._torrc(name)),
                                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

    @staticmethod
    def _listens(address, port):
        listening = run(*in_namespace(NAMESPACE, "ss", "-Hltn", f"src {address} sport = {port}"))
        return bool(listening.strip())


_shared = None


def shared(lab):
    """The network of this test run, attached to a lab. It ends with the run."""
    global _shared
    if _shared is None or not _shared.processes:
        _shared = TorNetwork(lab).start()
        atexit.register(_shared.close)
    elif _shared.lab is not lab:
        _shared.attach(lab)
    return _shared


def started():
    """The network of this test run, if there is one."""
    return _shared
