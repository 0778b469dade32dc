"""What stands in for a tor that is not up: a taken port holds up neither the gateway nor its other half, and is tried again."""

import socket

from lab import Gateway, Lab, fetch, inside, resolve, until
from support import LabCase

PAGE_PORT = 9041


class TakenPorts(LabCase):
    @classmethod
    def setUpClass(cls):
        cls.lab = Lab(1)
        cls.addClassCleanup(cls.lab.close)
        with inside("gw"):
            cls.page = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        cls.page.bind(("0.0.0.0", PAGE_PORT))
        cls.page.listen()
        cls.gateway = Gateway(cls.__name__, **{"tor.launch": "supervised"})
        cls.addClassCleanup(cls.finish_gateway)
        cls.addClassCleanup(lambda: cls.gateway.call("tor.stop"))
        cls.gateway.start()
        cls.gateway.call("tor.down")

    def component(self, name):
        return next(entry for entry in self.gateway.call("gateway.health") if entry["component"] == name)

    def test_each_is_tried_again_and_neither_needs_the_other(self):
        self.assertFalse(self.component("tor_page")["ready"])
        self.assertIn(str(PAGE_PORT), self.component("tor_page")["detail"])
        self.assertTrue(self.component("tor_responder")["ready"])
        client = self.client().connect("tor")
        self.assertEqual(until(lambda: resolve(client.namespace, "9.9.9.9", timeout=2), "names are answered", 10), "10.9.0.1")
        self.page.close()
        until(lambda: self.component("tor_page")["ready"], "the page has its port", 60)
        until(lambda: "Tor" in (fetch(client.namespace, "10.9.0.1", timeout=2) or ""), "the page is served", 10)
