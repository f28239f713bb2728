# SPDX-License-Identifier: Apache-2.0
"""The disk is full, in four ways: those who are here talk on, logins and resumes are refused with
a time to come back, a lost connection is stored later, chains stay right, and it goes on by itself
as soon as there is room."""

import collections
import errno
import os
import resource
import shutil
import subprocess
import tempfile
import time

from usherplay import Backend, Broker, check, check_equal, client_pb, eventually, play, scaled
from usherplay.backend import cause_name, kind_name
from usherplay.faults import OPTIONS, SECONDS, People, read_stream
from usherplay.shim import HALF, REFUSED, SYNCED_WRITES, SYNCS, WRITES, Shim

CROWD = 5
TMPFS_BYTES = 4 << 20


class Story:
    """What happens around a full disk. `total`: nothing at all can be stored while it is full;
    otherwise single commits may find room, and whoever is welcomed then must be there."""

    def __init__(self, broker, people, total=True):
        self.broker = broker
        self.people = people
        self.total = total
        self.backend = Backend(broker, hello=False)
        self.here = [people.must_login(f"here{number}") for number in range(CROWD)]
        self.leaving = [people.must_login(f"leaving{number}") for number in range(CROWD)]
        self.away = [people.must_login(f"away{number}") for number in range(CROWD)]
        for client in self.away:
            client.drop()
        for client in self.away:
            self._wait_detached(client.name)
        people.talk()
        self.stored = len(self.backend.all_events())

    def _wait_detached(self, name):
        """Waits until that is stored; gives the event."""

        def detached():
            last = [event for event in read_stream(self.backend) or () if event.user == name][-1:]
            return last and kind_name(last[0]) == "DETACHED" and last[0]

        return eventually(detached, f"{name} is stored as detached", SECONDS)

    def _send(self, name, payload):
        self.people.talkers[0].send(name, payload)

    # --- while it is full ------------------------------------------------------------------------

    def refuse(self, rounds):
        """Everybody tries something; gives how many were refused."""
        people = self.people
        refused = people.outcomes["UNAVAILABLE"]
        for number in range(rounds):
            people.talk()
            people.logins([f"new{number}.{user}" for user in range(CROWD)])
        for client in self.here[:2]:
            outcome = people.login(client.name)[1]  # a takeover, on another connection
            if outcome != "welcome":
                client.ping()  # not disturbed
        for client in self.here[2:4]:
            if people.log_out(client) != "done":
                client.ping()
        for client in self.away:
            self._resume(client, keep=self.total)
        for client in self.leaving:
            client.drop()
        self._write_to_the_lost()
        people.talk()
        stream = read_stream(self.backend)
        if self.total and stream is not None:
            check_equal(len(stream), self.stored, "events stored meanwhile")
        return people.outcomes["UNAVAILABLE"] - refused

    def _resume(self, client, keep):
        again, outcome = self.people.resume(client.name, client.welcome)
        if outcome == "welcome":
            check(not keep, f"{client.name} was resumed though nothing can be stored")
            again.drop()

    def _write_to_the_lost(self):
        """Messages to those whose loss cannot be stored, and to those who may not come back yet,
        are taken all the same."""
        for client in self.leaving + self.away:
            self._send(client.name, b"while it was full")

    # --- when there is room again -----------------------------------------------------------------

    def recover(self):
        seconds = self.people.recover("first")
        began = time.monotonic()
        for client in self.leaving:
            cause = cause_name(self._wait_detached(client.name))
            check_equal(cause, "LOST", f"the cause of {client.name}'s loss")
        detached = time.monotonic() - began
        for client in self.leaving + self.away:
            self._come_back(client)
        for client in self.here[4:]:
            client.ping()
        self.people.talk()
        self.people.check_store(self.backend)
        return seconds, detached

    def _come_back(self, lost):
        client, outcome = self.people.resume(lost.name, lost.welcome)
        check_equal(outcome, "welcome", f"the resume of {lost.name}")
        check_equal(client.welcome.replay, client_pb.Welcome.COMPLETE, f"{lost.name}'s replay")
        client.expect("message", seq=1, payload=b"while it was full")

    def close(self):
        self.backend.lose()


def tell(what, people, seconds, detached):
    print(
        f"     {what}: {people.summary()}; logins again after {seconds * 1000:.0f} ms, the last "
        f"lost connection stored {detached * 1000:.0f} ms later; {people.talked} messages"
    )


def live_through(what, broker, people, fill, free, total, rounds):
    story = Story(broker, people, total)
    fill()
    refused = story.refuse(rounds)
    broker.check_alive()
    check(refused > 0, f"{what}: nobody was refused")
    if total:
        check_equal(people.outcomes["welcome"], 3 * CROWD + 2, "welcomes before and while full")
    free()
    seconds, detached = story.recover()
    tell(what, people, seconds, detached)
    story.close()


def scene_no_space():
    """ENOSPC from every kind of call, each alone: a write, half a write, a sync (the file system
    had promised more than it had), the meta page."""
    rounds = max(2, scaled(6))
    cases = (
        ("writes", WRITES, REFUSED),
        ("half a write", WRITES, HALF),
        ("syncs", SYNCS, REFUSED),
        ("the meta page", SYNCED_WRITES, REFUSED),
        ("all of them", WRITES | SYNCS | SYNCED_WRITES, REFUSED),
    )
    for what, calls, manner in cases:
        with Shim() as shim, Broker(
            {"store.path": shim.store, **OPTIONS}, environment=shim.environment()
        ) as broker:
            with People(broker) as people:
                live_through(
                    f"no space for {what}",
                    broker,
                    people,
                    lambda: shim.fail(calls, errno.ENOSPC, manner=manner),
                    shim.heal,
                    total=True,
                    rounds=rounds,
                )
                people.check_after_kill()


def scene_file_size_limit():
    """EFBIG, and SIGXFSZ, which must not kill: first no byte may be written, then none behind the
    file's end."""
    rounds = max(2, scaled(6))
    for what, total in (("any write", True), ("growth", False)):
        with Broker(OPTIONS) as broker, People(broker) as people:
            hard = resource.prlimit(broker.process.pid, resource.RLIMIT_FSIZE)[1]

            def fill():
                size = os.path.getsize(os.path.join(broker.store, "data.mdb"))
                limit = 0 if total else size
                resource.prlimit(broker.process.pid, resource.RLIMIT_FSIZE, (limit, hard))

            def free():
                resource.prlimit(broker.process.pid, resource.RLIMIT_FSIZE, (hard, hard))

            live_through(
                f"a file size limit against {what}",
                broker,
                people,
                fill,
                free,
                total,
                rounds if total else 40,
            )
            people.check_after_kill()


def mounting_wrapper(folder):
    """A command that gives usherd a small file system of its own on that folder, or None where
    the system does not allow it."""
    script = f'mount -t tmpfs -o size={TMPFS_BYTES},mode=0700 usher "$0" && exec "$@"'
    for unshare in (["unshare", "-m"], ["unshare", "-Urm"]):
        wrapper = unshare + ["sh", "-c", script, folder]
        if (
            shutil.which("unshare")
            and subprocess.run(
                wrapper + ["true"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            ).returncode
            == 0
        ):
            return wrapper
    return None


def fill_up(folder):
    """Writes into the folder until nothing more fits; gives the file to remove."""
    path = os.path.join(folder, "ballast")
    with open(path, "wb", buffering=0) as file:
        size = 65536
        while size > 0:
            try:
                file.write(b"\0" * size)
            except OSError as error:
                check_equal(error.errno, errno.ENOSPC, "the error of the full disk")
                size //= 2
    return path


def scene_small_disk():
    """A real file system of 4 MiB that is really full."""
    folder = tempfile.mkdtemp(prefix="usher-disk-")
    wrapper = mounting_wrapper(folder)
    if wrapper is None:
        print("     not tried: this system does not let us mount")
        os.rmdir(folder)
        return
    try:
        with Broker(
            {"store.path": os.path.join(folder, "store"), **OPTIONS}, wrapper=wrapper
        ) as broker, People(broker) as people:
            inside = f"/proc/{broker.process.pid}/root{folder}"
            ballast = collections.deque()
            live_through(
                "a full tmpfs",
                broker,
                people,
                lambda: ballast.append(fill_up(inside)),
                lambda: os.unlink(ballast.pop()),
                total=False,
                rounds=40,
            )
    finally:
        os.rmdir(folder)


if __name__ == "__main__":
    play(scene_no_space, scene_file_size_limit, scene_small_disk)
