"""Rights, paces and quotas, with real packets: what the policy says is what a client meets."""

import json
import sqlite3
import unittest

from lab import WEB, Transfer, fetch, in_namespace, resolve, run, until
from support import LabCase


class PolicyCase(LabCase):
    def policy(self, verb, document, expect=0):
        return self.gateway.ctl("policy", verb, "-", stdin=json.dumps(document), expect=expect)

    def tearDown(self):
        self.policy("apply", {})

    def explain(self, client, target, *options):
        return self.gateway.ctl("policy", "explain", client.name, target, *options)


class Rights(PolicyCase):
    CLIENTS = 2

    def health(self):
        """What of the policy and the start the health check says."""
        try:
            parts = json.loads(self.gateway.get("/health")[1])["components"]
        except OSError:
            return None
        return {name: parts.get(name) for name in ("policy", "start")}

    def web(self, client, ports):
        return {"rights": [{"name": "web", "who": f"user:{client.name}", "to": "any", "ports": ports}]}

    def test_what_is_opened_and_what_is_not(self):
        client = self.client().connect()
        self.assertIsNotNone(fetch(client.namespace))
        self.policy("apply", self.web(client, "tcp/443"))
        self.assertIsNone(fetch(client.namespace, timeout=2))
        verdict = self.explain(client, f"{WEB}:80")
        self.assertEqual((verdict["allowed"], verdict["rule"]), (False, "rights"))
        # The program of the client goes on as if nothing was: beats through the tunnel, names, a new sign-in.
        self.assertEqual(client.heartbeat().status, 200)
        client.reauth()
        self.policy("apply", self.web(client, ["tcp/80", "icmp"]))
        self.assertIsNotNone(fetch(client.namespace))
        self.assertEqual(self.explain(client, f"{WEB}:80")["rule"], "rights web")

    def test_a_restart_and_a_kill_change_nothing(self):
        client = self.client().connect()
        self.policy("apply", self.web(client, ["tcp"]))
        transfer = Transfer(client.namespace)
        self.addCleanup(transfer.close)
        transfer.goes_on()
        for again in (self.gateway.restart, lambda: (self.gateway.kill(), self.gateway.start())):
            again()
            transfer.goes_on()
        self.policy("apply", self.web(client, ["udp"]))
        self.gateway.kill()
        self.gateway.start()
        self.assertIsNone(fetch(client.namespace, timeout=2))
        # Who comes back after the restart has no more rights than before.
        client.disconnect()
        client.down()
        client.connect()
        self.assertIsNone(fetch(client.namespace, timeout=2))

    def test_a_stored_policy_that_cannot_be_read_opens_nothing(self):
        client = self.client().connect()
        self.policy("apply", self.web(client, ["tcp"]))
        self.assertIsNotNone(fetch(client.namespace))
        self.gateway.kill()
        with sqlite3.connect(f"{self.gateway.state}/tornado.db") as database:
            database.execute("UPDATE access_policies SET document = '{' WHERE version = "
                             "(SELECT max(version) FROM access_policies)")
        database.close()
        self.gateway.start(wait=False)
        until(lambda: self.health() == {"policy": False, "start": True}, "it serves, and says what is wrong", 15)
        self.assertIsNone(fetch(client.namespace, timeout=2))
        self.assertEqual(client.heartbeat().status, 200)
        self.assertEqual(resolve(client.namespace, client.dns()), WEB)
        shown = self.gateway.ctl("policy", "show")
        self.assertFalse(shown["in_force"])
        self.assertIn("tornadoctl policy apply", shown["held_back"])
        self.assertEqual(self.explain(client, f"{WEB}:80")["rule"], "policy held back")
        # Nor for those who come now.
        other = self.client(1).connect()
        self.assertIsNone(fetch(other.namespace, timeout=2))
        self.policy("apply", self.web(client, ["tcp"]))
        self.assertIsNotNone(fetch(client.namespace))
        self.assertTrue(self.gateway.ctl("policy", "show")["in_force"])
        self.assertEqual(self.gateway.get("/health")[0], 200)

    def test_somebody_flushed_the_ruleset(self):
        client = self.client().connect()
        self.policy("apply", self.web(client, ["udp"]))
        nft = in_namespace("gw", "nft")
        run(*nft, "flush", "ruleset")
        until(lambda: "chain rights" in run(*nft, "list", "ruleset"), "the ruleset is back")
        self.assertIsNone(fetch(client.namespace, timeout=2))
        self.policy("apply", self.web(client, ["tcp"]))
        self.assertIsNotNone(fetch(client.namespace))

    def test_a_policy_is_tested_before_it_counts(self):
        client = self.client().connect()
        wrong = self.web(client, "tcp/80")
        wrong["tests"] = [{"user": client.name, "allow": [f"{WEB}:80"], "deny": [f"{WEB}:80"]}]
        outcome = json.loads(self.policy("test", wrong, expect=1).stdout)
        self.assertEqual([row["holds"] for row in outcome], [True, False], outcome)
        refused = self.policy("apply", wrong, expect=4)
        self.assertIn("nothing was changed", refused.stderr)
        self.assertIsNotNone(fetch(client.namespace))
        right = self.web(client, "tcp/80")
        right["tests"] = [{"user": client.name, "allow": [f"{WEB}:80"], "deny": [f"{WEB}:25"]}]
        self.assertEqual([row["holds"] for row in self.policy("test", right)], [True, True])
        self.assertIn("rights[0].ports", self.policy("test", self.web(client, "tcp/0"), expect=2).stderr)
        self.assertIn("nobody-here", self.policy("apply", {"groups": {"g": ["nobody-here"]}}, expect=3).stderr)


class Quotas(PolicyCase):
    SETTINGS = {"session.sample_interval": 1}

    def test_a_volume_that_is_used_up_blocks(self):
        client = self.client().connect()
        self.assertIsNotNone(fetch(client.namespace))
        after = self.gateway.call("gateway.status")["last_event"]
        self.policy("apply", {"limits": [{"name": "small", "who": f"user:{client.name}", "monthly": "20 MB",
                                          "then": "block", "warn_at": [50]}]})
        transfer = Transfer(client.namespace)
        self.addCleanup(transfer.close)
        until(lambda: self.session_of(client)["quota"]["state"] == "blocked", "20 MB are used up", 60)
        transfer.close()
        self.assertIsNone(fetch(client.namespace, timeout=2))
        self.assertEqual(client.heartbeat().status, 200)
        why = json.loads(self.gateway.ctl("why", client.name, expect=1).stdout)
        self.assertEqual(why["wrong"], "rights")
        self.assertEqual(self.explain(client, f"{WEB}:80")["rule"], "limit small")
        names = [event["name"] for event in self.quota_events(after)]
        self.assertEqual(names, ["quota_warning", "quota_reached"])
        usage = self.gateway.ctl("policy", "usage", client.name)
        self.assertEqual(usage["quota"]["state"], "blocked")
        self.assertGreaterEqual(max(usage["bytes"].values()), 20_000_000)
        # A restart is no way round it.
        self.gateway.kill()
        self.gateway.start()
        self.assertIsNone(fetch(client.namespace, timeout=2))
        self.policy("apply", {})
        self.assertIsNotNone(fetch(client.namespace))

    def quota_events(self, after):
        return [event for name in ("quota_warning", "quota_reached") for event in self.gateway.events(name, after)]


if __name__ == "__main__":
    unittest.main()
