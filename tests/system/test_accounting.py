"""Bytes are counted once, to the byte, whatever happens to the daemon (I-09, D-037, D-041)."""

import unittest

from lab import Transfer, fetch, until
from support import LabCase

KILLS = 50


class Ledger(LabCase):
    SETTINGS = {"session.checkpoint_interval": 1}

    def counted(self, client):
        """Received and sent on both interfaces, as WireGuard itself has them."""
        rows = [self.gateway.dump(name)[1][client.public] for name in ("wg0", "wg1")]
        return tuple(sum(row[i] for row in rows) for i in (2, 3))

    def test_fifty_kills(self):
        client = self.client().connect()
        self.assertIsNotNone(fetch(client.namespace))
        transfer = Transfer(client.namespace)
        self.addCleanup(transfer.close)
        for _ in range(KILLS):
            self.gateway.kill()
            self.gateway.start()
            transfer.goes_on()
        transfer.close()
        client.down()

        def totals(row):
            return (row["total_bytes_rx"], row["total_bytes_tx"])

        def equal():
            before = self.counted(client)
            session = self.session_of(client)
            listed = [row for row in self.gateway.ctl("user", "list") if row["username"] == client.name]
            seen = {(session["bytes_rx"], session["bytes_tx"]), totals(self.gateway.ctl("user", "show", client.name)),
                    *map(totals, listed)}
            return seen == {before} and before == self.counted(client) and before
        sums = until(equal, "totals of session and user equal the interfaces", 20)
        self.assertGreater(sum(sums), 1e6, "the transfer did carry something")
        closed = self.gateway.ctl("session", "close", client.device)
        final = (closed["bytes_rx"], closed["bytes_tx"])
        # The server of the transfer may have repeated a packet or two in between.
        self.assertTrue(all(0 <= after - before < 10_000 for before, after in zip(sums, final)), (sums, final))
        row = self.assert_closed(client, "killed")
        self.assertEqual((row["bytes_rx"], row["bytes_tx"]), final)
        self.assertEqual(totals(self.gateway.ctl("user", "show", client.name)), final)
        print(f"[{KILLS} kills, {sum(sums)} bytes agree] ", end="", flush=True)


if __name__ == "__main__":
    unittest.main()
