#!/usr/bin/python3
"""Runs the system suite: run.py [-v] [test_module[.Class[.test]]]...; test_systemd and test_kernel only if named."""

import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import lab  # noqa: E402
import watch  # noqa: E402

if __name__ == "__main__":
    lab.enter()
    if "TORNADO_TEST_PATIENCE" in os.environ:
        watch.begin(float(os.environ["TORNADO_TEST_PATIENCE"]))
    modules = {name[:-3] for name in os.listdir(HERE) if name.startswith("test_") and name.endswith(".py")}
    names = [word for word in sys.argv[1:] if not word.startswith("-")] or sorted(modules - {"test_systemd", "test_kernel"})
    tests = unittest.defaultTestLoader.loadTestsFromNames(names)
    verbosity = 2 if "-v" in sys.argv else 1
    result = unittest.TextTestRunner(verbosity=verbosity, failfast="-f" in sys.argv, durations=None).run(tests) \
        if sys.version_info >= (3, 12) else unittest.TextTestRunner(verbosity=verbosity, failfast="-f" in sys.argv).run(tests)
    sys.exit(0 if result.wasSuccessful() else 1)
