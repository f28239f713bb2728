# SPDX-License-Identifier: Apache-2.0
"""A store with 100,000 sessions, made by as many logins: how fast they go, and how fast the broker
is back after kill -9. And one with stored messages, of which the file alone knows by then:
USHER_PLAY_LARGE=1 makes a million."""

import os
import selectors
import socket
import struct
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    Failed,
    check,
    check_equal,
    client_pb,
    eventually,
    frame_bytes,
    play,
    scaled,
)
from usherplay.client import take_frame
from usherplay.backend import backend_pb

SESSIONS = scaled(100000, 5000)
AT_ONCE = 256
BOUND_SECONDS = 120  # what is promised for a quiet machine is 2
LARGE = bool(os.environ.get("USHER_PLAY_LARGE"))
STORED = 1000000 if LARGE else scaled(50000, 2000)
STORED_NAMES = STORED // 10
STORED_AT_ONCE = 200
RESET = struct.pack("ii", 1, 0)  # no port stays behind in TIME_WAIT: there are only 28,000
PROCESSES = 2


def log_in(address, names):
    """Logs all in, AT_ONCE at a time; each connection is lost right behind its Welcome."""
    poller = selectors.DefaultSelector()
    names = iter(names)
    buffers = {}

    def begin():
        name = next(names, None)
        if name is None:
            return False
        frame = client_pb.ClientFrame(id=1)
        frame.login.username = name
        stream = socket.create_connection(address, 20)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        stream.sendall(frame_bytes(frame))
        buffers[stream] = bytearray()
        poller.register(stream, selectors.EVENT_READ)
        return True

    for _ in range(AT_ONCE):
        begin()
    while buffers:
        ready = poller.select(20)
        if not ready:
            raise Failed(f"{len(buffers)} logins without an answer")
        for key, _ in ready:
            stream = key.fileobj
            data = stream.recv(4096)
            buffers[stream] += data
            body = take_frame(buffers[stream])
            if body is None and data:
                continue
            kind = body and client_pb.BrokerFrame.FromString(body).WhichOneof("body")
            if kind != "welcome":
                raise Failed(f"a login was answered {kind}")
            poller.unregister(stream)
            del buffers[stream]
            stream.close()
            begin()


def fill(broker):
    """Several processes, since one of Python's is slower than the broker."""
    children = []
    for part in range(PROCESSES):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                log_in(broker.address, (f"user{n:06}" for n in range(part, SESSIONS, PROCESSES)))
                status = 0
            except BaseException as error:  # the child must not run the parent's end
                print(f"     a filling process: {error}", flush=True)
            finally:
                os._exit(status)
        children.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    check_equal(statuses, [0] * PROCESSES, "the filling processes")


def scene_restart():
    options = {
        "session.resume_ms": 3600000,
        "limits.users": max(SESSIONS + 10, 131072),
        "log.level": "warn",
        "limits.prelogin_connections": 4096,
    }
    # The log level hides `ready`, so that is told by the first answer instead.
    with Broker(options, wait=False) as broker:
        wait_serving(broker)
        began = time.monotonic()
        fill(broker)
        took = time.monotonic() - began
        print(f"     {SESSIONS} logins in {took:.1f} s ({SESSIONS / took:.0f}/s)")
        size = os.path.getsize(os.path.join(broker.store, "data.mdb"))
        print(f"     store {size >> 20} MiB, resident {broker.resident_bytes() >> 20} MiB")
        for how in ("kill", "stop"):
            began = time.monotonic()
            getattr(broker, how)()
            ended = time.monotonic()
            broker.start(wait=False)
            wait_serving(broker)
            ready = time.monotonic()
            print(
                f"     {how}: {ended - began:.2f} s to the end, {ready - ended:.2f} s from start "
                f"to the first Welcome"
            )
            check(ready - ended < BOUND_SECONDS, f"ready after {ready - ended:.1f} s")
            tool = Backend(broker, hello=False)
            numbers = eventually(
                lambda: has_number(tool, SESSIONS), f"a Count of {SESSIONS} or {SESSIONS + 1}", 10
            )
            print(f"     count: {numbers}")
            for name in ("user000000", f"user{SESSIONS - 1:06}"):
                check(tool.lookup(name).sessions[0].epoch > 0, f"{name} is forgotten")
            tool.lose()


def wait_serving(broker):
    """Until a login is answered."""
    deadline = time.monotonic() + BOUND_SECONDS
    while True:
        broker.check_alive()
        try:
            with Client(broker, timeout=BOUND_SECONDS) as client:
                client.login("probe")
                client.post("logout")
                client.read_to_end()
            return
        except OSError as error:
            check(time.monotonic() < deadline, f"no connection: {error}")
            time.sleep(0.005)


def has_number(tool, sessions):
    numbers = tool.numbers("count")
    return numbers if {sessions, sessions + 1} & set(numbers.values()) else None


def store(backend, count, names):
    """So many of 128 bytes, for so many users who are away."""
    for at in range(0, count, STORED_AT_ONCE):
        to = [f"away{(at + n) % names:06}" for n in range(STORED_AT_ONCE)]
        pushes = [backend_pb.Push(to=[name], payload=bytes(128), keep_s=86400) for name in to]
        results = backend.submit(*(backend_pb.Command(push=push) for push in pushes))
        check_equal({result.push.accepted for result in results}, {1}, "whether all are stored")
        backend.fetch(wait_ms=1)


def forget_file(path):
    """Of its pages nothing is in memory any more."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def scene_stored():
    options = {
        "store.map_bytes": 2 << 30,
        "limits.users": 131072,
        "inbox.stored_total": STORED,
        "inbox.stored_total_bytes": 1 << 30,
    }
    file = "data.mdb"
    with Broker(options) as broker:
        with Backend(broker, service="post") as backend:
            store(backend, STORED, STORED_NAMES)
        size = os.path.getsize(os.path.join(broker.store, file))
        print(f"     {STORED} messages for {STORED_NAMES} users, a file of {size >> 20} MiB")
        for cold in (True, False, True):
            broker.kill()
            if cold:
                forget_file(os.path.join(broker.store, file))
            broker.restart()
            took = broker.ready_seconds
            print(f"     ready {took:.2f} s after the start, the file {'cold' if cold else 'warm'}")
            check(took < BOUND_SECONDS, f"ready after {took:.1f} s")
        tool = Backend(broker, hello=False)
        for name in ("away000000", f"away{STORED_NAMES - 1:06}"):
            page = tool.query(backend_pb.Command(inbox=backend_pb.Inbox(user=name))).stored
            check_equal(page.count, STORED // STORED_NAMES, f"what is stored for {name}")
        tool.lose()


if __name__ == "__main__":
    play(scene_restart, scene_stored)
