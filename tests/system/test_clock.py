"""A wall clock that jumps under a running gateway: nothing ends, and nobody is refused for it."""

import glob
import os
import unittest

from client import Client
from lab import WORK, Gateway, Lab, Transfer
from support import LabCase, inconsistencies, until

DAY = 86400


class SteppedGateway(Gateway):
    """Its daemon reads the wall clock through libfaketime; time intervals stay real."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.offset = f"{WORK}/clock-offset"
        self.step(0)

    def step(self, seconds):
        with open(self.offset + ".new", "w") as file:
            file.write(f"{seconds:+d}\n")
        os.rename(self.offset + ".new", self.offset)

    def command(self):
        (library,) = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
        return ["env", f"LD_PRELOAD={library}", f"FAKETIME_TIMESTAMP_FILE={self.offset}", "FAKETIME_CACHE_DURATION=1",
                "FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_DONT_RESET=1", *super().command()]


class Clock(unittest.TestCase):
    history_of, session_of = LabCase.history_of, LabCase.session_of

    def setUp(self):
        self.lab = Lab(2)
        self.addCleanup(self.lab.close)
        self.gateway = SteppedGateway("clock")
        self.gateway.start()
        self.addCleanup(self.gateway.stop)

    def client(self, index):
        self.gateway.add_user(f"user{index}")
        client = Client(f"c{index}", f"user{index}").login()
        self.addCleanup(client.down)
        self.addCleanup(client.hang_up)
        return client

    def step(self, seconds, times):
        self.gateway.step(seconds)
        until(lambda: len(self.gateway.logged("clock_stepped")) == times, "the step is noticed", 20)

    def assert_all_live(self, clients):
        for client in clients:
            self.assertIsNotNone(self.session_of(client), client.name)
            self.assertEqual(self.history_of(client), [])
        until(lambda: not inconsistencies(self.gateway), "consistent state", 10)

    def test_forward_and_back(self):
        beating, silent = self.client(0).connect(), self.client(1)
        silent.initiate()
        transfer = Transfer("c0")
        self.addCleanup(transfer.close)
        transfer.goes_on()
        addresses = [self.session_of(client)["vpn_ip"] for client in (beating, silent)]

        # Beyond idle time, hard deadline, quarantine and access tokens; refresh tokens live for a week.
        self.step(3 * DAY, 1)
        transfer.goes_on()
        self.assert_all_live((beating, silent))
        self.assertEqual(beating.heartbeat().status, 401, "the access token has expired")
        beating.reauth()
        self.assertEqual(beating.heartbeat().status, 200)

        # A crash right after the step: deadlines have followed it into the journal.
        self.gateway.kill()
        self.gateway.start()
        self.assert_all_live((beating, silent))
        transfer.goes_on()

        # Back: tokens seem to come from the future, and whoever sleeps must not sleep for three days.
        self.step(0, 1)
        transfer.goes_on()
        self.assert_all_live((beating, silent))
        self.assertEqual(beating.heartbeat().status, 200)
        beating.reauth()
        self.assertEqual(beating.heartbeat().status, 200)
        before = self.session_of(beating)["bytes_rx"]
        transfer.goes_on()
        until(lambda: self.session_of(beating)["bytes_rx"] > before, "counters are still read", 10)
        self.assertEqual([self.session_of(client)["vpn_ip"] for client in (beating, silent)], addresses)
        silent.logout()
        until(lambda: self.history_of(silent), "an end is still finished", 10)
        self.assertIsNone(transfer.error)
        self.assertEqual(self.gateway.other_output, [])
