# SPDX-License-Identifier: Apache-2.0
"""A broker whose process is followed by others: what plays do with its process they do with the one that
serves now, which is a child of ours too once its parent is gone."""

import ctypes
import os
import signal
import subprocess
import threading
import time

from usherplay.broker import Broker, _living, program
from usherplay.stage import Failed, check, eventually

PR_SET_CHILD_SUBREAPER = 36
TOO_SLOW = ("does not come to rest", "has said nothing in time")
SLOW_TIMES = 3


def adopt_orphans():
    """Whoever loses its parent among our descendants is our child from then on."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise Failed("prctl: " + os.strerror(ctypes.get_errno()))


class Successor:
    """As much of subprocess.Popen as plays use."""

    def __init__(self, pid):
        self.pid = pid
        self.returncode = None

    def poll(self):
        if self.returncode is not None:
            return self.returncode
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            if os.path.exists(f"/proc/{self.pid}"):
                return None  # whose child it is has not ended yet
            raise
        if pid != 0:
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout=60):
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("usherd", timeout)
            time.sleep(0.005)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


class Loop(threading.Thread):
    """Does something again and again until it is told to end; what it raises is raised then."""

    def __init__(self, what):
        super().__init__(daemon=True)
        self.what, self.over, self.fault, self.count = what, False, None, 0
        self.start()

    def run(self):
        try:
            while not self.over:
                self.what(self.count)
                self.count += 1
        except BaseException as fault:  # pylint: disable=broad-exception-caught
            self.fault = fault

    def end(self):
        self.over = True
        self.join(60)
        check(not self.is_alive(), "a loop that ends")
        if self.fault is not None:
            raise self.fault
        check(self.count > 0, "something was done")
        return self.count


class SucceededBroker(Broker):
    """A Broker that can be upgraded."""

    def __init__(self, *arguments, **options):
        adopt_orphans()
        super().__init__(*arguments, **options)

    def ask(self, *arguments):
        """usherctl upgrade: its exit code and what it says."""
        done = subprocess.run(
            [program("usherctl"), "--url", self.link_url, *arguments, "upgrade"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def upgrade(self):
        """To another process; gives its line of the log. A machine that has no time for the two of them is asked
        again, as whoever upgrades would."""
        before = self.process
        count = len(self.log_events("upgraded", every_start=True))
        code, said = self.ask()
        for _ in range(SLOW_TIMES):
            if not any(slow in said for slow in TOO_SLOW):
                break
            print("     (there was not time enough, and the broker is asked again)")
            code, said = self.ask()
        if code != 0:
            self.print_tail()
            raise Failed(f"usherctl upgrade ended with {code}: {said}")
        lines = eventually(
            lambda: self.log_events("upgraded", every_start=True)[count:], "the line of the old one"
        )
        line = lines[0]
        if before.wait(20) != 0:
            raise Failed(f"the process before ended with {before.returncode}")
        _living.discard(before)
        self.process = Successor(line["to"])
        _living.add(self.process)
        return line
