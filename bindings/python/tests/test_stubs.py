"""The stubs are what the table says, and mypy is content with them."""
import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

import tornadovpn
from tornadovpn import _tornado

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent
EXAMPLES = SOURCE.parent.parent / "examples" / "python"
PACKAGE = Path(tornadovpn.__file__).parent.parent


class Stubs(unittest.TestCase):
    def test_are_up_to_date(self) -> None:
        made = subprocess.run(
            [sys.executable, str(SOURCE / "make_stubs.py"), "-"], capture_output=True, text=True, check=True
        )
        self.assertEqual((SOURCE / "tornadovpn" / "_tornado.pyi").read_text(), made.stdout, "run make_stubs.py")

    def test_name_everything_the_extension_has(self) -> None:
        text = (SOURCE / "tornadovpn" / "_tornado.pyi").read_text()
        for name, value in vars(_tornado).items():
            if name.startswith("__"):
                continue
            self.assertRegex(text, rf"(class|def) {name}\b")
            if not isinstance(value, type) or issubclass(value, Exception):
                continue
            body = re.search(rf"^class {name}\b.*?(?=^class |\Z)", text, re.M | re.S)
            assert body is not None
            stubbed = set(re.findall(r"def (\w+)\(", body.group()))
            real = {member for member in vars(value) if not member.startswith("_")}
            self.assertEqual({member for member in stubbed if not member.startswith("_")}, real, name)

    def test_please_mypy(self) -> None:
        checked = [str(HERE / "sample.py"), *map(str, sorted(EXAMPLES.glob("*.py")))]
        done = subprocess.run(
            ["/usr/bin/mypy", "--strict", "--no-incremental", "--cache-dir=/dev/null", *checked],
            capture_output=True,
            text=True,
            env={**os.environ, "MYPYPATH": str(PACKAGE)},
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_find_mistakes(self) -> None:
        wrong = "import tornadovpn\ntornadovpn.ControlClient('x').user_add(name=1)\n"
        done = subprocess.run(
            ["/usr/bin/mypy", "--strict", "--no-incremental", "--cache-dir=/dev/null", "-c", wrong],
            capture_output=True,
            text=True,
            env={**os.environ, "MYPYPATH": str(PACKAGE)},
        )
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("user_add", done.stdout)

    def test_the_sample_runs(self) -> None:
        done = subprocess.run([sys.executable, str(HERE / "sample.py")], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
