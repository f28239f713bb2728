#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A number that a reload changes is asked for by its function, and by nothing else.

    limits.py ROOT

struct options keeps what the start was told. Whoever reads a LIVE number there compiles, and goes by
an old one for ever; so outside config/, which reads and checks them, no member of that name is read.
And each of them is asked for somewhere, or a reload says that a value holds by which nobody goes."""

import glob
import re
import sys

ROW = re.compile(r"^OPTION\((\w+), \"[^\"]+\", UNSIGNED, LIVE,", re.M)
TABLE = "broker/base/options.def"
WRITES = {"broker/base/limits.h"}  # makes members and functions of the rows


def code(path):
    """Without comments and texts."""
    with open(path, encoding="utf-8") as file:
        return re.sub(r'/\*.*?\*/|"(?:\\.|[^"\\])*"', "", file.read(), flags=re.S)


def faults(root):
    with open(f"{root}/{TABLE}", encoding="utf-8") as file:
        fields = set(ROW.findall(file.read()))
    found = [] if len(fields) > 10 else [f"{TABLE}: {len(fields)} rows that are LIVE"]
    asked = set()
    for path in sorted(glob.glob(f"{root}/broker/**/*.[ch]", recursive=True)):
        name = path[len(root) + 1 :]
        if name.startswith("broker/config/"):
            continue
        text = code(path)
        for before, field in re.findall(r"(->|\.)?\s*\b(\w+)\b", text):
            if field in fields and before and name not in WRITES:
                found.append(f"{name}: {field} is LIVE; ask {field}(limits)")
            elif field in fields:
                asked.add(field)
    return found + [f"{TABLE}: nobody asks for {field}" for field in sorted(fields - asked)]


def main(root):
    found = faults(root)
    for fault in found:
        print(fault)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
