"""WireGuard of the kernel as the data plane: no process behind the lanes, and links that come back. Only under a kernel
that has it, which is the vm suite; it fails elsewhere."""

import signal
import time
import unittest

from lab import GATEWAY, Gateway, Transfer, fetch, in_namespace, run
from support import LabCase, inconsistencies, until


class Kernel(LabCase):
    SETTINGS = {"wireguard.backend": "auto"}

    def test_the_kernel_is_chosen_and_told(self):
        status = self.gateway.ctl("gateway", "status")
        self.assertEqual((status["wireguard_backend"], status["wireguard_reason"]), ("kernel", "the module answers"))
        said = self.gateway.logged("wireguard_backend")
        self.assertEqual([(line["backend"], line["reason"]) for line in said], [("kernel", "the module answers")])
        self.assertEqual(self.gateway.wireguard_pids(), {})
        for name in ("wg0", "wg1"):
            self.assertIn("wireguard", run("ip", "-n", "gw", "-details", "link", "show", name))

    def assert_restart_unnoticed(self, end):
        client = self.client().connect()
        transfer = Transfer("c0")
        self.addCleanup(transfer.close)
        transfer.goes_on()
        keys, handshake = self.gateway.server_keys(), client.handshake()
        end()
        transfer.goes_on()
        self.gateway.start()
        transfer.goes_on()
        self.assertEqual(self.gateway.server_keys(), keys)
        self.assertTrue(client.still_has(handshake))
        self.assertEqual(client.heartbeat().status, 200)
        self.assertEqual(inconsistencies(self.gateway), [])
        self.assertIsNone(transfer.error)

    def test_a_transfer_goes_on_across_stop_and_start(self):
        self.assert_restart_unnoticed(self.gateway.stop)

    def test_a_transfer_goes_on_across_kill_9(self):
        self.assert_restart_unnoticed(self.gateway.kill)

    def test_a_link_that_was_removed_comes_back_with_its_peers(self):
        client = self.client().connect()
        self.assertIsNotNone(fetch("c0"))
        keys, start = self.gateway.server_keys(), time.monotonic()
        run("ip", "-n", "gw", "link", "del", "wg0")

        def has_its_peer():
            shown = run(*in_namespace("gw", "wg", "show", "wg0", "peers"), check=False)
            return client.public in shown
        until(has_its_peer, "the peer again", 10)
        back = time.monotonic() - start
        until(lambda: fetch("c0", timeout=1), "traffic again", 30)
        print(f"[link removed: peers again after {back:.1f} s, traffic after {time.monotonic() - start:.1f} s] ", end="", flush=True)
        self.assertEqual(self.gateway.server_keys(), keys)
        self.assertEqual([line["interface"] for line in self.gateway.logged("interface_lost")], ["wg0"])
        self.assertEqual(client.heartbeat().status, 200)
        until(lambda: not inconsistencies(self.gateway), "a consistent state", 10)

    def test_a_link_that_was_renamed_gets_its_name_back(self):
        client = self.client().connect()
        self.assertIsNotNone(fetch("c0"))
        index = run("ip", "-n", "gw", "link", "show", "wg0").split(":")[0]
        # Kernels before 6.2 rename no link that is up, and the daemon would bring it up between the two.
        self.gateway.process.send_signal(signal.SIGSTOP)
        run("ip", "-n", "gw", "link", "set", "wg0", "down")
        run("ip", "-n", "gw", "link", "set", "wg0", "name", "wgx")
        self.gateway.process.send_signal(signal.SIGCONT)
        start = time.monotonic()
        until(lambda: f"{index}: wg0:" in run("ip", "-n", "gw", "link"), "the name again", 10)
        back = time.monotonic() - start
        until(lambda: fetch("c0", timeout=1), "traffic again", 30)
        print(f"[link renamed: name again after {back:.1f} s, traffic after {time.monotonic() - start:.1f} s] ", end="", flush=True)
        self.assertNotIn("wgx", run("ip", "-n", "gw", "link"))
        self.assertEqual([(line["found_as"], line["outcome"]) for line in self.gateway.logged("interface_renamed")], [("wgx", "renamed")])
        self.assertEqual(client.heartbeat().status, 200)
        until(lambda: not inconsistencies(self.gateway), "a consistent state", 10)

    def test_teardown_removes_the_links(self):
        other = Gateway("teardown", client_api__listen="127.0.0.1:4701", lanes__vpn__interface="wg8", lanes__vpn__listen_port=52000,
                        lanes__tor__interface="wg9", lanes__tor__listen_port=52001, endpoint__host=GATEWAY)
        self.gateway.stop()
        try:
            words = other.command()
            other.command = lambda: [*words, "--teardown"]
            other.start(wait=False)
            until(lambda: other.logged("start_step") and other.logged("start_step")[-1]["step"] == "listening", "it listens", 20)
            self.assertIn("wg8", run("ip", "-n", "gw", "link"))
            self.assertEqual(other.stop(), 0)
            links = run("ip", "-n", "gw", "link")
            self.assertNotIn("wg8", links)
            self.assertNotIn("wg9", links)
        finally:
            self.gateway.start()

    def test_a_link_of_another_kind_is_not_taken(self):
        run("ip", "-n", "gw", "link", "add", "wg7", "type", "dummy")
        self.addCleanup(run, "ip", "-n", "gw", "link", "del", "wg7")
        other = Gateway("kind", wireguard__backend="kernel", client_api__listen="127.0.0.1:4702", lanes__vpn__interface="wg7",
                        lanes__tor__interface="wg6", lanes__vpn__listen_port=52002, lanes__tor__listen_port=52003)
        other.start(wait=False)
        self.assertEqual(other.gone(), 1)
        self.assertIn("wg7 is there as a link of another kind (dummy)", "".join(other.other_output))
        self.assertIn("wg7", run("ip", "-n", "gw", "link"))
        self.gateway.restart()


if __name__ == "__main__":
    unittest.main()
