"""An unchanged client, written from the contract alone; nothing of Tornado is used in it."""

import http.client
import json
import os
import re
import subprocess

from lab import API_PORT, GATEWAY, SLOW, WORK, Lab, in_namespace, inside, run, until
from sealing import key_pair, seal


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

    RULES = (("not", "fwmark", "51820", "table", "51820"), ("table", "main", "suppress_prefixlength", "0"))

    @property
    def interface(self):
        return "wg-" + self.namespace

    def start_wireguard(self):
        name, said = self.interface, f"{WORK}/{self.interface}.log"
        environment = {"LOG_LEVEL": "verbose", "WG_PROCESS_FOREGROUND": "1", "PATH": os.environ["PATH"]}
        with open(said, "w") as log:
            self.process = subprocess.Popen(in_namespace(self.namespace, "wireguard-go", "-f", name), stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, start_new_session=True, env=environment)

        def words():
            with open(said) as log:
                return f"wireguard-go of {name}, which has said: {log.read()[-2000:] or 'nothing'}"

        def listens():
            if self.process.poll() is not None:
                raise AssertionError("ended: " + words())
            return os.path.exists(f"/run/wireguard/{name}.sock")
        until(listens, words, 10)

    def up(self, lane="vpn"):
        """What wg-quick does with the configuration of contract 13.4."""
        access = self.tunnel[lane]
        port = access["endpoint"].split(":")[-1]
        name, ns = self.interface, self.namespace
        self.start_wireguard()
        key = f"{WORK}/{name}.key"
        with open(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(self.private + "\n")
        run(*in_namespace(ns, "wg", "set", name, "private-key", key, "fwmark", "51820", "peer", access["server_pubkey"],
                          "endpoint", f"{self.host}:{port}", "allowed-ips", "0.0.0.0/0,::/0", "persistent-keepalive", "25"))
        Lab.ip(ns, "addr", "add", access["ip"] + "/32", "dev", name)
        Lab.ip(ns, "link", "set", name, "mtu", "1420", "up")
        Lab.ip(ns, "route", "add", "default", "dev", name, "table", "51820")
        for rule in self.RULES:
            Lab.ip(ns, "rule", "add", *rule)
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
        for rule in self.RULES:
            # One that did not come up whole may not have them.
            run("ip", "-n", self.namespace, "rule", "del", *rule, check=False)
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

    REKEY_AFTER = 120  # seconds; a tunnel in use makes a new handshake then (WireGuard: REKEY_AFTER_TIME)

    def still_has(self, handshake):
        """The tunnel has not begun anew since that handshake, but for one whose time had come."""
        now = self.handshake()
        return now == handshake or now - handshake >= self.REKEY_AFTER
