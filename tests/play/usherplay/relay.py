# SPDX-License-Identifier: Apache-2.0
"""A bad network between client and broker: it delays, cuts after any byte, keeps an end to itself,
and stops moving bytes."""

import dataclasses
import heapq
import itertools
import selectors
import socket
import struct
import threading
import time

from usherplay.stage import Failed

CHUNK_BYTES = 65536
UP, DOWN = 0, 1  # client to broker, broker to client


@dataclasses.dataclass
class Plan:
    """What happens to a connection. cut_up, cut_down: after so many bytes of that direction, no
    more and no fewer (0: when the first one would pass), the connection is lost on both sides, by
    "RST" or "FIN". hold_end: seconds for which the broker does not hear that the client has
    ended."""

    delay_up: float = 0.0
    delay_down: float = 0.0
    cut_up: int = None
    cut_down: int = None
    cut_how: str = "RST"
    hold_end: float = 0.0


class Pipe:
    """One connection through the relay. Its fields belong to the relay's thread; the methods may
    be called by anybody."""

    def __init__(self, relay, client, broker, plan):
        self.relay = relay
        self.plan = plan
        self.sockets = (client, broker)
        self.moved = [0, 0]  # bytes passed on, by direction
        self.taken = [0, 0]  # bytes read, by direction
        self.ended = [False, False]  # read: of the client, of the broker
        self.due_ms = [0.0, 0.0]  # nothing overtakes
        self.paused = False
        self.over = threading.Event()  # nothing is left of it

    def pause(self):
        """No byte and no end passes any more, as if the cable were out."""
        self.relay.ask(self._pause, True)

    def go_on(self):
        self.relay.ask(self._pause, False)

    def cut(self, how="RST"):
        """Both sides lose the connection now."""
        self.relay.ask(self._cut, how)

    def _pause(self, paused):
        self.paused = paused
        self.relay.watch(self)
        if not paused:
            self.relay.release(self)

    def _cut(self, how):
        self.relay.forget(self)
        for side in self.sockets:
            end_socket(side, how)
        self.over.set()

    # --- in the relay's thread ------------------------------------------------------------------

    def readable(self, direction):
        try:
            data = self.sockets[direction].recv(CHUNK_BYTES)
            how = "FIN"
        except BlockingIOError:
            return
        except OSError:
            data, how = b"", "RST"
        delay = (self.plan.delay_up, self.plan.delay_down)[direction]
        if not data:
            self.ended[direction] = True
            self.relay.watch(self)
            if direction == UP:
                delay = max(delay, self.plan.hold_end)
            self._later(direction, delay, self._pass_end, direction, how)
            return
        limit = (self.plan.cut_up, self.plan.cut_down)[direction]
        left = len(data) if limit is None else max(0, limit - self.taken[direction])
        self.taken[direction] += len(data)
        if left > 0:
            self._later(direction, delay, self._pass_data, direction, data[:left])
        if limit is not None and self.taken[direction] >= limit:
            self._later(direction, delay, self._cut, self.plan.cut_how)

    def _later(self, direction, delay, step, *arguments):
        due = max(self.due_ms[direction], time.monotonic() + delay)
        self.due_ms[direction] = due
        self.relay.later(self, due, step, *arguments)

    def _pass_data(self, direction, data):
        try:
            send_all(self.sockets[1 - direction], data)
            self.moved[direction] += len(data)
        except OSError:
            self._pass_end(1 - direction, "RST")

    def _pass_end(self, direction, how):
        other = self.sockets[1 - direction]
        if how == "RST" or self.ended == [True, True]:
            self._cut(how)
            return
        try:
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def send_all(target, data):
    """The peers of a play read what they are sent, or the relay is paused for them."""
    target.setblocking(True)
    target.settimeout(10)
    try:
        target.sendall(data)
    finally:
        if target.fileno() >= 0:
            target.setblocking(False)


def end_socket(side, how):
    if side.fileno() < 0:
        return
    try:
        if how == "RST":
            side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    side.close()


class Relay:
    """Listens on a port of its own; `address` takes the place of the broker's for a Client. A
    connection follows the plan that connect() was given, or else the relay's."""

    def __init__(self, where, plan=None):
        self.target = getattr(where, "address", where)
        self.plan = plan or Plan()
        self._next_plan = None
        self._accepted = []  # the Pipe that connect() waits for
        self._pipes = set()  # those that are not over
        self._connecting = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._server = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._server.setblocking(False)
        self.address = self._server.getsockname()
        self._waker, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._selector.register(self._server, selectors.EVENT_READ, None)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._orders, self._lock = [], threading.Lock()
        self._steps, self._numbers = [], itertools.count()
        self._stopped = False
        self.failed = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def connect(self, make, plan=None, timeout=5.0):
        """The client that make() connects, with the Pipe that it goes through as `pipe`."""
        plan = dataclasses.replace(plan or self.plan)
        with self._connecting:
            accepted = len(self._accepted)
            self._next_plan = plan
            client = make()
            deadline = time.monotonic() + timeout
            while len(self._accepted) == accepted:
                if time.monotonic() > deadline or self.failed:
                    raise Failed(f"the relay did not take a connection: {self.failed}")
                time.sleep(0.0002)
            client.pipe = self._accepted.pop()
        return client

    def cut(self, how="RST"):
        """All connections are lost now."""
        self.ask(self._cut_all, how)

    def _cut_all(self, how):
        for pipe in list(self._pipes):
            pipe._cut(how)

    # --- for Pipe ------------------------------------------------------------------------------

    def ask(self, step, *arguments):
        with self._lock:
            self._orders.append((step, arguments))
        self._waker.send(b"x")

    def later(self, pipe, due, step, *arguments):
        heapq.heappush(self._steps, (due, next(self._numbers), pipe, step, arguments))
        if due <= time.monotonic():
            self.release(pipe)

    def release(self, pipe=None):
        """Does what is due. What a paused pipe has due stays."""
        now, kept = time.monotonic(), []
        while self._steps and self._steps[0][0] <= now:
            entry = heapq.heappop(self._steps)
            if entry[2].paused:
                kept.append(entry)
            elif not entry[2].over.is_set():
                entry[3](*entry[4])
        for entry in kept:
            heapq.heappush(self._steps, entry)

    def watch(self, pipe):
        """Reads from the sides of a pipe that have not ended, unless it is paused."""
        for direction, side in enumerate(pipe.sockets):
            if side.fileno() < 0:
                continue
            wanted = not pipe.ended[direction] and not pipe.paused
            known = side in self._selector.get_map()
            if wanted and not known:
                self._selector.register(side, selectors.EVENT_READ, (pipe, direction))
            elif known and not wanted:
                self._selector.unregister(side)

    def forget(self, pipe):
        for key in [
            key for key in self._selector.get_map().values() if key.data and key.data[0] is pipe
        ]:
            self._selector.unregister(key.fileobj)
        self._pipes.discard(pipe)

    # --- the thread ----------------------------------------------------------------------------

    def _run(self):
        try:
            while not self._stopped:
                self._turn()
        except Exception as error:  # shown by the next pipe()
            self.failed = error
            raise
        finally:
            self._selector.close()

    def _turn(self):
        wait = None
        due = [entry[0] for entry in self._steps[:1] if not entry[2].paused]
        if due:
            wait = max(0.0, due[0] - time.monotonic())
        elif self._steps:
            wait = 0.01
        for key, _ in self._selector.select(wait):
            if key.fileobj is self._server:
                self._accept()
            elif key.data is None:
                self._obey()
            elif not key.data[0].over.is_set():
                key.data[0].readable(key.data[1])
        self.release()

    def _accept(self):
        client, _ = self._server.accept()
        plan, self._next_plan = self._next_plan, None
        try:
            broker = socket.create_connection(self.target, 10)
        except OSError:
            end_socket(client, "RST")
            return
        for side in (client, broker):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            side.setblocking(False)
        pipe = Pipe(self, client, broker, plan or self.plan)
        self._pipes.add(pipe)
        self.watch(pipe)
        if plan is not None:
            self._accepted.append(pipe)

    def _obey(self):
        try:
            self._woken.recv(4096)
        except BlockingIOError:
            pass
        with self._lock:
            orders, self._orders = self._orders, []
        for step, arguments in orders:
            step(*arguments)

    def close(self):
        self._stopped = True
        self._waker.send(b"x")
        self._thread.join(10)
        self._server.close()
        if self.failed:
            raise Failed(f"the relay failed: {self.failed}")
        for pipe in self._pipes:
            for side in pipe.sockets:
                end_socket(side, "FIN")
        self._waker.close()
        self._woken.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()
