# SPDX-License-Identifier: Apache-2.0
"""One usherd process on a free port, with a folder of its own."""

import atexit
import collections
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from usherplay.schema import BIN
from usherplay.stage import OVER, Failed

READY_SECONDS = 20
STOP_SECONDS = 15
TAIL_LINES = 40
RAW_LINES = 200

_living = set()
_ports = []


def _end_all():
    for process in list(_living):
        process.kill()


atexit.register(_end_all)


def _hold(host, port):
    holder = socket.socket()
    holder.bind((host, port))
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not before: else two may get one
    _ports.append(holder)
    return holder.getsockname()[1]


def free_port(*others):
    """A port that stays ours until this process ends, at 127.0.0.1 and those others: who only asks the
    kernel for one gives it to whoever connects or listens next. It is bound, not listened at, and
    shared with those who reuse addresses, as usherd and nng do."""
    while True:
        port = _hold("127.0.0.1", 0)
        try:
            for other in others:
                _hold(other, port)
            return port
        except OSError:
            continue  # somebody has it there


def program(name):
    path = os.path.join(BIN, name)
    if not os.path.exists(path):
        sys.exit(f"no program {path}: build first (./dev build) or set USHER_BIN")
    return path


class Broker:
    """Starts at once and waits until ready. As a context manager it is stopped in an orderly way
    at the end, and must then exit with 0: so each play is also a test of the stop.

    options: {"dotted.key": value}, over the defaults below. keep: a folder to use instead of a
    new one; it is then the caller's to remove. wait: False starts without waiting for ready.
    ws: it listens for WebSocket too, as it does where USHER_PLAY_OVER says so; `address` is where
    clients connect that say nothing else. environment: variables for the process beside ours. wrapper: a command, as a list, that becomes
    usherd by exec and gets its command line at the end."""

    def __init__(
        self, options=None, keep=None, wait=True, environment=None, wrapper=(), ws=OVER == "ws"
    ):
        self.folder = keep or tempfile.mkdtemp(prefix="usher-play-")
        self._own_folder = keep is None
        self.port = free_port()
        self.address = self.tcp_address = ("127.0.0.1", self.port)
        self.link_path = os.path.join(self.folder, "link.sock")
        self.link_url = f"ipc://{self.link_path}"
        self.store = os.path.join(self.folder, "store")
        self.options = {
            "listen.tcp": f"127.0.0.1:{self.port}",
            "store.path": self.store,
            "link.urls": self.link_url,
            # Plays that want the admin endpoint take a free port: 127.0.0.1:0.
            "admin.listen": "",
            "log.format": "json",
            # A play is one source, and pushes as fast as it can; 62-doors and 43-logins set these.
            "limits.prelogin_per_source": 0,
            "limits.requests_per_second": 0,
            "limits.requests_per_second_per_source": 0,
            "limits.logins_per_minute_per_source": 0,
            # A backend of a play fetches when it wants to, and a slow machine is not to lose it meanwhile.
            "link.fetch_timeout_ms": 60000,
            # So that plays may look at the files that it has open.
            "process.core_dumps": "true",
        }
        if ws:
            self.ws_port = free_port()
            self.ws_address = ("127.0.0.1", self.ws_port)
            self.options["listen.ws"] = f"127.0.0.1:{self.ws_port}"
        if OVER == "ws":
            self.address = self.ws_address
        self.options.update(options or {})
        self.environment = environment
        self.wrapper = list(wrapper)
        self.process = None
        self.lines = []  # dicts of the log, over all starts
        self._changed = threading.Condition()
        self.ready_seconds = None
        self._closed = False
        self.ends_with = (0,)  # the exit codes of an orderly stop that are right
        try:
            self.start(wait)
        except BaseException:
            self.close()
            raise

    # --- the process ---------------------------------------------------------------------------

    def command(self):
        arguments = [program("usherd")]
        for key, value in self.options.items():
            arguments += ["--set", f"{key}={value}"]
        return arguments

    def start(self, wait=True):
        began = time.monotonic()
        self._first_line = len(self.lines)
        environment = None if self.environment is None else {**os.environ, **self.environment}
        self.process = subprocess.Popen(
            self.wrapper + self.command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=environment,
        )
        _living.add(self.process)
        self._reader = threading.Thread(
            target=self._read_log, args=(self.process.stderr,), daemon=True
        )
        self._reader.start()
        if wait:
            self.wait_log("ready", READY_SECONDS)
            self.ready_seconds = time.monotonic() - began
        return self

    def _read_log(self, pipe):
        for raw in pipe:
            text = raw.decode("utf-8", "replace").rstrip("\n")
            if os.environ.get("USHER_PLAY_LOG"):
                print(f"     | {text}", file=sys.stderr)
            try:
                line = json.loads(text)
                if not isinstance(line, dict):
                    raise ValueError
            except ValueError:
                line = {"raw": text}
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()
        pipe.close()
        with self._changed:
            self._changed.notify_all()

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def check_alive(self):
        if not self.alive():
            self.print_tail()
            raise Failed(f"the broker died with {self.process.returncode}")

    def print_stacks(self):
        """Where its threads are, when there is a debugger to tell."""
        if shutil.which("gdb"):
            subprocess.run(
                [
                    "gdb",
                    "-q",
                    "-batch",
                    "-p",
                    str(self.process.pid),
                    "-ex",
                    "thread apply all bt 12",
                ],
                timeout=60,
            )

    def _wait_end(self, timeout):
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.print_tail()
            self.print_stacks()
            self.process.kill()
            self.process.wait()
            raise Failed(f"the broker did not end within {timeout} s") from None
        finally:
            _living.discard(self.process)
        self._reader.join(5)
        return code

    def stop(self, timeout=STOP_SECONDS):
        """SIGTERM; gives the exit code."""
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        return self._wait_end(timeout)

    def kill(self):
        """SIGKILL."""
        if self.alive():
            self.process.kill()
        return self._wait_end(5)

    def restart(self, options=None):
        """Starts again on the same port and folder, after stop or kill."""
        if self.alive():
            raise Failed("the play restarts a broker that still runs")
        self.options.update(options or {})
        return self.start()

    def numbers(self):
        """Counters, gauges and readings by name, of a broker with "admin.listen": "127.0.0.1:0"."""
        port = next(line["port"] for line in self.log_events("listening") if line["for"] == "admin")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/stats", timeout=20) as answer:
            told = json.load(answer)
        return {**told["counters"], **told["gauges"]}

    # --- the log -------------------------------------------------------------------------------

    def log_events(self, name, every_start=False):
        with self._changed:
            lines = self.lines[0 if every_start else self._first_line :]
        return [line for line in lines if line.get("event") == name]

    def wait_log(self, name, timeout=5.0, count=1):
        """Waits for the count-th such event since the last start; gives it."""
        deadline = time.monotonic() + timeout
        while True:
            events = self.log_events(name)
            if len(events) >= count:
                return events[count - 1]
            if self.process.poll() is not None and not self._reader.is_alive():
                self.print_tail()
                raise Failed(
                    f"the broker ended with {self.process.returncode} before it logged " f"{name!r}"
                )
            left = deadline - time.monotonic()
            if left <= 0:
                self.print_tail()
                raise Failed(f"the broker did not log {name!r} within {timeout} s")
            with self._changed:
                self._changed.wait(min(left, 0.1))

    def raw_lines(self):
        """What was written to stderr and is not the log: a failed check, a sanitizer's report."""
        with self._changed:
            return [line["raw"] for line in self.lines if "raw" in line]

    def print_tail(self):
        """And before it what is no log, from its beginning: a report says first what it is about."""
        with self._changed:
            earlier, lines = self.lines[:-TAIL_LINES], self.lines[-TAIL_LINES:]
        for line in [line["raw"] for line in earlier if "raw" in line][:RAW_LINES]:
            print(f"     | {line}")
        print(f"     the broker's last {len(lines)} lines:")
        for line in lines:
            print(f"     | {line['raw'] if 'raw' in line else json.dumps(line)}")

    # --- the process seen from outside ---------------------------------------------------------

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self):
        counts = collections.Counter()
        folder = f"/proc/{self.process.pid}/fd"
        for name in os.listdir(folder):
            try:
                counts[os.readlink(os.path.join(folder, name)).partition(":")[0]] += 1
            except OSError:
                pass
        return counts

    # --- the end -------------------------------------------------------------------------------

    def close(self):
        if self._closed:
            return
        self._closed = True
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        _living.discard(self.process)
        if not self._own_folder:
            return
        if os.environ.get("USHER_PLAY_KEEP"):
            print(f"     kept: {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is not None:
                if kind is not KeyboardInterrupt:  # whoever interrupts knows why it ends
                    self.print_tail()
                return
            if self.alive():
                code = self.stop()
                if code not in self.ends_with:
                    self.print_tail()
                    raise Failed(f"the orderly stop ended with {code}, not one of {self.ends_with}")
            elif self.process.returncode not in (*self.ends_with, -signal.SIGKILL):
                self.print_tail()
                raise Failed(f"the broker had died with {self.process.returncode}")
        finally:
            self.close()
