"""Another configuration for a daemon that runs: what can change meanwhile does, and nobody notices anything else."""

import signal

from lab import DNS, Transfer, resolve, until
from support import LabCase

# Nobody answers there: of the documentation's addresses (RFC 5737).
NOBODY = "203.0.113.53"


class Reload(LabCase):
    START = False

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # What is given on the command line holds, whatever a file says.
        del cls.gateway.settings["dns.upstream"]
        cls.gateway.write_configuration({"dns": {"upstream": DNS}})
        cls.gateway.start()

    def setUp(self):
        self.addCleanup(self.gateway.call, "config.reload")
        self.addCleanup(self.gateway.write_configuration, {"dns": {"upstream": DNS}})

    def configured(self, **more):
        self.gateway.write_configuration({"dns": {"upstream": NOBODY}, **more})

    def test_what_can_change_does_and_a_transfer_goes_on(self):
        client = self.client().connect("vpn")
        self.assertIsNotNone(resolve(client.namespace, "9.9.9.9"))
        transfer = Transfer(client.namespace)
        self.addCleanup(transfer.close)
        pid, address = self.gateway.process.pid, self.session_of(client)["vpn_ip"]
        self.configured(lanes={"vpn": {"mtu": 1400}}, log={"level": "debug"})
        before = {change["key"]: change for change in self.gateway.ctl("config", "diff")}
        self.assertEqual(before["dns.upstream"]["wanted"], NOBODY)
        self.assertEqual({key: change["takes_effect"] for key, change in before.items()},
                         {"dns.upstream": "with a reload", "log.level": "with a reload", "lanes.vpn.mtu": "with a restart"})
        after = {change["key"]: change["takes_effect"] for change in self.gateway.ctl("config", "reload")}
        self.assertEqual(after, {"dns.upstream": "now", "log.level": "now", "lanes.vpn.mtu": "with a restart"})
        self.assertIsNone(resolve(client.namespace, "9.9.9.9", timeout=0.5))
        self.assertEqual([change["key"] for change in self.gateway.ctl("config", "diff")], ["lanes.vpn.mtu"])
        self.gateway.write_configuration({"dns": {"upstream": DNS}})
        self.assertEqual({change["key"] for change in self.gateway.ctl("config", "reload")}, {"dns.upstream", "log.level"})
        self.assertIsNotNone(resolve(client.namespace, "9.9.9.9"))
        transfer.goes_on()
        self.assertEqual(client.heartbeat().status, 200)
        self.assertEqual((self.gateway.process.pid, self.session_of(client)["vpn_ip"]), (pid, address))

    def test_the_log_has_the_level_that_is_configured(self):
        def told(level):
            before = len(self.gateway.logged("config_reloaded"))
            self.gateway.write_configuration({"dns": {"upstream": DNS}, "log": {"level": level}})
            self.gateway.ctl("config", "reload")
            return len(self.gateway.logged("config_reloaded")) - before
        self.assertEqual([told("error"), told("error"), told("info"), told("info")], [1, 0, 1, 1])

    def test_a_signal_does_the_same(self):
        client = self.client().connect("vpn")
        for upstream, answers in ((NOBODY, False), (DNS, True)):
            self.gateway.write_configuration({"dns": {"upstream": upstream}})
            told = len(self.gateway.logged("config_reloaded"))
            self.gateway.process.send_signal(signal.SIGHUP)
            until(lambda: len(self.gateway.logged("config_reloaded")) > told, "it is told", 5)
            until(lambda: (resolve(client.namespace, "9.9.9.9", timeout=0.5) is not None) == answers, f"{upstream} answers: {answers}", 5)

    def test_what_is_wrong_changes_nothing(self):
        client = self.client().connect("vpn")
        for tree, says in (("{", "tornado.json"), ('{"dns": {"upstream": "nobody"}}', "dns.upstream"),
                           ('{"dns": {"upstraem": "1.1.1.1"}}', "dns.upstraem")):
            self.gateway.write_configuration(tree)
            for words in (("config", "reload"), ("config", "diff")):
                self.assertIn(says, self.gateway.ctl(*words, expect=2).stderr)
            told = len(self.gateway.logged("config_not_reloaded"))
            self.gateway.process.send_signal(signal.SIGHUP)
            until(lambda: len(self.gateway.logged("config_not_reloaded")) > told, "it is told", 5)
            self.assertIsNotNone(resolve(client.namespace, "9.9.9.9"))
            self.assertEqual(client.heartbeat().status, 200)
