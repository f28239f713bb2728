# SPDX-License-Identifier: Apache-2.0
"""Steady traffic of stored messages: as many come as are taken, and the store's file stays within four
times of what lives."""

import json
import os
import subprocess
import time

from usherplay import Backend, Broker, Client, backend_pb, check, check_equal, play, program, scaled
from usherplay.backend import code_name

USERS = scaled(200, 40)
EACH = 100  # that wait for one user, before the traffic begins
BYTES = 128
SECONDS = float(os.environ.get("USHER_PLAY_STORED_S", "15"))
AT_ONCE = 256
TRIES = 5
AT_A_MOMENT = 10  # of a push to many
# What the file may have beside the log: two of each tree, and the list of free pages.
FLOOR = 1 << 20


def push_to(backend, names):
    """All of them: one that comes to a user in the moment in which he logs out is refused, and comes again."""
    for again in range(TRIES):
        commands = [
            backend_pb.Command(push=backend_pb.Push(to=[name], payload=bytes(BYTES), keep_s=3600))
            for name in names
        ]
        results = backend.submit(*commands)
        backend.fetch(wait_ms=1)  # which is its sign of life
        for result in results:
            check(code_name(result) in ("OK", "INBOX_FULL"), f"a push: {result}")
        names = [name for name, result in zip(names, results) if code_name(result) != "OK"]
        if not names:
            return
        check(len(names) <= AT_A_MOMENT, f"{len(names)} pushes were refused, try {again}")
    check(False, f"{names} are refused for ever")


def take_all(broker, name):
    """All that waits for him, acknowledged; gives how many."""
    with Client(broker) as client:
        count = client.login(name, acks=True).stored_messages
        for number in range(count):
            seq = client.expect("message").message.seq
            if number % 50 == 49 or number == count - 1:
                client.post("ack", id=0, seq=seq)
        client.ping()
        client.ask("logout")
    return count


def check_store(broker, living):
    done = subprocess.run(
        [program("usherctl"), "store", "check", broker.store], capture_output=True, text=True
    )
    head, *_, checked = map(json.loads, done.stdout.splitlines())
    check_equal(done.returncode, 0, f"the check: {done.stderr}")
    print(
        f"     the log has {head['log_bytes']} of it, {head['log_bytes'] / living:.1f} times; beside it"
        f" {checked['events']} events and {checked['history']} records of the history"
    )


def scene_steady():
    with Broker({"store.map_bytes": 256 << 20}) as broker, Backend(broker) as backend:
        names = [f"user{number:04}" for number in range(USERS)]
        everything = names * EACH
        for at in range(0, len(everything), AT_ONCE):
            push_to(backend, everything[at : at + AT_ONCE])
        data = os.path.join(broker.store, "data.mdb")
        began, stored, taken, largest = time.monotonic(), len(everything), 0, 0
        while time.monotonic() - began < SECONDS:
            for name in names:
                got = take_all(broker, name)
                taken += got
                push_to(backend, [names[(taken + i) % USERS] for i in range(got)])
                stored += got
                largest = max(largest, os.stat(data).st_size)
        living = (stored - taken) * (BYTES + 50)
        print(
            f"     {stored} stored, {taken} taken; {living} bytes live, the file had {largest} at"
            f" most: {largest / living:.1f} times"
        )
        check_store(broker, living)
        check(largest <= 4 * living + FLOOR, f"{largest} bytes for {living} that live")


if __name__ == "__main__":
    play(scene_steady)
