"""What a monitor reads, with a reader we did not write."""

import json
import pathlib
import re
import unittest

import yaml
from prometheus_client.parser import text_string_to_metric_families

from lab import GATEWAY, fetch, until
from support import LabCase

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "operations"
PORT = 9586


class MetricsCase(LabCase):
    def scrape(self):
        status, text = self.gateway.get("/metrics", PORT)
        self.assertEqual(status, 200)
        samples = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                self.assertNotIn(key, samples, "a sample stands twice")
                samples[key] = sample.value
        return samples

    def value(self, name, **labels):
        return self.scrape().get((name, frozenset(labels.items())))


class Numbers(MetricsCase):
    def test_numbers_follow_what_happens(self):
        client = self.client().connect()
        self.assertIsNotNone(fetch(client.namespace))
        self.assertEqual(self.value("tornado_ready"), 1)
        self.assertEqual(self.value("tornado_sessions", state="online"), 1)
        self.assertEqual(self.value("tornado_pool_addresses", lane="vpn", use="leased"), 1)
        self.assertGreaterEqual(self.value("tornado_api_requests_total", path="/vpn/initiate", status="200"), 1)

        def counted():
            session = self.session_of(client)
            samples = self.scrape()
            return all(samples.get(("tornado_lane_bytes_total", frozenset({("lane", "vpn"), ("direction", direction)}))) ==
                       session["lanes"].get("vpn", {}).get(field, 0) > 0
                       for direction, field in (("received", "bytes_rx"), ("sent", "bytes_tx")))
        until(counted, "the lane's bytes are those of its only session")
        self.assertGreaterEqual(self.value("tornado_handshakes_total", lane="vpn"), 1)
        self.assertGreater(self.value("tornado_database_commit_seconds_count"), 0)
        self.assertGreater(self.value("process_resident_memory_bytes"), 1e6)
        self.gateway.ctl("user", "suspend", client.name)
        until(lambda: self.value("tornado_sessions", state="online") == 0, "nobody is there any more")


class Metrics(MetricsCase):
    def test_strangers_make_no_metrics(self):
        before = len(self.scrape())
        for path in range(50):
            self.gateway.get(f"/nothing/{path}")
        self.assertLessEqual(len(self.scrape()), before + 1)

    def test_only_metrics_are_served(self):
        self.assertEqual(self.gateway.get("/", PORT)[0], 404)

    def test_no_lane_reaches_the_listener(self):
        client = self.client().connect()
        self.assertIsNotNone(fetch(client.namespace))
        for host in (client.dns(), GATEWAY):
            self.assertIsNone(fetch(client.namespace, host, PORT, timeout=1))

    def test_alerts_and_dashboard_name_what_there_is(self):
        there = {name for name, _ in self.scrape()}
        documented = set(re.findall(r"`((?:tornado|process)_[a-z_]+)`", (DOCS / "metrics.md").read_text()))
        bases = {re.sub(r"_(bucket|sum|count)$", "", name) if name.endswith(("_bucket", "_sum", "_count")) else name for name in there}
        # Told only with Tor, after a verification, and when something of the kind has happened first.
        conditional = {name for name in documented if name.startswith(("tornado_tor_", "tornado_lane_verify_"))}
        conditional |= {"tornado_lane_bytes_total", "tornado_handshakes_total", "tornado_api_request_seconds", "tornado_reconcile_passes_total", "tornado_sampling_seconds"}
        self.assertEqual(documented - conditional - bases, set())
        self.assertEqual(bases - documented, set(), "not in docs/operations/metrics.md")
        rules = yaml.safe_load((DOCS / "alerts.yml").read_text())
        expressions = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
        dashboard = json.loads((DOCS / "grafana.json").read_text())
        expressions += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
        named = {re.sub(r"_bucket$", "", name) for text in expressions for name in re.findall(r"(?:tornado|process)_[a-z_]+", text)}
        self.assertEqual(named - documented, set())


if __name__ == "__main__":
    unittest.main()
