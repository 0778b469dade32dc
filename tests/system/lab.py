"""Namespaces, a gateway and unchanged clients for the system suite and the demo.

Everything lives in one pid, mount and network namespace that `enter` makes, so that nothing is left behind however the
run ends. The client is written from the contract alone; nothing of Tornado is used in it.
"""

import ctypes
import http.client
import json
import os
import re
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

from sealing import b64, key_pair, public_of, seal  # noqa: F401 (tests take them from here)

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


def until(condition, what, seconds=10.0, every=0.03):
    """Polls until the condition is true and returns its value. `what`: text, or a function that makes it at the end."""
    global waiting_for
    waiting_for = what
    end = time.monotonic() + seconds * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds * SLOW:g} s: {what() if callable(what) else what}")
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


def resolve(namespace, server, name="www.example.org", timeout=2.0):
    """The address a DNS server answers with, or None."""
    query = os.urandom(2) + b"\1\0\0\1\0\0\0\0\0\0"
    query += b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0\0\1\0\1"
    with inside(namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.settimeout(timeout)
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

    def wait_ready(self, seconds=30):
        def answers():
            if self.process.poll() is not None:
                self.reader.join(2)
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
        self.reader.join(5)
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
        out = []
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(0.3 * SLOW)
            sock.connect(self.control)
            sock.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "events.subscribe", "params": {"after": after}}).encode() + b"\n")
            try:
                for line in sock.makefile("rb"):
                    event = json.loads(line)
                    if event.get("method") == "event" and event["params"]["name"] == name:
                        out.append(event["params"])
            except OSError:
                pass
        return out

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


# An unchanged client --------------------------------------------------------------------------------------------------

class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def detail(self):
        return self.json().get("detail")

    def __repr__(self):
        return f"{self.status} {self.body[:200]}"


class ApiError(Exception):
    def __init__(self, answer):
        super().__init__(repr(answer))
        self.answer = answer


class Client:
    """The desktop client of contract section 13: one pooled connection per host, a new key per connect."""

    def __init__(self, namespace, name, host=GATEWAY, password="correct horse"):
        self.namespace, self.name, self.host, self.password = namespace, name, host, password
        self.access = self.refresh = self.device = self.tunnel = self.private = self.public = None
        self.process = None
        self.connection = None

    # HTTP.

    def request(self, method, path, body=None, token=None, timeout=10.0, raw=None, headers=None):
        """A request on the pooled connection, as the HTTP library of the client does it."""
        send = {"Content-Type": "application/json", "User-Agent": "tornado-lab"}
        if token:
            send["Authorization"] = "Bearer " + token
        send.update(headers or {})
        data = raw if raw is not None else json.dumps(body).encode() if body is not None else b"" if method == "POST" else None
        for attempt in (1, 2):
            fresh = self.connection is None
            try:
                with inside(self.namespace):
                    if fresh:
                        self.connection = http.client.HTTPConnection(self.host, API_PORT, timeout=timeout * SLOW)
                        self.connection.connect()
                self.connection.sock.settimeout(timeout * SLOW)
                self.connection.request(method, path, data, send)
                answer = self.connection.getresponse()
                out = Answer(answer.status, answer.headers, answer.read().decode())
                if answer.will_close:
                    self.hang_up()
                return out
            except (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected):
                self.hang_up()
                if fresh or attempt == 2:
                    raise
            except OSError:
                self.hang_up()
                raise

    def hang_up(self):
        if self.connection:
            self.connection.close()
            self.connection = None

    def good(self, answer):
        if answer.status >= 400:
            raise ApiError(answer)
        return answer.json()

    # The API.

    def server_key(self):
        return self.good(self.request("GET", "/auth/pubkey", timeout=5))["pubkey"]

    def sign_in(self, name=None, password=None):
        text = json.dumps({"username_or_email": name or self.name, "password": password or self.password}).encode()
        return self.request("POST", "/auth/login", seal(self.server_key(), text))

    def login(self):
        answer = self.good(self.sign_in())
        self.access, self.refresh = answer["tokens"]["access_token"], answer["tokens"]["refresh_token"]
        self.device, self.user = answer["device_id"], answer["user"]["id"]
        return self

    def reauth(self, token=None):
        answer = self.request("POST", "/auth/reauth", {"refresh_token": token or self.refresh})
        if answer.status < 400 and token is None:
            tokens = answer.json()["tokens"]
            self.access, self.refresh = tokens["access_token"], tokens["refresh_token"]
        return answer

    def logout(self):
        return self.good(self.request("POST", "/auth/logout", {"refresh_token": self.refresh}))

    def initiate(self, pair=None):
        self.private, self.public = pair or key_pair()
        answer = self.request("POST", "/vpn/initiate", {"public_key": self.public}, self.access)
        self.tunnel = self.good(answer)
        return self.tunnel

    def heartbeat(self, timeout=5.0):
        return self.request("POST", "/session/heartbeat", token=self.access, timeout=timeout)

    def disconnect(self):
        return self.request("POST", "/session/disconnect", token=self.access)

    # The tunnel.

    @property
    def interface(self):
        return "wg-" + self.namespace

    def up(self, lane="vpn"):
        """What wg-quick does with the configuration of contract 13.4."""
        access = self.tunnel[lane]
        port = access["endpoint"].split(":")[-1]
        name, ns = self.interface, self.namespace
        self.process = subprocess.Popen(in_namespace(ns, "wireguard-go", "-f", name), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        start_new_session=True, env={"LOG_LEVEL": "error", "WG_PROCESS_FOREGROUND": "1", "PATH": os.environ["PATH"]})
        until(lambda: os.path.exists(f"/run/wireguard/{name}.sock"), "wireguard-go of the client", 5)
        key = f"{WORK}/{name}.key"
        with open(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(self.private + "\n")
        run(*in_namespace(ns, "wg", "set", name, "private-key", key, "fwmark", "51820", "peer", access["server_pubkey"],
                          "endpoint", f"{self.host}:{port}", "allowed-ips", "0.0.0.0/0,::/0", "persistent-keepalive", "25"))
        Lab.ip(ns, "addr", "add", access["ip"] + "/32", "dev", name)
        Lab.ip(ns, "link", "set", name, "mtu", "1420", "up")
        Lab.ip(ns, "route", "add", "default", "dev", name, "table", "51820")
        Lab.ip(ns, "rule", "add", "not", "fwmark", "51820", "table", "51820")
        Lab.ip(ns, "rule", "add", "table", "main", "suppress_prefixlength", "0")
        self.lane = lane
        return self

    def down(self):
        if not self.process:
            return
        self.process.kill()
        self.process.wait(20 * SLOW)
        self.process = None
        # A line from before the tunnel went is of no use any more, as for the client's HTTP library.
        self.hang_up()
        Lab.ip(self.namespace, "rule", "del", "not", "fwmark", "51820", "table", "51820")
        Lab.ip(self.namespace, "rule", "del", "table", "main", "suppress_prefixlength", "0")
        until(lambda: self.interface not in run("ip", "-n", self.namespace, "link"), "the interface goes", 5)
        try:
            os.unlink(f"/run/wireguard/{self.interface}.sock")
        except FileNotFoundError:
            pass

    def toggle(self, lane):
        """The Tor switch: the other lane with the stored answer, without an API call."""
        self.down()
        return self.up(lane)

    def connect(self, lane="vpn"):
        self.down()
        self.initiate()
        return self.up(lane)

    def dns(self):
        """The resolver the client derives from its address."""
        return re.sub(r"\d+$", "1", self.tunnel[self.lane]["ip"])

    def handshake(self):
        """Time of the last handshake as the client sees it, 0: none."""
        return int(run(*in_namespace(self.namespace, "wg", "show", self.interface, "latest-handshakes")).split()[1])
