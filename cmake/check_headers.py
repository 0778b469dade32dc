#!/usr/bin/env python3
"""Each public header compiles alone and includes nothing an embedder would have to install or compile."""
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#include\s+["<]([^">]+)[">]', re.M)
FORBIDDEN = re.compile(r"^(boost/(beast|json)|openssl/|pqxx/|sqlite3|hiredis/|netlink/|libnftnl/|linux/|spdlog/|fmt/)")
ASIO_ALLOWED = {"boost/asio/awaitable.hpp", "boost/asio/any_io_executor.hpp"}


def check(header: Path) -> list[str]:
    name = str(header.relative_to(ROOT / "include"))
    found = []
    for include in INCLUDE.findall(header.read_text()):
        if FORBIDDEN.match(include) or (include.startswith("boost/asio/") and include not in ASIO_ALLOWED):
            found.append(f"{name}: includes {include}")
    command = ["c++", "-std=c++20", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-DBOOST_ASIO_SEPARATE_COMPILATION",
               "-DBOOST_ASIO_NO_DEPRECATED", f"-I{ROOT}/include", "-x", "c++", "-"]
    result = subprocess.run(command, input=f"#include <{name}>\n", text=True, capture_output=True, timeout=120)
    if result.returncode != 0:
        found.append(f"{name}: does not compile alone\n{result.stderr[:2000]}")
    return found


def main() -> int:
    headers = sorted((ROOT / "include" / "tornado").glob("*.hpp"))
    with ThreadPoolExecutor(max_workers=2) as pool:
        problems = [problem for found in pool.map(check, headers) for problem in found]
    print("\n".join(problems) if problems else f"check_headers: {len(headers)} headers compile alone")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
