# SPDX-License-Identifier: Apache-2.0
"""Which test runs which line: gcov of one test after the other."""

import json
import os
import subprocess
import time


class Test:
    """A program that must end with 0, its target in the build, and how long it took unchanged."""

    def __init__(self, name, target, command):
        self.name = name
        self.target = target
        self.command = command
        self.seconds = 0.0


# A change may also make a program grow without end.
LIMITED = {**os.environ, "ASAN_OPTIONS": "hard_rss_limit_mb=2048"}


def run_quietly(command, folder, seconds):
    """The exit code; None when it took too long."""
    try:
        return subprocess.run(
            command,
            cwd=folder,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            env=LIMITED,
        ).returncode
    except subprocess.TimeoutExpired:
        return None


def counts_files(folder):
    for parent, _, names in os.walk(folder):
        yield from (os.path.join(parent, name) for name in names if name.endswith(".gcda"))


def lines_run(folder, root):
    """{(path, line)} that the counts in the folder say were run; takes the counts away."""
    files = list(counts_files(folder))
    found = set()
    if files:
        printed = subprocess.run(
            ["gcov", "--json-format", "--stdout", *files],
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for document in printed.splitlines():
            for file in json.loads(document)["files"]:
                path = os.path.relpath(os.path.join(folder, file["file"]), root)
                found.update(
                    (path, line["line_number"]) for line in file["lines"] if line["count"] > 0
                )
    for name in files:
        os.unlink(name)
    return found


def measure(folder, root, tests, say):
    """{(path, line): [tests that run it]}; a test that fails unchanged is an error."""
    runs = {}
    for name in counts_files(folder):
        os.unlink(name)
    for test in tests:
        started = time.monotonic()
        code = run_quietly(test.command, folder, 600)
        test.seconds = time.monotonic() - started
        if code != 0:
            raise SystemExit(f"mutants: {test.name} fails without any change ({code})")
        for place in lines_run(folder, root):
            runs.setdefault(place, []).append(test)
    say(f"{len(tests)} tests run {len(runs)} lines")
    return runs
