#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A layer sees the folders that its CMakeLists.txt names, and no other.

    walls.py ROOT BUILD

In each folder that is a layer one include of every other folder is planted. The compiler, with the
flags of a file that stands there, takes those that the layer names, itself or by what it names, and
refuses the others. And the glue, which may see all, stays as small as it was meant to be."""

import concurrent.futures
import glob
import json
import os
import re
import shlex
import subprocess
import sys

GLUE = "broker"  # the .c files of that folder, which put the parts together
GLUE_LINES_MAX = 2000
# These still share its struct; whoever needs it no more leaves this list.
SHARE_ITS_STRUCT = {"door", "persist", "operate"}


def layers(root):
    """{name: (folder, what it names)} of each layer(...) below broker/, proto/ and storage/."""
    found = {}
    for top in ("broker", "proto", "storage"):
        for path in sorted(glob.glob(f"{root}/{top}/**/CMakeLists.txt", recursive=True)):
            with open(path, encoding="utf-8") as file:
                match = re.search(r"^layer\((\w+)([^)]*)\)", file.read(), re.M)
            if match:
                names = re.search(r"DEPENDS([\w\s]*?)(?:FOREIGN|EXCLUDE|$)", match[2])
                found[match[1]] = (os.path.dirname(path), set(names[1].split()) if names else set())
    return found


def closure(found, name, seen=None):
    seen = set() if seen is None else seen
    for other in found[name][1] - seen:
        seen.add(other)
        closure(found, other, seen)
    return seen


def compilers(build):
    """{folder: the command of one .c file in it, without what it reads and writes}"""
    with open(f"{build}/compile_commands.json", encoding="utf-8") as file:
        entries = json.load(file)
    commands = {}
    for entry in entries:
        words = shlex.split(entry["command"])
        words = words[next(i for i, word in enumerate(words) if not word.endswith("ccache")) :]
        cut = [
            word
            for i, word in enumerate(words)
            if word not in ("-o", "-c") and words[i - 1] not in ("-o", "-c")
        ]
        folder = os.path.dirname(entry["file"])
        if "/CMakeFiles/usher_" in entry["command"] and "/tests/" not in entry["command"]:
            commands.setdefault(folder, (entry["directory"], cut))
    return commands


def takes(command, header):
    directory, words = command
    done = subprocess.run(
        words + ["-fsyntax-only", "-x", "c", "-"],
        cwd=directory,
        text=True,
        input=f'#include "{header}"\n',
        capture_output=True,
    )
    if done.returncode != 0 and "No such file" not in done.stderr:
        sys.exit(f"{header} does not stand alone:\n{done.stderr}")
    return done.returncode == 0


def main(root, build):
    found = layers(root)
    commands = compilers(build)
    headers = {name: sorted(glob.glob(f"{folder}/*.h")) for name, (folder, _) in found.items()}
    cases = []
    for name, (folder, _) in sorted(found.items()):
        sees = closure(found, name) | {name}
        for other in sorted(found):
            if headers[other] and folder in commands:
                header = (
                    f"{os.path.basename(found[other][0])}/{os.path.basename(headers[other][0])}"
                )
                cases.append((name, header, other in sees, commands[folder]))
    faults = []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for case, taken in zip(cases, pool.map(lambda case: takes(case[3], case[1]), cases)):
            if taken != case[2]:
                faults.append(
                    f"a file of {case[0]} {'sees' if taken else 'does not see'} {case[1]}"
                )
    for name in sorted(found):
        if GLUE in closure(found, name) and name != GLUE and name not in SHARE_ITS_STRUCT:
            faults.append(f"{name} depends on the glue")
    lines = sum(
        len(open(path, encoding="utf-8").readlines()) for path in glob.glob(f"{root}/{GLUE}/*.[ch]")
    )
    if lines > GLUE_LINES_MAX:
        faults.append(f"the glue has {lines} lines, and {GLUE_LINES_MAX} are meant to do")
    refused = sum(not case[2] for case in cases)
    if not refused or refused == len(cases):
        faults.append(f"nothing was shown by {len(cases)} includes")
    for fault in faults:
        print(fault)
    print(
        f"{len(found)} layers: {len(cases)} includes planted, {refused} of them refused; "
        f"the glue has {lines} lines"
    )
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
