"""Namespaces and a gateway for the system suite and the demo.

Everything lives in one pid, mount and network namespace that `enter` makes, so that nothing is left behind however the
run ends.
"""

import ctypes
import http.client
import json
import os
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
import weakref
from contextlib import contextmanager

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TORNADOD = os.environ.get("TORNADOD", ROOT + "/build/dev/apps/tornadod")
TORNADOCTL = os.environ.get("TORNADOCTL", ROOT + "/build/dev/apps/tornadoctl")
WORK = "/mnt/lab"  # on a tmpfs of ours
API_PORT = 4605
WEB = "192.0.2.80"
DNS = "192.0.2.53"
GATEWAY = "198.51.100.2"
PUBLIC = "198.51.100.77"  # of a gateway behind 1:1 NAT; no interface has it
INSIDE = "10.77.0.2"
STEPS = ["config", "database_migrated", "keys_ready", "firewall_applied", "links_up", "state_restored",
         "peers_reconciled", "live_connected", "tor_attached", "listening"]
# Sanitizers and debug builds are slow; every deadline is multiplied.
SLOW = float(os.environ.get("TORNADO_SLOW", "1"))
# A directory with signing keys for every gateway: where there is no KVM, to make some takes long.
LENT_KEYS = os.environ.get("TORNADO_TEST_KEYS")


def enter():
    """Runs the calling script again inside namespaces of its own, below a process that reaps orphans. Returns inside."""
    if os.environ.get("TORNADO_LAB_INSIDE") == "1":
        return
    if os.geteuid() != 0:
        sys.exit("namespaces, TUN and nftables need root")
    if os.environ.get("TORNADO_LAB_INSIDE") != "init":
        os.environ["TORNADO_LAB_INSIDE"] = "init"
        os.execvp("unshare", ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc",
                              "--propagation", "private", sys.executable] + sys.argv)
    for directory in ("/run/netns", "/run/wireguard"):
        os.makedirs(directory, exist_ok=True)
    for directory in ("/run/netns", "/run/wireguard", "/mnt"):
        subprocess.run(["mount", "-t", "tmpfs", "lab", directory], check=True)
    os.makedirs(WORK)
    run("ip", "link", "set", "lo", "up")
    os.environ["TORNADO_LAB_INSIDE"] = "1"
    child = os.fork()
    if child == 0:
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, frame: os.kill(child, got))
    while True:
        try:
            pid, status = os.wait()
        except InterruptedError:
            continue
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


# For whoever asks what a run hangs on.
waiting_for = None
gateways = weakref.WeakSet()
FEWEST_LOOKS, LONGEST_WAIT = 10, 5


def until(condition, what, seconds=10.0, every=0.03):
    """Polls until the condition is true and returns its value. `what`: text, or a function that makes it at the end.

    The last look begins after the time is up. From one look to the next no more than a part of the time goes by: a
    machine that stood still has given nobody else the time either.
    """
    global waiting_for
    waiting_for = what
    patience, gone_by = seconds * SLOW, 0.0
    begun = before = time.monotonic()
    while True:
        now = time.monotonic()
        gone_by += min(now - before, patience / FEWEST_LOOKS)
        before = now
        late = gone_by >= patience or now - begun >= LONGEST_WAIT * patience
        value = condition()
        if value:
            return value
        if late:
            raise AssertionError(f"not within {patience:g} s: {what() if callable(what) else what}")
        time.sleep(every)


def run(*words, text=None, check=True):
    done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=60 * SLOW)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.returncode}: {done.stderr.strip()}")
    return done.stdout


# Network namespaces ---------------------------------------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


@contextmanager
def inside(namespace):
    """The calling thread works in a network namespace; sockets made meanwhile stay in it."""
    with open("/proc/thread-self/ns/net") as home, open("/run/netns/" + namespace) as there:
        if _libc.setns(there.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns " + namespace)
        try:
            yield
        finally:
            _libc.setns(home.fileno(), _CLONE_NEWNET)


def in_namespace(namespace, *words):
    return ["nsenter", "--net=/run/netns/" + namespace, "--", *words]


def connect(namespace, host, port, timeout=5.0):
    with inside(namespace):
        return socket.create_connection((host, port), timeout=timeout * SLOW)


class Lab:
    """Namespaces `gw`, `net` (the internet, and a router between the others) and clients `c0`, `c1` ..."""

    def __init__(self, clients=1):
        self.servers = []
        self.names = ["gw", "net"] + [f"c{i}" for i in range(clients)]
        for name in self.names:
            run("ip", "netns", "add", name)
            self.ip(name, "link", "set", "lo", "up")
        for address in (WEB, DNS):
            self.ip("net", "addr", "add", address + "/32", "dev", "lo")
        self.sysctl("net", "net/ipv4/ip_forward", "1")
        self.link("gw", "eth0", GATEWAY, "togw", "198.51.100.1", 24)
        # A second address block and 1:1 NAT for a gateway that does not have the address its clients know.
        self.ip("gw", "addr", "add", INSIDE + "/24", "dev", "eth0")
        self.ip("net", "addr", "add", "10.77.0.1/24", "dev", "togw")
        run(*in_namespace("net", "nft", "-f", "-"), text=f"""
            table ip lab {{
              chain in {{ type nat hook prerouting priority dstnat; ip daddr {PUBLIC} dnat to {INSIDE}; }}
              chain out {{ type nat hook postrouting priority srcnat; ip saddr {INSIDE} oif != "togw" snat to {PUBLIC}; }}
            }}""")
        for i in range(clients):
            base = 4 * i
            self.link(f"c{i}", "eth0", f"203.0.113.{base + 2}", f"toc{i}", f"203.0.113.{base + 1}", 30)
        self.web = WebServer(self)
        self.dns = DnsServer(self)
        self.echo = EchoServer(self)

    def link(self, name, interface, address, router_interface, router_address, length):
        run("ip", "link", "add", interface, "netns", name, "type", "veth", "peer", "name", router_interface, "netns", "net")
        self.ip(name, "addr", "add", f"{address}/{length}", "dev", interface)
        self.ip("net", "addr", "add", f"{router_address}/{length}", "dev", router_interface)
        self.ip(name, "link", "set", interface, "up")
        self.ip("net", "link", "set", router_interface, "up")
        self.ip(name, "route", "add", "default", "via", router_address)

    @staticmethod
    def ip(namespace, *words):
        return run("ip", "-n", namespace, *words)

    @staticmethod
    def sysctl(namespace, name, value):
        with inside(namespace), open("/proc/thread-self/root/proc/sys/" + name, "w") as file:
            file.write(value)

    def close(self):
        for server in self.servers:
            server.close()
        for name in self.names:
            for pid in run("ip", "netns", "pids", name, check=False).split():
                if int(pid) != os.getpid():
                    try:
                        os.kill(int(pid), signal.SIGKILL)
                    except ProcessLookupError:
                        pass
            run("ip", "netns", "del", name, check=False)
        for name in os.listdir("/run/wireguard"):
            os.unlink("/run/wireguard/" + name)


class _Threaded:
    """A server of socketserver in the internet namespace."""

    def __init__(self, lab, server_class, address, handler):
        server_class.allow_reuse_address = True
        server_class.daemon_threads = True
        with inside("net"):
            self.server = server_class(address, handler)
        self.server.owner = self
        self.seen = []
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        lab.servers.append(self)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class WebServer(_Threaded):
    """Answers every GET with a page and records the address each request came from."""
    PAGE = "hello from the internet\n"

    def __init__(self, lab):
        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                line = self.rfile.readline()
                while self.rfile.readline().strip():
                    pass
                if line:
                    self.server.owner.seen.append(self.client_address[0])
                    body = WebServer.PAGE.encode()
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
        super().__init__(lab, socketserver.ThreadingTCPServer, (WEB, 80), Handler)


class DnsServer(_Threaded):
    """Answers every query for an address with that of the web server."""

    def __init__(self, lab):
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                query, sock = self.request
                self.server.owner.seen.append(self.client_address[0])
                end = query.index(b"\0", 12) + 5
                answer = query[:2] + b"\x81\x80" + query[4:6] + b"\0\1\0\0\0\0" + query[12:end]
                answer += b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(WEB)
                sock.sendto(answer, self.client_address)
        super().__init__(lab, socketserver.ThreadingUDPServer, (DNS, 53), Handler)


class EchoServer(_Threaded):
    PORT = 7007

    def __init__(self, lab):
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                try:
                    while data := self.request.recv(65536):
                        self.request.sendall(data)
                except OSError:
                    pass
        super().__init__(lab, socketserver.ThreadingTCPServer, (WEB, EchoServer.PORT), Handler)


class Transfer:
    """Numbers sent through a TCP connection to the echo server, without a pause, and checked when they come back."""

    def __init__(self, namespace):
        self.sock = connect(namespace, WEB, EchoServer.PORT)
        self.sock.settimeout(30 * SLOW)
        self.rounds, self.error, self.stopping = 0, None, False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while not self.stopping:
                block = struct.pack("!Q", self.rounds) * 512
                self.sock.sendall(block)
                back = b""
                while len(back) < len(block):
                    got = self.sock.recv(65536)
                    if not got:
                        raise ConnectionError("closed")
                    back += got
                if back != block:
                    raise ConnectionError("wrong bytes")
                self.rounds += 1
        except OSError as error:
            self.error = error

    def goes_on(self, seconds=15):
        """Waits for progress from now on."""
        start = self.rounds

        def moved():
            if self.error:
                raise AssertionError(f"the transfer broke: {self.error}")
            return self.rounds > start + 3
        until(moved, "progress of the transfer", seconds)

    def close(self):
        self.stopping = True
        self.sock.close()
        self.thread.join(5)


def fetch(namespace, host=WEB, port=80, timeout=4.0):
    """The body of a page, or None if it cannot be had."""
    connection = None
    try:
        with inside(namespace):
            connection = http.client.HTTPConnection(host, port, timeout=timeout * SLOW)
            connection.request("GET", "/")
            return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        if connection:
            connection.close()


def resolve(namespace, server, name="www.example.org", timeout=8.0):
    """The address a DNS server answers with, or None."""
    query = os.urandom(2) + b"\1\0\0\1\0\0\0\0\0\0"
    query += b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0\0\1\0\1"
    with inside(namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.settimeout(timeout * SLOW)
        try:
            sock.sendto(query, (server, 53))
            answer, source = sock.recvfrom(2048)
        except OSError:
            return None
    if source[0] != server or answer[:2] != query[:2]:
        return None
    return socket.inet_ntoa(answer[-4:])


# The gateway ----------------------------------------------------------------------------------------------------------

class ControlError(Exception):
    def __init__(self, error):
        super().__init__(error.get("message"))
        self.code = (error.get("data") or {}).get("code")


class Gateway:
    """A tornadod in the gateway namespace with a state directory of its own."""

    DEFAULTS = {
        "dns.upstream": DNS, "auth.hash_memory_kib": 256, "auth.hash_passes": 1, "auth.hash_lanes": 1,
        "session.sample_interval": 1, "session.reconcile_interval": 2, "endpoint.host": GATEWAY, "tor.launch": "none",
        # Under a kernel with WireGuard the suites run on it; what they say about processes is about wireguard-go.
        "wireguard.backend": os.environ.get("TORNADO_TEST_BACKEND", "userspace"),
    }

    def __init__(self, name="gw", **settings):
        self.directory = f"{WORK}/{name}"
        self.state = self.directory + "/state"
        self.runtime = self.directory + "/run"
        self.control = self.runtime + "/control.sock"
        os.makedirs(self.directory, exist_ok=True)
        if LENT_KEYS and not os.path.exists(self.state):
            os.mkdir(self.state, 0o700)
            shutil.copytree(LENT_KEYS, self.state + "/keys")
        self.settings = dict(self.DEFAULTS)
        self.settings.update({key.replace("__", "."): value for key, value in settings.items()})
        self.process = None
        # Empty unless a test writes into it; what the settings have goes before.
        self.file = self.directory + "/tornado.json"
        self.write_configuration({})
        self.lines = []
        self.other_output = []
        gateways.add(self)

    def write_configuration(self, tree):
        with open(self.file, "w") as file:
            file.write(tree if isinstance(tree, str) else json.dumps(tree))

    def command(self):
        words = [TORNADOD, "--config", self.file, "--state-dir", self.state, "--runtime-dir", self.runtime]
        for key, value in self.settings.items():
            words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
        return words

    def start(self, kill_at=None, wait=True):
        """Starts the daemon. With `kill_at` it is killed as soon as it logs that step."""
        assert self.process is None
        self.process = subprocess.Popen(in_namespace("gw", *self.command()), stderr=subprocess.PIPE, text=True,
                                        start_new_session=True)
        self.lines, self.other_output = [], []
        self.reader = threading.Thread(target=self._read, args=(self.process, self.lines, kill_at), daemon=True)
        self.reader.start()
        if wait and not kill_at:
            began = time.monotonic()
            self.wait_ready()
            if SLOW > 1:
                print(f"[ready after {time.monotonic() - began:.1f} s] ", end="", flush=True)
        return self

    def _read(self, process, lines, kill_at):
        for line in process.stderr:
            try:
                entry = json.loads(line)
            except ValueError:
                self.other_output.append(line)
                continue
            lines.append(entry)
            if kill_at and entry.get("event") == "start_step" and entry.get("step") == kill_at:
                process.kill()

    def wait_ready(self, seconds=90):
        def answers():
            if self.process.poll() is not None:
                self.reader.join(5 * SLOW)
                raise AssertionError(f"tornadod ended with {self.process.returncode}: {''.join(self.other_output)[-3000:]}")
            try:
                return self.get("/health")[0] == 200
            except OSError:
                return False
        until(answers, lambda: f"the gateway is ready; log: {self.lines[-8:]}", seconds)

    def get(self, path, port=API_PORT):
        with inside("gw"):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5 * SLOW)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                return answer.status, answer.read().decode()
            except http.client.HTTPException as error:
                raise OSError(str(error)) from error
            finally:
                connection.close()

    def kill(self):
        if self.process:
            self.process.kill()
            self.gone()

    def gone(self, seconds=20):
        """Waits for the end of the process."""
        try:
            code = self.process.wait(seconds * SLOW)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"tornadod has not ended within {seconds * SLOW:g} s; log: {self.lines[-8:]}") from None
        self.reader.join(5 * SLOW)
        self.process = None
        return code

    def stop(self):
        if not self.process:
            return 0
        self.process.terminate()
        return self.gone()

    def restart(self):
        assert self.stop() == 0, self.other_output
        return self.start()

    def logged(self, event):
        return [line for line in self.lines if line.get("event") == event]

    def sanitizer_output(self):
        return "".join(line for line in self.other_output if line)

    # Operators.

    def ctl(self, *words, stdin="", expect=0, socket_path=None):
        """tornadoctl --json; the decoded document, or the completed process if another status is expected."""
        done = subprocess.run([TORNADOCTL, "--socket", socket_path or self.control, "--json", *words],
                              input=stdin, capture_output=True, text=True, timeout=60 * SLOW)
        if done.returncode != expect:
            raise AssertionError(f"tornadoctl {' '.join(words)}: {done.returncode}, not {expect}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout) if expect == 0 else done

    def call(self, method, path=None, **params):
        """The control socket without tornadoctl."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30 * SLOW)
            sock.connect(path or self.control)
            request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {k.replace("_", "-"): v for k, v in params.items()}}
            sock.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(sock.makefile("rb").readline() or b'{"error": {"message": "closed"}}')
        if "error" in answer:
            raise ControlError(answer["error"])
        return answer["result"]

    def add_user(self, name, password="correct horse", max_devices=1):
        return self.ctl("user", "add", name, "--email", f"{name}@example.org", "--max-devices", str(max_devices),
                        "--password-stdin", stdin=password + "\n")

    def sessions(self):
        return self.call("session.list")

    def history(self, limit=10000):
        return self.call("session.history", limit=limit)

    def peers(self):
        return self.call("peer.list")

    def events(self, name, after=0):
        """Events of a name that are still held."""
        out, last = [], self.call("gateway.status")["last_event"]
        if last <= after:
            return out
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30 * SLOW)
            sock.connect(self.control)
            sock.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "events.subscribe", "params": {"after": after}}).encode() + b"\n")
            for line in sock.makefile("rb"):
                event = json.loads(line)
                if event.get("method") != "event":
                    continue
                if event["params"]["name"] == name:
                    out.append(event["params"])
                if event["params"]["sequence"] >= last:
                    return out
        raise AssertionError(f"the events ended before {last}")

    def wireguard_pids(self):
        """Pids of the wireguard-go processes of this gateway, by interface."""
        found = {}
        for pid in run("ip", "netns", "pids", "gw").split():
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read().decode().split("\0")
            except OSError:
                continue
            if words[0].endswith("wireguard-go"):
                found[words[2]] = int(pid)
        return found

    @staticmethod
    def dump(interface):
        """`wg show IF dump`: (private key, public key, port), {key: (allowed, handshake, received, sent)}."""
        rows = [line.split("\t") for line in run(*in_namespace("gw", "wg", "show", interface, "dump")).splitlines()]
        head = rows[0]
        return head[:3], {row[0]: (row[3], int(row[4]), int(row[5]), int(row[6])) for row in rows[1:]}

    def server_keys(self):
        return {name: self.dump(name)[0][1] for name in ("wg0", "wg1")}
