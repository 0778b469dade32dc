"""The demo behind scripts/demo: a gateway, an unchanged client and a web server in namespaces of their own."""

import argparse
import html
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import lab  # noqa: E402
import tor_network  # noqa: E402
from client import ApiError, Client  # noqa: E402
from lab import GATEWAY, TORNADOCTL, WEB, Gateway, Lab, fetch, in_namespace, resolve, until  # noqa: E402

BOLD, PLAIN = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")


class Demo:
    def __init__(self, keep, private_tor):
        self.keep, self.private_tor = keep, private_tor
        self.lab = self.gateway = self.client = self.network = None
        self.number = 0

    def headline(self, text):
        self.number += 1
        print(f"\n{BOLD}{self.number}. {text}{PLAIN}", flush=True)

    def show(self, *words, typed=None, stdin=""):
        """Prints a command and what it says."""
        print(f"   $ {typed or shlex.join(words)}")
        done = subprocess.run(words, input=stdin, capture_output=True, text=True)
        for line in (done.stdout + done.stderr).splitlines():
            print(f"   {line}")
        if done.returncode != 0:
            raise SystemExit(f"demo: the command ended with {done.returncode}")

    def ctl(self, *words, stdin="", pipe=""):
        self.show(TORNADOCTL, "--socket", self.gateway.control, *words, typed=f"{pipe}tornadoctl {shlex.join(words)}", stdin=stdin)

    def run(self):
        self.headline("A gateway on its defaults: wireguard-go, nftables, SQLite")
        self.lab = Lab(1)
        if self.private_tor:
            self.network = tor_network.TorNetwork(self.lab)
            self.network.start()  # it votes while the rest goes on
        self.gateway = Gateway("demo", session__sample_interval=1, auth__hash_memory_kib=65536, auth__hash_passes=3, auth__hash_lanes=4)
        self.gateway.start()
        steps = [line["step"] for line in self.gateway.logged("start_step")]
        print(f"   tornadod {self.gateway.process.pid} is ready: {' -> '.join(steps)}")
        self.ctl("gateway", "health")

        self.headline("An account")
        self.ctl("user", "add", "alice", "--email", "alice@example.org", "--password-stdin", stdin="correct horse\n", pipe="echo 'correct horse' | ")

        self.headline(f"A client in another namespace signs in at http://{GATEWAY}:4605 and asks for a tunnel")
        self.client = Client("c0", "alice")
        self.client.login()
        print(f"   POST /auth/login    200  device {self.client.device}")
        tunnel = self.client.initiate()
        print(f"   POST /vpn/initiate  200  vpn {tunnel['vpn']['ip']} at {tunnel['vpn']['endpoint']}, tor {tunnel['tor']['ip']} at {tunnel['tor']['endpoint']}")

        self.headline("Its tunnel, with stock WireGuard")
        self.client.up()
        until(lambda: fetch("c0", timeout=1), "traffic", 10)
        self.show(*in_namespace("c0", "wg", "show", self.client.interface), typed=f"wg show {self.client.interface}")

        self.headline("The internet, through the vpn lane")
        self.lab.web.seen.clear()
        page = fetch("c0")
        print(f"   GET http://{WEB}/  ->  {page.strip()!r}; the server saw {self.lab.web.seen[0]} (the gateway)")
        print(f"   DNS www.example.org at {self.client.dns()}  ->  {resolve('c0', self.client.dns())}")
        print(f"   POST /session/heartbeat through the tunnel  ->  {self.client.heartbeat().status}")

        self.headline("What the operator sees")
        until(lambda: (s := self.gateway.sessions()) and s[0]["bytes_rx"] > 0 and s[0]["lane"], "counters", 10)
        self.ctl("session", "list")
        self.ctl("peer", "list")
        if self.keep and not self.private_tor:
            return self.stay()

        self.headline("Suspended: packets stop, tokens are refused, the end is recorded")
        self.ctl("user", "suspend", "alice")
        if fetch("c0", timeout=2) is not None:
            raise SystemExit("demo: traffic still flows")
        print(f"   GET http://{WEB}/  ->  no answer")
        self.client.down()
        print(f"   POST /session/heartbeat  ->  {self.client.heartbeat()}")
        self.ctl("session", "history")
        if self.private_tor:
            self.run_tor()
            if self.keep:
                self.stay()

    def run_tor(self):
        """The tor lane: through Tor, then its maintenance, then through Tor again."""
        self.headline("A Tor network of its own: 3 authorities, 2 relays, 2 exits, no internet")
        began = time.monotonic()
        self.network.wait_usable()
        print(f"   all of them agree on who is there (waited {time.monotonic() - began:.0f} s for it); "
              f"the exits are {' and '.join(self.network.exit_addresses)}")

        self.headline("The gateway with a tor of its own, and how far that is")
        self.gateway.stop()
        self.gateway.settings.update({"tor.launch": "supervised", "tor.options": self.network.client_options(), "tor.probe_name": "www.example.org"})
        self.gateway.start()
        self.ctl("tor", "watch", "--until-up")
        self.ctl("tor", "status")

        self.headline("The same client signs in as somebody else and takes the tor lane")
        self.ctl("user", "add", "bob", "--email", "bob@example.org", "--password-stdin", stdin="correct horse\n", pipe="echo 'correct horse' | ")
        self.client = Client("c0", "bob").login()
        self.client.connect("tor")
        self.tor_page()
        print(f"   DNS www.example.org at 9.9.9.9  ->  {until(lambda: resolve('c0', '9.9.9.9', timeout=8), 'an answer', 20)}, asked by an exit")
        self.ctl("tor", "circuits", "--device", self.client.device)

        self.headline("tor down: a page that says so, and nothing beside it")
        self.ctl("tor", "down")
        self.maintenance_page()
        print(f"   POST /session/heartbeat through the tunnel  ->  {self.client.heartbeat().status}")

        self.headline("tor up: the page from before, through the same tunnel")
        began = time.monotonic()
        self.ctl("tor", "up")
        self.tor_page()
        print(f"   {time.monotonic() - began:.1f} s after tornadoctl tor up")

    def tor_page(self):
        """The web server's page through Tor."""
        self.lab.web.seen.clear()
        page = until(lambda: (body := fetch("c0", timeout=4)) == self.lab.web.PAGE and body, "the page through tor", 30)
        saw = set(self.lab.web.seen)
        if not saw <= set(self.network.exit_addresses):
            raise SystemExit(f"demo: the server saw {saw}")
        print(f"   GET http://{WEB}/  ->  {page.strip()!r}; the server saw {', '.join(sorted(saw))} (an exit)")

    def maintenance_page(self):
        self.lab.web.seen.clear()
        page = until(lambda: (body := fetch("c0")) != self.lab.web.PAGE and body, "the maintenance page", 10)
        text = re.sub(r"<(style|title|head)\b.*?</\1>", " ", page, flags=re.DOTALL)
        lines = [" ".join(html.unescape(line).split()) for line in re.sub(r"<[^>]+>", "\n", text).splitlines()]
        print(f"   GET http://{WEB}/  ->")
        for line in filter(None, lines):
            print(f"      | {line}")
        if self.lab.web.seen:
            raise SystemExit(f"demo: the server saw {self.lab.web.seen}")
        print("   the server saw nothing")

    def stay(self):
        outer = os.environ["TORNADO_DEMO_PID"]
        print(f"""
{BOLD}Running.{PLAIN} From another terminal, as root:
   inside="nsenter -m -p -n -t $(pgrep -P {outer})"
   $inside {TORNADOCTL} --socket {self.gateway.control} session list
   $inside nsenter --net=/run/netns/c0 curl http://{WEB}/            as the client
   $inside nsenter --net=/run/netns/gw nft list table inet tornado   on the gateway
To end it: Ctrl-C here, or kill $(pgrep -P {outer})""", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print()

    def close(self):
        if self.client:
            self.client.down()
        if self.gateway:
            self.gateway.stop()
        if self.network:
            self.network.close()
        if self.lab:
            self.lab.close()


def main():
    parser = argparse.ArgumentParser(prog="scripts/demo", description="A gateway, a client and the internet in namespaces, in half a minute.")
    parser.add_argument("--keep", action="store_true", help="leave it running and say how to talk to it")
    parser.add_argument("--private-tor", action="store_true", help="go on with the tor lane, on a Tor network of its own")
    options = parser.parse_args()
    os.environ.setdefault("TORNADO_DEMO_PID", str(os.getpid()))
    lab.enter()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    demo = Demo(options.keep, options.private_tor)
    try:
        demo.run()
    except KeyboardInterrupt:
        print("\ndemo: interrupted")
        sys.exit(130)
    except (AssertionError, OSError, RuntimeError, ApiError) as error:
        sys.exit(f"demo: failed: {error}")
    finally:
        demo.close()
    print("\ndemo: ok")


if __name__ == "__main__":
    main()
