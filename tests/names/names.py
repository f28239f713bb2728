# SPDX-License-Identifier: Apache-2.0
"""No function or variable of a program has the name of one in a library that it is linked to: it would
stand in front of it, for the library itself and for whoever means the library's. No compiler says so,
when the two headers do not meet."""

import os
import re
import subprocess
import sys

BIN = os.environ["USHER_BIN"]
PROGRAMS = (
    "usherd",
    "usher",
    "usherctl",
    "usher-bench",
    "usher-echo",
    "usher-store",
    "usher-token",
)
MEANT = {"accept", "sendmsg"}  # broker/link/gate.c, in front of nng
START_UP = {"data_start", "environ"}


def names(path, *options):
    text = subprocess.run(
        ["nm", "--defined-only", "--extern-only", *options, path],
        text=True,
        check=True,
        capture_output=True,
    ).stdout
    rows = (line.split() for line in text.splitlines())
    return {row[2] for row in rows if len(row) == 3 and row[1] in "TWiDBR"}


def names_of_library(path):
    return {name.partition("@")[0] for name in names(path, "--dynamic")}


def libraries(path):
    text = subprocess.run(["ldd", path], text=True, check=True, capture_output=True).stdout
    return re.findall(r"=> (/\S+)", text)


def main():
    failures = 0
    for program in PROGRAMS:
        path = os.path.join(BIN, program)
        # Without what the C library puts into every program, and variables of libraries (`stderr@...`).
        own = {
            name for name in names(path) - MEANT if name[0] != "_" and "@" not in name
        } - START_UP
        for library in libraries(path):
            for name in sorted(own & names_of_library(library)):
                print(f"FAIL {program} has a {name} of its own, and {library} has one")
                failures += 1
        print(f"{program}: {len(own)} names")
        failures += not own  # nm saw nothing
    sys.exit(1 if failures else 0)


main()
