#!/usr/bin/python3
"""Runs the system suite: run.py [-v] [test_module[.Class[.test]]]..."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import lab  # noqa: E402

if __name__ == "__main__":
    lab.enter()
    names = [word for word in sys.argv[1:] if not word.startswith("-")]
    loader = unittest.defaultTestLoader
    tests = loader.loadTestsFromNames(names) if names else loader.discover(os.path.dirname(os.path.abspath(__file__)))
    verbosity = 2 if "-v" in sys.argv else 1
    result = unittest.TextTestRunner(verbosity=verbosity, failfast="-f" in sys.argv, durations=None).run(tests) \
        if sys.version_info >= (3, 12) else unittest.TextTestRunner(verbosity=verbosity, failfast="-f" in sys.argv).run(tests)
    sys.exit(0 if result.wasSuccessful() else 1)
