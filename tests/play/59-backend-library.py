# SPDX-License-Identifier: Apache-2.0
"""Services that stand on libusher-backend, as processes of their own (usher-echo): they are back at once
when their broker is, whatever the clock of their machine does meanwhile; and two of them that have host
name and process number in common do not throw each other out."""

import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import threading
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    Failed,
    Link,
    backend_pb,
    check,
    eventually,
    play,
    program,
    scaled,
)
from usherplay.shim import Shim

HOUR_MS = 3600 * 1000
RESTARTS = 7
BACK_SECONDS = 0.5  # the dialer of nng rests for up to so long
RELINK_SECONDS = 9.0  # a request that stands still is given up after its time, then comes the next
LATE = 15.0
SLOWER = int(os.environ.get("USHER_PLAY_SCALE", "1"))


class Echo:
    """A usher-echo, and what it says."""

    def __init__(self, broker, *arguments, environment=None, wrapper=()):
        self.lines = []
        self.process = subprocess.Popen(
            [*wrapper, program("usher-echo"), "--url", broker.link_url, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line.rstrip())

    def said(self, words):
        return [line for line in self.lines if words in line]

    def wait(self, words, count=1, timeout=LATE):
        eventually(
            lambda: len(self.said(words)) >= count,
            f"{words!r} from usher-echo: {self.lines}",
            timeout,
        )

    def alive(self):
        return self.process.poll() is None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def served(broker, name="alice", timeout=LATE):
    """Seconds until a call of a newcomer is answered; before that it is told NO_SERVICE at once."""
    began = time.monotonic()
    with Client(broker) as client:
        client.login(name)
        while time.monotonic() - began < timeout:
            client.post("call", service="echo", method="echo", payload=b"here?")
            frame = client.next_frame(LATE)
            if frame.WhichOneof("body") == "reply":
                return time.monotonic() - began
            time.sleep(0.01)
    raise Failed(f"the service is not back {timeout} s after its broker")


def scene_back_at_once():
    """A broker that is killed and started again has its service back as fast as that connects."""
    took = []
    with Broker() as broker, Echo(broker) as echo:
        echo.wait("linked to")
        for number in range(scaled(RESTARTS, 3)):
            broker.kill()
            time.sleep(0.3)
            broker.restart()
            took.append(served(broker))
    print(f"     back after {', '.join(f'{each:.2f}' for each in took)} s")
    check(
        statistics.median(took) < SLOWER * BACK_SECONDS,
        f"back after {statistics.median(took):.2f} s",
    )


def scene_clock_of_the_backend():
    """The clock of the backend's machine is set back by an hour, then ahead by a day, while the broker is
    away: the service is back within seconds all the same. While nothing happens a jump is not even
    noticed."""
    with Broker() as broker, Shim() as shim:
        with Echo(broker, environment=shim.environment()) as echo:
            echo.wait("linked to")
            links = 1
            for what, move_ms in (("back", -HOUR_MS), ("ahead", 23 * HOUR_MS)):
                shim["realtime_offset_ms"] += move_ms
                time.sleep(2.5)  # longer than a Fetch
                check(
                    not echo.said("no answer"), f"a clock set {what} ended a request: {echo.lines}"
                )
                broker.kill()
                time.sleep(1.0)
                shim["realtime_offset_ms"] += move_ms
                broker.restart()
                took = served(broker)
                links += 1
                echo.wait("linked to", links)
                echo.lines = [line for line in echo.lines if "no answer" not in line]
                check(took < SLOWER * RELINK_SECONDS, f"{what}: back after {took:.1f} s")
                print(f"     set {what}: back after {took:.2f} s")


def unread(broker, count):
    """A peer that asks for much and reads nothing: as many answers hang as the broker lets it have."""
    link = Link(broker.link_url)
    link.stream.setblocking(False)
    body = backend_pb.LinkRequest(
        submit=backend_pb.Submit(seq=1, commands=[backend_pb.Command(stats=backend_pb.Stats())])
    ).SerializeToString()
    for _ in range(count):
        try:
            link.post(body)
            link.stream.setblocking(False)
        except (BlockingIOError, OSError):
            break
    return link


def scene_clock_of_the_node():
    """The clock of the node's machine is set back while peers do not read their answers: these give
    their exchanges back after a second or two as ever, and nothing is taken for stuck that waits for the
    clock alone."""
    with Shim() as shim, Broker(
        {"store.path": shim.store, "link.contexts": 16}, environment=shim.environment()
    ) as broker:
        backend = Backend(broker, service="echo")
        backend.fetch(wait_ms=1)
        time.sleep(1.0)
        shim["realtime_offset_ms"] = -HOUR_MS
        idle = [unread(broker, 400) for _ in range(6)]
        shim["realtime_offset_ms"] = -2 * HOUR_MS
        time.sleep(1.0)
        eventually(lambda: answers(broker), "a stranger's question is answered")
        began = time.monotonic()
        while time.monotonic() - began < 17:  # the canary comes round each five seconds
            for _ in range(50):  # whatever begins to wait for the clock now will not see its end
                shim["realtime_offset_ms"] -= HOUR_MS
                time.sleep(0.01)
            check(numbers(backend)["nng_reaper_stuck"] == 0, "the reaper is taken for stuck")
        backend.fetch(wait_ms=1)
        for link in idle:
            link.close()
        backend.close()


def numbers(backend):
    result = backend.submit(backend_pb.Command(stats=backend_pb.Stats()))[0]
    backend.fetch(wait_ms=1)
    return {number.name: number.value for number in result.numbers.numbers}


def answers(broker):
    asker = Backend(broker, hello=False, timeout=1.0)
    try:
        return asker.numbers("count") is not None
    except Failed:
        return False
    finally:
        asker.close()


def scene_twins():
    """Two containers of one host: both services are process 1 of it. Both serve, and neither is told of
    a newer one."""
    wrapper = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*wrapper, "true"], check=False, stderr=subprocess.DEVNULL).returncode
    ):
        print("     left out: no namespaces for processes here")
        return
    with Broker() as broker:
        with Echo(broker, wrapper=wrapper) as one, Echo(broker, wrapper=wrapper) as two:
            one.wait("linked to")
            two.wait("linked to")
            names = {
                line["instance"]
                for line in (
                    broker.wait_log("link_hello", LATE, 1),
                    broker.wait_log("link_hello", LATE, 2),
                )
            }
            check(len(names) == 2, f"both are called {names}")
            check(all("-1-" in name for name in names), f"names for people: {names}")
            time.sleep(1.0)
            check(one.alive() and two.alive(), f"one has gone: {one.lines + two.lines}")
            broker.kill()
            broker.restart()
            again = {broker.wait_log("link_hello", LATE, number)["instance"] for number in (1, 2)}
            check(
                again == names, f"{again} instead of {names}"
            )  # a name is for the life of a process


STRANGER, GROUP = 54321, 54322  # no user and no group of any machine


def scene_who_may_connect():
    """A service that runs as a user of its own: the socket's mode and group let it in, or it is told that
    this is a matter of permission, and goes on by itself when that was mended."""
    wrapper = ["setpriv", f"--reuid={STRANGER}", f"--regid={GROUP}", "--clear-groups"]
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        print("     left out: it takes root to become somebody else")
        return
    rows = (
        ({}, 0o600, False),
        ({"link.socket_mode": "0660"}, 0o660, False),
        ({"link.socket_mode": "0660", "link.socket_group": str(GROUP)}, 0o660, True),
        ({"link.socket_group": str(GROUP)}, 0o600, False),
        ({"link.socket_mode": "0666"}, 0o666, True),
    )
    for options, mode, enters in rows:
        with Broker(options) as broker:
            os.chmod(broker.folder, 0o755)
            status = os.stat(broker.link_path)
            check(status.st_mode & 0o7777 == mode, f"mode {status.st_mode:o} with {options}")
            check(
                status.st_gid == (GROUP if "link.socket_group" in options else os.getegid()),
                f"group {status.st_gid} with {options}",
            )
            asked = subprocess.run(
                [*wrapper, program("usherctl"), "--url", broker.link_url, "count"],
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
            check((asked.returncode == 0) == enters, f"usherctl with {options}: {asked}")
            with Echo(broker, wrapper=wrapper) as echo:
                if not enters:
                    echo.wait("permission denied")
                    check(not echo.said("is usherd running"), f"it says {echo.lines}")
                    check("permission denied" in asked.stderr, f"usherctl says {asked.stderr!r}")
                    os.chmod(broker.link_path, 0o666)
                echo.wait("linked to")
    with tempfile.TemporaryDirectory(prefix="usher-play-") as folder:
        # 4294967295 says "as it is" to the system, and what is larger would be cut to another number.
        for name in ("nobody-has-this", "-1", " 1", "4294967295", "4294967296"):
            refused = subprocess.run(
                [
                    program("usherd"),
                    "--set",
                    f"link.socket_group={name}",
                    "--set",
                    "admin.listen=",
                    "--set",
                    "listen.tcp=127.0.0.1:0",
                    "--set",
                    f"store.path={folder}/store",
                ],
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
            check(
                refused.returncode == 78 and "link.socket_group" in refused.stderr,
                f"group {name!r} is taken: {refused}",
            )


if __name__ == "__main__":
    play(
        scene_back_at_once,
        scene_clock_of_the_backend,
        scene_clock_of_the_node,
        scene_twins,
        scene_who_may_connect,
    )
