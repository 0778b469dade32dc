#!/usr/bin/env python3
"""Reads the include graph of libtornado and fails where an include points up."""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "libtornado"

# From the bottom up; folders of one rank may not include each other unless EXTRA says so.
RANKS = [
    {"base"},
    {"config", "crypto", "dns", "net", "process"},
    {"http", "database", "live", "wireguard", "host", "firewall", "verify"},
    {"users", "ipam", "keys", "peer", "tor"},
    {"limits"},
    {"auth", "session"},
    {"explain"},
    {"gateway"},
    {"api", "client"},
]
RANK = {folder: rank for rank, folders in enumerate(RANKS) for folder in folders}
# Where the classes of a public header live; the rest of them is vocabulary or a seam, which everybody may include.
PUBLIC = {"config": "config", "users": "users", "ipam": "ipam", "key_rotator": "keys", "peer_programmer": "peer",
          "auth": "auth", "session_store": "session", "history": "session", "gateway": "gateway", "api_server": "api",
          "control": "api", "client": "client", "why": "explain", "tor_controller": "tor", "limits": "limits"}
# The configuration tree holds the options of every module as values; passwords are hashed by a policy of users.
# Interfaces of the kernel's WireGuard are links: the requests for those are the codec of host.
EXTRA = {("wireguard", "host"), ("config", "auth"), ("config", "keys"), ("config", "session"), ("config", "ipam"), ("config", "tor"), ("crypto", "users")}
# database/rows.hpp is shared by the repositories; drivers use transports of their own rank's neighbours.
SQL_HOMES = re.compile(r"(_repo\.cpp|session/journal\.cpp|database/.*)$")
SQL = re.compile(r'"\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|CREATE TABLE)\b')
INCLUDE = re.compile(r'^\s*#include\s+["<]([^">]+)[">]', re.M)
DOMAIN = {"explain", "limits", "users", "ipam", "keys", "peer", "auth", "session", "gateway"}
DRIVER_ONLY = re.compile(r"^(sqlite3\.h|libnftnl/|netlink/|linux/(netlink|rtnetlink|netfilter)|boost/beast/|hiredis/|pqxx/|spdlog/)")
DRIVER_HOMES = {"database", "net", "host", "firewall", "wireguard", "http", "base", "live", "client", "verify"}


def check(path: Path) -> list[str]:
    folder = path.relative_to(LIBRARY).parts[0]
    name = str(path.relative_to(LIBRARY))
    text = path.read_text()
    found = []
    if folder not in RANK:
        return [f"{name}: folder {folder} has no place in the layers"]
    for include in INCLUDE.findall(text):
        other = include.split("/")[0]
        if other == "tornado":
            other = PUBLIC.get(include.split("/")[1].removesuffix(".hpp"), folder)
        if (folder, other) in EXTRA:
            continue
        if other in RANK and other != folder and RANK[other] >= RANK[folder]:
            found.append(f"{name}: includes {include}, which does not lie below {folder}/")
        if "_codec" in path.name and include.startswith("boost/asio/") and include != "boost/asio/buffer.hpp":
            found.append(f"{name}: a codec includes Asio ({include})")
        if DRIVER_ONLY.match(include) and folder not in DRIVER_HOMES:
            found.append(f"{name}: {include} belongs to a driver")
        if folder in DOMAIN and other == "http":
            found.append(f"{name}: the domain knows no HTTP ({include})")
    if SQL.search(text) and not SQL_HOMES.search(name):
        found.append(f"{name}: SQL outside a repository, the journal or database/")
    return found


def main() -> int:
    files = sorted(p for p in LIBRARY.rglob("*.[ch]pp"))
    problems = [problem for path in files for problem in check(path)]
    print("\n".join(problems) if problems else f"check_layers: {len(files)} files, every include points down")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
