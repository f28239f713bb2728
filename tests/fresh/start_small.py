# SPDX-License-Identifier: Apache-2.0
"""Somebody's first minute: a minimal Debian 12, a clone, `./dev run`, and a message. And `./dev demo`.

What they install is counted and held to a limit; how long it took is said, and is no reason to fail."""

import os
import re
import resource
import signal
import sys
import threading
import time

import root

# 98 and 111 when this was written: docs/decisions/0132-start-small.md says of what.
RUN_PACKAGES_MAX = 100
DEMO_PACKAGES_MAX = 115
PATIENCE_SECONDS = 900
READY = '"event":"ready"'
# Its own would be taken where another broker runs: the network is the machine's, for apt.
PORTS = ["--set", "listen.tcp=127.0.0.1:0", "--set", "admin.listen=127.0.0.1:0"]


def check(good, what):
    if not good:
        raise AssertionError(what)


class Watched:
    """A command of ./dev, with the time of each of its lines."""

    def __init__(self, place, *command):
        self.began = time.time()
        self.lines = []
        self.process = place.start(*command)
        self.seen = threading.Condition()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            with self.seen:
                self.lines.append((time.time(), line.rstrip()))
                self.seen.notify()
        with self.seen:
            self.lines.append((time.time(), None))
            self.seen.notify()

    def when(self, text):
        """The time of the first line with that text, None when there was none."""
        return next((at for at, line in self.lines if line and text in line), None)

    def wait(self, text):
        def over():
            return self.when(text) or self.lines and self.lines[-1][1] is None

        with self.seen:
            self.seen.wait_for(over, PATIENCE_SECONDS)
        check(self.when(text), f"no '{text}' in:\n{self.tail()}")
        return self.when(text)

    def tail(self):
        return "\n".join(line for _, line in self.lines[-40:] if line is not None)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        check(self.process.wait(60) == 0, f"ended with {self.process.returncode}:\n{self.tail()}")
        self.reader.join()


def first_start(place, before):
    run = Watched(place, "./dev", "run", *PORTS)
    ready = run.wait(READY)
    new = place.installed() - before
    asked = run.when("installing: ")
    fetched, built = place.unpacking_began(), run.when("Preset CMake variables")
    check(asked and fetched and built, f"what ./dev run said:\n{run.tail()}")
    fetched = min(max(fetched, asked), built)  # it is known to the second
    print(
        f"     ./dev run: {len(new)} packages, {place.kilobytes(new) / 1024:.0f} MB installed; listening after "
        f"{ready - run.began:.1f} s, of them {fetched - asked:.0f} s download, {built - fetched:.0f} s "
        f"installation, {ready - built:.1f} s build"
    )
    check_words(run)
    use(place, re.search(r'"event":"ready".*"port":(\d+)', run.tail())[1])
    run.stop()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"     {used.ru_utime + used.ru_stime:.0f} s of processors' time, on {os.cpu_count()} of them"
    )
    return new


def use(place, port):
    """With what was just built."""
    place.run(
        "build/release/bin/usher", "send", "--port", port, "--user", "ann", "--to", "ann", "hello"
    )
    place.run("build/release/bin/usherctl", "count")


def check_words(run):
    """What is left out is said in one line, and nothing else stands there of it."""
    told = [line for _, line in run.lines if line and re.search("chart|uPlot|npm", line)]
    check(len(told) == 1 and "./dev build" in told[0], f"of the charts: {told}")


def second_start(place):
    run = Watched(place, "./dev", "run", *PORTS)
    ready = run.wait(READY)
    check(run.when("installing: ") is None, "the second ./dev run installs something")
    print(f"     ./dev run again: listening after {ready - run.began:.1f} s")
    run.stop()


def demo(place, before):
    run = Watched(place, "env", "USHER_DEMO_PAUSE=0", "./dev", "demo")
    check(run.process.wait(PATIENCE_SECONDS) == 0, f"./dev demo:\n{run.tail()}")
    run.reader.join()
    new = place.installed() - before
    print(
        f"     ./dev demo: {len(new)} packages by now; over after {time.time() - run.began:.1f} s"
    )
    return new


def inside(place):
    before = place.installed()
    new = first_start(place, before)
    check(len(new) <= RUN_PACKAGES_MAX, f"./dev run installs {len(new)} packages: {sorted(new)}")
    second_start(place)
    new = demo(place, before)
    check(len(new) <= DEMO_PACKAGES_MAX, f"./dev demo installs {len(new)} packages: {sorted(new)}")
    print("ok   from a clone to a message on a minimal Debian 12")


sys.exit(root.main(__file__, "bookworm", inside))
