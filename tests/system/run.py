#!/usr/bin/python3
"""Runs the system suite: run.py [-v] [test_module[.Class[.test]]]...; test_systemd and test_kernel only if named."""

import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import lab  # noqa: E402
import watch  # noqa: E402


class Result(unittest.TextTestResult):
    """Says at once what failed: a run that is ended from outside says nothing at its end."""

    def addError(self, test, error):
        super().addError(test, error)
        self.tell(self.errors)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.tell(self.failures)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.tell(self.failures if issubclass(error[0], test.failureException) else self.errors)

    def tell(self, failed):
        test, text = failed[-1]
        self.stream.writeln(f"\n{test}\n{text}")
        self.stream.flush()

    def printErrors(self):
        self.stream.writeln()


if __name__ == "__main__":
    lab.enter()
    if "TORNADO_TEST_PATIENCE" in os.environ:
        watch.begin(float(os.environ["TORNADO_TEST_PATIENCE"]))
    modules = {name[:-3] for name in os.listdir(HERE) if name.startswith("test_") and name.endswith(".py")}
    names = [word for word in sys.argv[1:] if not word.startswith("-")] or sorted(modules - {"test_systemd", "test_kernel"})
    tests = unittest.defaultTestLoader.loadTestsFromNames(names)
    verbosity = 2 if "-v" in sys.argv else 1
    result = unittest.TextTestRunner(verbosity=verbosity, failfast="-f" in sys.argv, resultclass=Result, descriptions=False).run(tests)
    sys.exit(0 if result.wasSuccessful() else 1)
