#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Plants small changes in the code, one after the other, and lists those that no test noticed.

    ./dev mutants [COUNT] [--seed N] [--seconds S] [--list] [PATH...]

COUNT changes (100) are drawn at random, as many of each kind as can be had, from the given files
and folders (broker, storage and proto). The same seed draws the same ones from the same sources.
Each is planted in a copy of the tree in build/mutants; then those unit tests that run its line, and
the simulation if it does, are built and run, the nearest first, until one fails. Everything is built
with the address sanitizer, so that a call that is left out may also show as a leak. A change that
does not compile is replaced by another one.

What was found goes line by line into build/mutants/report.tsv and is summed up at the end: noticed
by a unit test, by the simulation, survived all that run the line, or on a line that none of them
runs, which only plays may know. Survivors are no verdict: a change may be none in effect. Judge each."""

import argparse
import collections
import os
import random
import shutil
import subprocess
import sys
import time

sys.dont_write_bytecode = True

import coverage  # noqa: E402
import planting  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
WORK = os.path.join(ROOT, "build", "mutants")
TREE = os.path.join(WORK, "tree")
SEEDS = {"coverage": "40", "sanitized": "100"}
FLAGS = {
    "coverage": "-O0 --coverage",
    "sanitized": "-O1 -fsanitize=address -fno-omit-frame-pointer",
}


def say(text):
    print(text, flush=True)


def copy_tree():
    """The sources as they stand, into a folder of their own; unchanged files keep their times."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout
    listed = {os.fsdecode(name) for name in names.split(b"\0") if name}
    listed = {name for name in listed if os.path.isfile(os.path.join(ROOT, name))}
    for parent, _, files in os.walk(TREE):
        for file in files:
            path = os.path.join(parent, file)
            if os.path.relpath(path, TREE) not in listed:
                os.unlink(path)
    for name in listed:
        source, target = os.path.join(ROOT, name), os.path.join(TREE, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not os.path.exists(target) or read(source) != read(target):
            shutil.copy(source, target)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def configure(name):
    folder = os.path.join(WORK, name)
    subprocess.run(
        [
            "cmake",
            "-S",
            TREE,
            "-B",
            folder,
            "-G",
            "Ninja",
            "-DCMAKE_C_COMPILER=gcc",
            "-DCMAKE_BUILD_TYPE=None",
            f"-DCMAKE_C_FLAGS={FLAGS[name]} -w",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return folder


def build(folder, *targets):
    return (
        subprocess.run(
            ["ninja", "-C", folder, *targets],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ).returncode
        == 0
    )


def all_tests(folder, name):
    """The unit tests and the simulation, as they are built in the folder."""
    listed = subprocess.run(
        ["ninja", "-C", folder, "-t", "targets", "all"], check=True, capture_output=True, text=True
    ).stdout
    units = sorted(
        {
            line.split(":")[0]
            for line in listed.splitlines()
            if line.startswith("unit_") and line.split(":")[0].endswith("_test")
        }
    )
    tests = [coverage.Test(unit, unit, [os.path.join(folder, "bin", unit)]) for unit in units]
    tests.append(
        coverage.Test(
            "simulation",
            "usher_sim",
            [os.path.join(folder, "bin", "usher-sim"), "--seeds", SEEDS[name]],
        )
    )
    return tests


def sources_of(paths):
    for path in paths:
        if os.path.isfile(os.path.join(TREE, path)):
            yield path
            continue
        for parent, _, names in sorted(os.walk(os.path.join(TREE, path))):
            yield from (
                os.path.relpath(os.path.join(parent, name), TREE)
                for name in sorted(names)
                if name.endswith(".c")
            )


def drawn(paths, seed):
    """All changes, at random, the kinds in turn."""
    kinds = collections.defaultdict(list)
    for path in sources_of(paths):
        with open(os.path.join(TREE, path), encoding="utf-8") as file:
            for change in planting.changes_of(path, file.read()):
                kinds[change.kind].append(change)
    chance = random.Random(seed)
    for changes in kinds.values():
        chance.shuffle(changes)
    while kinds:
        for kind in sorted(kinds):
            yield kinds[kind].pop()
            if not kinds[kind]:
                del kinds[kind]


def nearest_first(change, tests):
    """Tests of the same file before those of the same folder; then the quick ones, and the
    simulation behind the units of its layer."""
    layer = os.path.basename(os.path.dirname(change.path))
    stem = os.path.splitext(os.path.basename(change.path))[0]

    def distance(test):
        of_file = test.name == f"unit_{layer}_{stem}_test"
        of_layer = test.name.startswith(f"unit_{layer}_")
        return (not of_file, not of_layer, test.name != "simulation", test.seconds)

    return sorted(tests, key=distance)


class Hunt:
    """One build in which changes are planted, and what is known of the tests."""

    def __init__(self, runs, tests):
        self.folder = configure("sanitized")
        self.runs = runs
        self.commands = {test.name: test.command for test in all_tests(self.folder, "sanitized")}
        if not build(self.folder, *[test.target for test in tests]):
            raise SystemExit("mutants: the copy in build/mutants/tree does not build")

    def compiles(self, change):
        """Only what the change compiles to; the linking comes with each test."""
        target = f"{change.path}^"
        return (
            subprocess.run(
                ["ninja", "-C", self.folder, os.path.join(TREE, target)],
                check=False,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ).returncode
            == 0
        )

    def noticed_by(self, change):
        """The name of the first test that failed; None: nobody noticed; "": it does not compile."""
        path = os.path.join(TREE, change.path)
        with open(path, encoding="utf-8") as file:
            source = file.read()
        write(path, change.planted(source))
        try:
            if not self.compiles(change):
                return ""
            for test in nearest_first(change, self.runs.get((change.path, change.line), [])):
                if not build(self.folder, test.target):
                    return ""
                code = coverage.run_quietly(
                    self.commands[test.name], self.folder, 30 + 20 * test.seconds
                )
                if code != 0:
                    return test.name
            return None
        finally:
            write(path, source)


def told(change, source):
    """The line before and after, in one line."""
    begin = source.rfind("\n", 0, change.begin) + 1
    end = source.find("\n", change.end)
    after = change.planted(source)[begin : end + len(change.text) - (change.end - change.begin)]
    return " ".join(source[begin:end].split()), " ".join(after.split())


def verdict(by, was_run):
    if by is None:
        return "SURVIVED" if was_run else "NOT RUN"
    return "simulation" if by == "simulation" else "unit"


def hunt_all(arguments, hunt):
    """Plants until COUNT compiled or the time is over; {verdict: how many}."""
    counts = collections.Counter()
    started = time.monotonic()
    with open(os.path.join(WORK, "report.tsv"), "w", encoding="utf-8") as report:
        for change in drawn(arguments.path, arguments.seed):
            if sum(counts.values()) >= arguments.count or (
                arguments.seconds and time.monotonic() - started > arguments.seconds
            ):
                break
            with open(os.path.join(TREE, change.path), encoding="utf-8") as file:
                before, after = told(change, file.read())
            by = hunt.noticed_by(change)
            if by == "":
                continue
            result = verdict(by, (change.path, change.line) in hunt.runs)
            counts[result] += 1
            print(
                result,
                by or "-",
                change.kind,
                f"{change.path}:{change.line}",
                before,
                after,
                sep="\t",
                file=report,
                flush=True,
            )
            if by is None:
                say(
                    f"{result:9} {change.path}:{change.line} {change.kind}\n"
                    f"    - {before}\n    + {after}"
                )
    return counts


def arguments_of(words):
    parser = argparse.ArgumentParser(prog="./dev mutants", description=__doc__.split("\n\n")[0])
    parser.add_argument("count", nargs="?", type=int, default=100)
    parser.add_argument("path", nargs="*", help="files and folders, from the top of the tree")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1000000))
    parser.add_argument("--seconds", type=int, help="stop after so long")
    parser.add_argument("--list", action="store_true", help="only say what could be planted")
    arguments = parser.parse_args(words)
    arguments.path = arguments.path or ["broker", "storage", "proto"]
    return arguments


def main():
    arguments = arguments_of(sys.argv[1:])
    os.makedirs(TREE, exist_ok=True)
    copy_tree()
    if arguments.list:
        for change in drawn(arguments.path, arguments.seed):
            say(f"{change.path}:{change.line} {change.kind} {change.text or 'left out'}")
        return
    say(f"seed {arguments.seed}")
    covered = configure("coverage")
    tests = all_tests(covered, "coverage")
    if not build(covered, *[test.target for test in tests]):
        raise SystemExit("mutants: the tree does not build")
    hunt = Hunt(coverage.measure(covered, TREE, tests, say), tests)
    counts = hunt_all(arguments, hunt)
    say(
        f"{sum(counts.values())} planted: {counts['unit']} noticed by unit tests, "
        f"{counts['simulation']} by the simulation, {counts['SURVIVED']} survived, "
        f"{counts['NOT RUN']} on lines that neither runs; see build/mutants/report.tsv"
    )


if __name__ == "__main__":
    main()
