#!/usr/bin/env python3
"""Creates the accounts of a CSV file (name,email[,max_devices]) through the control socket and prints a table.

usage: onboard_users.py [--socket /run/tornado/control.sock] users.csv

Accounts that exist already are left alone. Passwords are made here and shown once, in the table. Exit status: 0 all
accounts are there, 1 some could not be made, 2 usage.
"""
import argparse
import csv
import secrets
import sys
from typing import List

import tornadovpn


def onboard(client: tornadovpn.ControlClient, name: str, email: str, max_devices: int) -> List[str]:
    password = secrets.token_urlsafe(12)
    try:
        client.user_add(name=name, email=email, password=password, max_devices=max_devices)
    except tornadovpn.AlreadyExists:
        return [name, email, "exists", ""]
    except tornadovpn.InvalidArgument as error:
        return [name, email, "refused", error.detail]
    return [name, email, "created", password]


def print_table(rows: List[List[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def main() -> int:
    parser = argparse.ArgumentParser(description="Creates the accounts of a CSV file.")
    parser.add_argument("--socket", default="/run/tornado/control.sock")
    parser.add_argument("csv")
    arguments = parser.parse_args()
    client = tornadovpn.ControlClient(arguments.socket)
    rows = [["NAME", "EMAIL", "RESULT", "PASSWORD"]]
    try:
        with open(arguments.csv, newline="") as file:
            for entry in csv.DictReader(file):
                rows.append(onboard(client, entry["name"], entry["email"], int(entry.get("max_devices") or 1)))
    except tornadovpn.Error as error:
        print(f"onboard_users: {error}", file=sys.stderr)
        return 1
    except (OSError, KeyError, ValueError) as error:
        print(f"onboard_users: {arguments.csv}: {error!r}", file=sys.stderr)
        return 2
    print_table(rows)
    return 1 if any(row[2] == "refused" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
