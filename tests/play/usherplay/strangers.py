# SPDX-License-Identifier: Apache-2.0
"""Strangers who send anything to a port, and two bystanders who must notice nothing of it: for plays about
what the broker says at its doors, and counts and logs of it."""

import socket
import time

from usherplay.backend import Backend
from usherplay.client import Client, frame_bytes
from usherplay.schema import client_pb
from usherplay.stage import Failed, check, check_equal, eventually
from usherplay.websocket import head_bytes, take_answer, upgrade_lines


KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # the one of RFC 6455
HEAD_BYTES = 8192  # ws.head_bytes
LINE_SECONDS = 0.12  # the log takes ten lines of an event in a second


class Stranger:
    """A connection to one of the ports that sends anything."""

    def __init__(self, address, context=None, timeout=10):
        self.socket = socket.create_connection(address, timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.got = bytearray()
        self.ended = False

    def send(self, data, bytewise=False):
        """The broker may have had enough before all of it is sent."""
        send_to(self.socket, data, bytewise)

    def more(self):
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        self.ended = not data
        self.got += data

    def answer(self, to_head=False):
        while True:
            answer = take_answer(self.got, to_head)
            if answer is not None:
                return answer
            if self.ended:
                raise Failed(f"the end instead of an answer; came: {bytes(self.got)!r}")
            self.more()

    def to_end(self):
        while not self.ended:
            self.more()
        return bytes(self.got)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()


def send_to(stream, data, bytewise):
    try:
        for piece in (data[at : at + 1] for at in range(len(data))) if bytewise else (data,):
            stream.sendall(piece)
    except OSError:
        pass


class Witnesses:
    """Two who are in, by TCP and by WebSocket, and what the broker has counted and logged."""

    def __init__(self, broker):
        self.broker = broker
        self.clients = [Client(broker, over=over, timeout=20) for over in ("tcp", "ws")]
        for client in self.clients:
            client.login(f"bystander-{client.over}")
        self.backend = Backend(broker)
        self.worst = 0.0
        self.before = None
        self.last_line = 0.0

    def begin(self, logged=False):
        """What is counted from here on is the row's; logged: there is room for its line."""
        if logged:
            time.sleep(max(0, self.last_line + LINE_SECONDS - time.monotonic()))
            self.last_line = time.monotonic()
        self.before = self.backend.numbers("stats")

    def counted(self, what, **more):
        """Exactly that came on top since begin()."""
        now = {}

        def same():
            now.update(self.backend.numbers("stats"))
            return all(now[name] - self.before[name] == more[name] for name in more)

        try:
            eventually(same, what)
        except Failed:
            got = {name: now[name] - self.before[name] for name in more}
            raise Failed(f"{what}: counted {got}, expected {more}") from None

    def logged(self, what, event, count, **fields):
        """The count-th line of this event has these fields."""
        try:
            line = self.broker.wait_log(event, count=count)
        except Failed as error:
            raise Failed(f"{what}: {error}") from None
        got = {name: line.get(name) for name in fields}
        check_equal(got, fields, f"{what}: the line {event}")
        check(line["address"].startswith("127.0.0.1:"), f"{what}: {line}")
        return line

    def undisturbed(self, what):
        for client in self.clients:
            self.worst = max(self.worst, client.ping())
            check(not client.frames, f"{what}: a bystander was told {client.frames}")
        self.broker.check_alive()

    def close(self):
        for client in self.clients:
            client.close()
        self.backend.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()


def lines_but(*without, add=(), first=None):
    """The lines of a good head, but for those that begin so, and others behind them."""
    lines = upgrade_lines(KEY)
    if first is not None:
        lines[0] = first
    return [
        line for line in lines if not any(line.startswith(f"{name}:") for name in without)
    ] + list(add)


def head(*without, add=(), first=None):
    return head_bytes(lines_but(*without, add=add, first=first))


def padded(size, add=()):
    """A good head of exactly so many bytes."""
    short = len(head(add=[*add, "X-Pad: "]))
    data = head(add=[*add, "X-Pad: " + "p" * (size - short)])
    check_equal(len(data), size, "bytes of the head made")
    return data


def login_of(name):
    return client_pb.ClientFrame(id=1, login=client_pb.Login(username=name))


def good_ping(id=77):
    return frame_bytes(client_pb.ClientFrame(id=id, ping=client_pb.Ping(stamp=5)))
