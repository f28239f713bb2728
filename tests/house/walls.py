#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A layer sees the folders that its CMakeLists.txt names, and no other; of a library that is installed a
program sees the header alone.

    walls.py ROOT BUILD

In each folder that is a layer one include of every other folder is planted. The compiler, with the
flags of a file that stands there, takes those that the layer names, itself or by what it names, and
refuses the others. And the glue, which may see all, stays as small as it was meant to be."""

import collections
import concurrent.futures
import glob
import json
import os
import re
import shlex
import subprocess
import sys

GLUE = "broker"  # the .c files of that folder, which put the parts together
GLUE_LINES_MAX = 2600

# An api has no folder of its own: it is one header of its layer's. Nor has a part: it is some.
Layer = collections.namedtuple("Layer", "folder depends uses headers")


def layers(root):
    """{name: Layer} of each layer(...), program(...), api(...) and part(...), see cmake/Layer.cmake."""
    found = {}
    for top in ("broker", "proto", "storage", "clients"):
        for path in sorted(glob.glob(f"{root}/{top}/**/CMakeLists.txt", recursive=True)):
            folder = os.path.dirname(path)
            with open(path, encoding="utf-8") as file:
                text = file.read()
            for kind, name, rest in re.findall(
                r"^(layer|program|api|part)\(([\w-]+)([^)]*)\)", text, re.M
            ):
                if kind == "api":
                    found[f"{name}_api"] = Layer(None, set(), set(), [rest.strip()])
                    found[name].depends.add(f"{name}_api")
                    continue
                if kind == "part":
                    of, *some = rest.split()
                    within = [f"{os.path.basename(folder)}/{header}" for header in some]
                    found[name] = Layer(None, set(), set(), within)
                    found[of].depends.add(name)
                    continue
                headers = [os.path.basename(header) for header in glob.glob(f"{folder}/*.h")]
                installed = re.findall(rf"^api\({name} ([\w.]+)\)", text, re.M)
                found[name] = Layer(
                    folder,
                    listed("DEPENDS", rest),
                    listed("USES", rest),
                    [
                        f"{os.path.basename(folder)}/{header}"
                        for header in sorted(headers)
                        if header not in installed
                    ],
                )
    return found


def listed(word, rest):
    names = re.search(rf"{word}((?:\s+(?!DEPENDS|USES|FOREIGN|EXCLUDE)[\w-]+)*)", rest)
    return set(names[1].split()) if names else set()


def closure(found, name, seen=None):
    """What one sees who names it: what its headers speak of, and not what it uses."""
    seen = set() if seen is None else seen
    for other in found[name].depends - seen:
        seen.add(other)
        closure(found, other, seen)
    return seen


def sees(found, name):
    """What its own files see."""
    seen = closure(found, name) | {name}
    for other in found[name].uses:
        seen |= closure(found, other) | {other}
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
        if "/tests/" not in entry["command"]:
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
    cases = []
    faults = []
    for name, layer in sorted(found.items()):
        if layer.folder is None:
            continue
        if layer.folder not in commands:
            faults.append(f"{name} has no file in which to plant")
            continue
        seen = sees(found, name)
        for other in sorted(found):
            if found[other].headers:
                cases.append((name, found[other].headers[0], other in seen, commands[layer.folder]))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for case, taken in zip(cases, pool.map(lambda case: takes(case[3], case[1]), cases)):
            if taken != case[2]:
                faults.append(
                    f"a file of {case[0]} {'sees' if taken else 'does not see'} {case[1]}"
                )
    for name in sorted(found):
        if GLUE in sees(found, name) and name != GLUE:
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
