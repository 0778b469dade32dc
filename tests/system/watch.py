"""Says what a run hangs on before somebody else ends it, as a machine does whose time is up."""

import faulthandler
import sys
import threading

import lab
import tor_network


def begin(seconds):
    """After so many seconds the run tells where it is; it goes on. Once, from a thread of its own."""
    timer = threading.Timer(seconds, tell, [seconds])
    timer.daemon = True
    timer.start()


def tell(seconds):
    what = lab.waiting_for
    print(f"\nrunning for {seconds:g} s; waiting for: {what() if callable(what) else what}", file=sys.stderr)
    faulthandler.dump_traceback()
    for gateway in list(lab.gateways):
        print(f"-- {gateway.directory}", *gateway.lines[-12:], *gateway.other_output[-12:], sep="\n", file=sys.stderr)
    network = tor_network.started()
    if network:
        print(network.last_words(), file=sys.stderr)
    sys.stderr.flush()
