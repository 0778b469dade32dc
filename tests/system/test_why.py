"""`tornadoctl why`: what is broken for real is what it names."""

import json
import unittest

from lab import fetch, run, until
from support import LabCase


class Why(LabCase):
    # A pass every minute: what a test breaks stays broken for a while, unless the host tells of it.
    SETTINGS = {"session.reconcile_interval": 400}

    def why(self, subject, wrong=None):
        found = self.gateway.ctl("why", subject, expect=1 if wrong else 0)
        found = json.loads(found.stdout) if wrong else found
        self.assertEqual(found["wrong"], wrong, found)
        if wrong:
            self.assertTrue(found["remedy"], found)
        return found

    def test_from_sign_in_to_traffic(self):
        client = self.client(sign_in=False)
        self.assertIn("ever was", self.why(client.name, "sign_in")["detail"])
        client.login()
        self.assertIn("never was", self.why(client.name, "session")["detail"])
        client.initiate()
        self.assertIn("51820", self.why(client.device, "handshake")["remedy"])
        client.connect()
        self.assertIsNotNone(fetch(client.namespace))
        for subject in (client.name, client.device, f"{client.user}-{client.device}", client.user):
            self.why(subject)
        self.gateway.ctl("user", "suspend", client.name)
        self.assertIn("reinstate", self.why(client.name, "account")["remedy"])

    def test_a_peer_that_somebody_took_away(self):
        client = self.client().connect()
        self.assertIsNotNone(fetch(client.namespace))
        self.why(client.name)
        run("wg", "set", "wg0", "peer", client.public, "remove")
        self.assertIn("reconcile", self.why(client.name, "peer_vpn")["remedy"])

        def seen(words):
            # The next sample finds it missing, and then it is made again.
            run("wg", "set", "wg0", "peer", client.public, "remove")
            found = self.gateway.ctl(*words)
            return not found["same"] and found
        for words in (("gateway", "diff"), ("gateway", "reconcile", "--dry-run")):
            diff = until(lambda: seen(words), "the difference")
            self.assertEqual((diff["missing"], diff["host"]), ([client.public], []))
        self.gateway.ctl("gateway", "reconcile")
        until(lambda: fetch(client.namespace, timeout=1) is not None, "traffic again", 30)
        self.why(client.name)
        self.assertTrue(self.gateway.ctl("gateway", "diff")["same"])

    def test_nobody(self):
        self.gateway.ctl("why", "nobody", expect=3)

    def test_a_report_takes_it_along_without_names(self):
        client = self.client().connect()
        report = self.gateway.ctl("report", client.name)
        self.assertEqual(report["why"]["account"], "good")
        self.assertNotIn(client.name, str(report))


if __name__ == "__main__":
    unittest.main()
