# SPDX-License-Identifier: Apache-2.0
"""Logins beside messages that are stored: both are in the same transactions, and a login waits for
the sync of whatever came with it."""

import concurrent.futures
import os
import subprocess
import sys
import time

from bench_servers import ROOT, Servers

sys.path.append(os.path.join(ROOT, "tests", "play"))
from usherplay.backend import Backend, backend_pb  # noqa: E402

LOGINS_PER_S = 500
STORED_PER_S = 1000
NAMES = 10000
BYTES = 128
WRITERS = 4
BATCHES_PER_S = 100  # of all of them: some at once, again and again
SECONDS = 4


def store_some(link, number, until):
    """One of the writers: its part of so many a second. Gives how many were stored."""
    each = STORED_PER_S // BATCHES_PER_S
    made = stored = 0
    began = time.monotonic()
    with Backend(link, f"post{number}") as backend:
        while time.monotonic() < until:
            due = began + made * WRITERS / STORED_PER_S
            time.sleep(max(0, due - time.monotonic()))
            made += each
            names = [f"away{(made + i) * 7919 % NAMES}" for i in range(each)]
            pushes = [
                backend_pb.Push(to=[name], payload=bytes(BYTES), keep_s=3600) for name in names
            ]
            results = backend.submit(*(backend_pb.Command(push=push) for push in pushes))
            stored += sum(result.push.accepted for result in results)
            if made % (each * BATCHES_PER_S // WRITERS) == 0:
                backend.fetch(wait_ms=1)  # its sign of life
    return stored


def store_for(link, seconds):
    """All of them, in a process of its own. Says how many a second were stored."""
    until = time.monotonic() + seconds
    with concurrent.futures.ThreadPoolExecutor(WRITERS) as threads:
        waiting = [threads.submit(store_some, link, number, until) for number in range(WRITERS)]
        print("ready", flush=True)
        print(sum(one.result() for one in waiting) / seconds)


class Beside:
    """The writer beside something; `per_s` afterwards."""

    def __init__(self, link):
        command = [sys.executable, os.path.abspath(__file__), link, str(SECONDS + 1)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def end(self):
        return float(self.process.communicate()[0].split()[-1])


def stored(recorder, rounds):
    """By turns alone and beside, in each round the other one first."""
    with Servers(recorder.folder) as servers:
        servers.start("usher", "--set", "session.resume_ms=1000")
        for number in range(rounds):
            for beside in sorted((False, True), reverse=number % 2 == 1):
                writer = Beside(servers.link()) if beside else None
                names = ("--prefix", f"bench{number}{'b' if beside else 'a'}-")
                load = ("-u", SECONDS * LOGINS_PER_S, "-r", LOGINS_PER_S, *names)
                figures = servers.bench("login", *load)
                if writer:
                    figures["stored_per_s"] = writer.end()
                setting = f"{LOGINS_PER_S} logins/s"
                if beside:
                    setting += f" beside {STORED_PER_S:,} stored/s"
                recorder.add(number, "usher", setting, figures)
                time.sleep(2)  # their sessions expire before the next come


if __name__ == "__main__":
    store_for(sys.argv[1], float(sys.argv[2]))
