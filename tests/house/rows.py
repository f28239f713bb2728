#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A client message is a row of client_bodies.def, and nothing of it can be forgotten.

    rows.py ROOT BUILD

Into a copy of the table rows are planted, and what includes it is built with the flags of the build:
the rows as they are make a usherd; one without a handler does not link; one whose number is taken, or
that is missing for a body of the schema, does not compile. Each row stands in the
protocol and has a frame in the fuzzer's corpus. And outside of proto/ no tag of the wire is put together
by hand."""

import glob
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile

TABLE = "proto/client_bodies.def"
DISPATCH = "broker/user/frames.c"
ORACLE = "tests/fuzz/client_frame_fuzz.c"  # what compares each body of the schema
PLANTED = "BODY(15, SHOUT, shout, user_shout, FIELD(shout, 1, PEER, room))\n"


def compiler(root, build, source):
    """(its directory, the command without what it writes)"""
    with open(f"{build}/compile_commands.json", encoding="utf-8") as file:
        command = [e for e in json.load(file) if e["file"] == f"{root}/{source}"][0]
    words = shlex.split(command["command"])
    words = words[next(i for i, word in enumerate(words) if not word.endswith("ccache")) :]
    kept = [
        word
        for i, word in enumerate(words)
        if word not in ("-o", "-MD", "-MT", "-MF") and words[i - 1] not in ("-o", "-MT", "-MF")
    ]
    return command["directory"], kept


def linker(build):
    """How usherd is linked: the last command that makes it."""
    ninja = ["ninja", "-C", build, "-t", "commands", "-s", "bin/usherd"]
    done = subprocess.run(ninja, capture_output=True, text=True, check=True)
    command = done.stdout.strip().splitlines()[-1]
    return re.sub(r"^: && (?:\S*ccache )?|\s&& :$", "", command)


def built(table, root, build, source, link):
    """What the compiler, and then the linker, say when the table is that; "": all is well."""
    directory, words = compiler(root, build, source)
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/proto")
        with open(f"{folder}/{TABLE}", "w", encoding="utf-8") as file:
            file.write(table)
        first = words[:1] + [f"-I{folder}"] + words[1:] + ["-o", f"{folder}/planted.o"]
        plain = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(first, cwd=directory, env=plain, capture_output=True, text=True)
        if done.returncode != 0 or not link:
            return done.stderr
        command = re.sub(
            r"-o \S+", f"-o {folder}/usherd {folder}/planted.o", linker(build), count=1
        )
        done = subprocess.run(
            command, cwd=build, env=plain, shell=True, capture_output=True, text=True
        )
        return done.stderr if done.returncode != 0 else ""


def forgotten(root, table):
    """What a row should have beside the code."""
    with open(f"{root}/docs/protocol.md", encoding="utf-8") as file:
        protocol = file.read()
    for name in re.findall(r"^BODY\(\d+, \w+, (\w+)", table, re.M):
        title = "".join(word.capitalize() for word in name.split("_"))
        if f"\n| {title} |" not in protocol:
            yield f"docs/protocol.md has no row {title}"
        if not os.path.exists(f"{root}/tests/fuzz/corpus/client_frame/{name}"):
            yield f"tests/fuzz/corpus/client_frame has no {name}"


def hand_tags(root):
    """Lines of programs and libraries that shift a field's number."""
    return [
        f"{os.path.relpath(path, root)}:{number}: {line.strip()}"
        for top in ("broker", "clients", "storage")
        for path in sorted(glob.glob(f"{root}/{top}/**/*.[ch]", recursive=True))
        for number, line in enumerate(open(path, encoding="utf-8"), 1)
        if re.search(r"<<\s*3\b", line)
    ]


def main(root, build):
    with open(f"{root}/{TABLE}", encoding="utf-8") as file:
        table = file.read()
    last = table[table.rindex("BODY(") :]
    taken = PLANTED.replace("15", re.match(r"BODY\((\d+)", last)[1])
    cases = (
        ("the rows as they are", table, DISPATCH, True, None),
        (
            "a row without a handler",
            table + PLANTED,
            DISPATCH,
            True,
            "undefined reference to `user_shout'",
        ),
        ("a number that is taken", table + taken, DISPATCH, True, "duplicate case value"),
        ("every body of the schema", table, ORACLE, False, None),
        ("a body without a row", table.replace(last, ""), ORACLE, False, "not handled in switch"),
    )
    faults = 0
    for name, rows, source, link, wanted in cases:
        said = built(rows, root, build, source, link)
        good = said == "" if wanted is None else wanted in said
        print(
            f"{name}: {'built' if said == '' else 'refused'}{'' if good else ', and should not be'}"
        )
        if not good:
            print(said)
            faults += 1
    for what in forgotten(root, table):
        print(what)
        faults += 1
    tags = hand_tags(root)
    print(f"{len(tags)} tags put together outside of proto/", *tags, sep="\n")
    return faults != 0 or tags != []


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
