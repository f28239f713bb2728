# SPDX-License-Identifier: Apache-2.0
"""A game client that is only a socket: it sends any bytes and shows every frame."""

import collections
import difflib
import selectors
import socket
import struct
import time

from usherplay.numbers import check_numbers
from usherplay.record import record
from usherplay.schema import client_pb
from usherplay.stage import OVER, Failed
from usherplay.websocket import Wire

DEFAULT_SECONDS = 20.0  # a machine may be busy with something else
KINDS = ("welcome", "message", "done", "reply", "error", "pong", "close")


class ConnectionEnded(Failed):
    """The broker closed the connection while a frame was expected."""


def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def frame_bytes(message):
    """A message, or the bytes of one, as a frame."""
    body = message if isinstance(message, (bytes, bytearray)) else message.SerializeToString()
    record("client_frame", bytes(body))
    return varint(len(body)) + bytes(body)


def take_frame(buffer):
    """Takes the first whole frame out of a bytearray; gives its body, or None."""
    length = shift = 0
    for position, byte in enumerate(buffer[:5]):
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    else:
        if len(buffer) >= 5:
            raise Failed("the broker sent a length of more than five bytes")
        return None
    start = position + 1
    if len(buffer) < start + length:
        return None
    body = bytes(buffer[start : start + length])
    del buffer[: start + length]
    return body


def describe(frame):
    if frame is None:
        return "nothing"
    kind = frame.WhichOneof("body")
    if kind is None:
        return f"frame without a body, id {frame.id}"
    body = getattr(frame, kind)
    fields = []
    for field, value in body.ListFields():
        if field.enum_type is not None:
            number = field.enum_type.values_by_number.get(value)
            value = number.name if number else value
        elif isinstance(value, bytes):
            value = repr(value[:40]) + ("..." if len(value) > 40 else "")
        elif isinstance(value, str):
            value = repr(value)
        fields.append(f"{field.name}={value}")
    return f"{kind} id={frame.id} " + " ".join(fields)


class Client:
    """Where: a Broker, or (host, port). source: the address to come from, such as 127.0.0.2. Ids of
    requests count from 1. over: "tcp" or "ws"; without it what USHER_PLAY_OVER says."""

    def __init__(self, where, receive_buffer=None, timeout=DEFAULT_SECONDS, source=None, over=None):
        self.over = over or OVER
        self.address = self._address_of(where)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer is not None:  # before connect, so that the window is small from the start
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(timeout)
        if source is not None:
            self.socket.bind((source, 0))
        self._connect()
        self.timeout = timeout
        self.buffer = bytearray()
        self.frames = collections.deque()  # whole, not looked at yet
        self.ended = None
        self.last_id = 0
        self.name = None
        self.welcome = None
        self.wire = None
        if self.over == "ws":
            self.wire = Wire(self, whole=not hasattr(where, "plan"))  # a relay's, which cuts

    def _address_of(self, where):
        if self.over != OVER and hasattr(where, f"{self.over}_address"):
            return getattr(where, f"{self.over}_address")
        return getattr(where, "address", where)

    def _connect(self):
        self.socket.connect(self.address)

    # --- bytes ---------------------------------------------------------------------------------

    def send_bytes(self, data):
        record("frame", bytes(data))
        self.socket.settimeout(self.timeout)
        if self.wire:
            self.wire.send(data)
        else:
            self.socket.sendall(data)

    def send_frame(self, frame):
        self.send_bytes(frame_bytes(frame))

    def receive_more(self, timeout):
        """Reads once; True when something came. The end is remembered in `ended`."""
        if self.ended:
            return False
        try:
            self.socket.settimeout(max(timeout, 0.0001))
            data = self.socket.recv(262144)
        except (TimeoutError, BlockingIOError):
            return False
        except OSError as error:
            self.ended = f"reset ({error.strerror})"
            return False
        if not data:
            self.ended = "end of file"
            if self.wire:
                self.wire.ended(self.ended)
            return False
        self.buffer += self.wire.take(data) if self.wire else data
        self._cut()
        if self.wire:
            self.wire.settled()
        return True

    def _cut(self):
        while True:
            body = take_frame(self.buffer)
            if body is None:
                return
            frame = client_pb.BrokerFrame()
            frame.ParseFromString(body)
            check_numbers(frame)
            if self.wire:
                self.wire.saw(frame)
            self.saw(frame)
            self.frames.append(frame)

    def saw(self, frame):
        """Called for each frame as it is read, before anybody looks at it; for subclasses."""

    def next_frame(self, timeout=None):
        """The next frame, or None when nothing comes; ConnectionEnded when the broker closed."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while not self.frames:
            if self.ended:
                raise ConnectionEnded(f"{self.name}: the connection is closed: {self.ended}")
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self.receive_more(left)
        return self.frames.popleft()

    def drop(self):
        """Loses the connection at once, as a cable would: RST, no FIN handshake left behind."""
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        self.socket.close()
        self.ended = "dropped"

    def close(self):
        self.socket.close()
        self.ended = "closed by the play"

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()

    # --- requests ------------------------------------------------------------------------------

    def request(self, kind, id=None, **fields):
        """A ClientFrame. id None: the next number; 0: no answer is wanted."""
        if id is None:
            self.last_id += 1
            id = self.last_id
        frame = client_pb.ClientFrame(id=id)
        body = getattr(frame, kind)
        body.SetInParent()
        for name, value in fields.items():
            setattr(body, name, value)
        return frame

    def post(self, kind, id=None, **fields):
        """Sends a request and does not wait; gives its id."""
        frame = self.request(kind, id, **fields)
        self.send_frame(frame)
        return frame.id

    def answer_to(self, id, timeout=None):
        """The answer with that id; what else comes meanwhile stays, in order, for next_frame."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        passed = collections.deque()
        try:
            while True:
                frame = self.next_frame(max(0, deadline - time.monotonic()))
                if frame is None:
                    raise Failed(
                        f"{self.name}: no answer to request {id}; "
                        f"came: {[describe(other) for other in passed] or 'nothing'}"
                    )
                if frame.id == id and frame.WhichOneof("body") != "message":
                    return frame
                passed.append(frame)
        except ConnectionEnded as error:
            raise ConnectionEnded(
                f"{error} instead of an answer to request {id}; "
                f"came: {[describe(other) for other in passed] or 'nothing'}"
            )
        finally:
            self.frames.extendleft(reversed(passed))

    def ask(self, kind, timeout=None, **fields):
        """Sends a request with an id and gives the frame that answers it."""
        return self.answer_to(self.post(kind, **fields), timeout)

    def login(self, name, acks=False, client="play", timeout=None, token=b""):
        """Logs in; gives the Welcome."""
        self.name = name
        self.post("login", username=name, acks=acks, client=client, token=token)
        self.welcome = self.expect("welcome", timeout=timeout, id=self.last_id).welcome
        return self.welcome

    def resume(self, welcome, last_seq, name=None, timeout=None):
        """Resumes the session of that Welcome; gives the new one."""
        self.name = name or self.name
        self.post(
            "resume",
            username=self.name,
            epoch=welcome.epoch,
            secret=welcome.secret,
            last_seq=last_seq,
        )
        self.welcome = self.expect("welcome", timeout=timeout, id=self.last_id).welcome
        return self.welcome

    def send(self, to, payload=b"", timeout=None, **fields):
        """Sends a message and expects Done; gives it."""
        frame = self.ask("send", timeout, to=to, payload=payload, **fields)
        if frame.WhichOneof("body") != "done":
            raise Failed(f"{self.name}: Send to {to} was answered {describe(frame)}")
        return frame.done

    def ping(self, timeout=None):
        """Seconds until the Pong."""
        began = time.monotonic()
        frame = self.ask("ping", timeout, stamp=self.last_id)
        if frame.WhichOneof("body") != "pong":
            raise Failed(f"{self.name}: Ping was answered {describe(frame)}")
        return time.monotonic() - began

    # --- what must come ------------------------------------------------------------------------

    def expect(self, kind, timeout=None, id=None, **fields):
        """The next frame, which must be of that kind and have those fields."""
        wanted = self._wanted(kind, id, fields)
        try:
            frame = self.next_frame(timeout)
        except ConnectionEnded as error:
            raise ConnectionEnded(f"{error}; expected {wanted}") from None
        if (
            frame is not None
            and frame.WhichOneof("body") == kind
            and (id is None or frame.id == id)
        ):
            body = getattr(frame, kind)
            if all(getattr(body, name) == value for name, value in fields.items()):
                return frame
        difference = "\n  ".join(difflib.ndiff([wanted], [describe(frame)]))
        raise Failed(f"{self.name}: expected a frame, got another:\n  {difference}")

    @staticmethod
    def _wanted(kind, id, fields):
        frame = client_pb.BrokerFrame(id=id or 0)
        body = getattr(frame, kind)
        body.SetInParent()
        for name, value in fields.items():
            setattr(body, name, value)
        text = describe(frame)
        return text if id is not None else text.replace(" id=0", "", 1)

    def expect_error(self, code, id=None, timeout=None):
        """The next frame is an Error with that code, by name; gives it."""
        if id is None:
            id = self.last_id
        return self.expect("error", timeout, id, code=client_pb.Error.Code.Value(code)).error

    def expect_close(self, reason, do_not_return=None, timeout=None):
        """The next frame is Close with that reason, and nothing comes behind it but the end."""
        fields = {"reason": client_pb.Close.Reason.Value(reason)}
        if do_not_return is not None:
            fields["do_not_return"] = do_not_return
        close = self.expect("close", timeout, **fields).close
        self.expect_eof()
        return close

    def expect_eof(self, timeout=None):
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while not self.ended:
            if self.frames:
                raise Failed(
                    f"{self.name}: expected the end of the connection, "
                    f"got {describe(self.frames[0])}"
                )
            if time.monotonic() > deadline:
                raise Failed(f"{self.name}: the broker did not close the connection")
            self.receive_more(deadline - time.monotonic())
        if self.frames:
            raise Failed(f"{self.name}: before the end came {describe(self.frames[0])}")

    def expect_nothing(self, seconds):
        frame = self.next_frame(seconds)
        if frame is not None:
            raise Failed(f"{self.name}: expected nothing for {seconds} s, got {describe(frame)}")

    def read_to_end(self, timeout=None):
        """All frames until the broker closes."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while not self.ended:
            if time.monotonic() > deadline:
                raise Failed(f"{self.name}: the broker did not close the connection")
            self.receive_more(deadline - time.monotonic())
        frames = list(self.frames)
        self.frames.clear()
        return frames

    def messages(self, count, timeout=None):
        """The next `count` messages; any other frame is a failure."""
        return [self.expect("message", timeout).message for _ in range(count)]


class Witness(Client):
    """A client that records what it sends and sees in a History, in the order of one clock: a
    request before its bytes leave, a frame after it was read. Login and the rest as with Client.
    after: an older Witness of the same session, whose ids are not used again."""

    def __init__(self, where, history, after=None, **options):
        super().__init__(where, **options)
        self.history = history
        self.connection = history.connect()
        if after is not None:
            self.last_id = after.last_id
            self.name = after.name

    def note(self, frame):
        """A request that is about to be sent, by whatever means."""
        kind = frame.WhichOneof("body")
        body = getattr(frame, kind)
        if kind in ("login", "resume"):
            self.name = body.username
        self.history.asked(self.connection, self.name, frame.id, kind, body)

    def send_frame(self, frame):
        self.note(frame)
        super().send_frame(frame)

    def send_frames(self, frames):
        """Many requests in one piece; gives their ids."""
        for frame in frames:
            self.note(frame)
        self.send_bytes(b"".join(map(frame_bytes, frames)))
        return [frame.id for frame in frames]

    def saw(self, frame):
        if frame.WhichOneof("body") == "welcome":
            self.welcome = frame.welcome
        self.history.saw(self.connection, self.name, frame)

    def receive_more(self, timeout):
        got = super().receive_more(timeout)
        self._note_end()
        return got

    def drop(self):
        super().drop()
        self._note_end()

    def close(self):
        super().close()
        self._note_end()

    def _note_end(self):
        if self.ended:
            self.history.ended(self.connection, self.name)

    def take(self, *kinds):
        """The frames of those kinds that are here already (all without any); the others stay."""
        taken = [frame for frame in self.frames if not kinds or frame.WhichOneof("body") in kinds]
        if len(taken) == len(self.frames):
            self.frames.clear()
        else:
            self.frames = collections.deque(
                frame for frame in self.frames if frame.WhichOneof("body") not in kinds
            )
        return taken


def logged_in(broker, names, acks=False, client="play", **options):
    """Users who are in. One after the other: whoever is connected has to log in within
    limits.login_deadline_ms, and many others before him may take longer."""
    clients = []
    for name in names:
        clients.append(Client(broker, **options))
        clients[-1].login(name, acks=acks, client=client)
    return clients


class Crowd:
    """Many clients in one thread: reads whichever has something to read."""

    def __init__(self, clients=()):
        self.selector = selectors.DefaultSelector()
        for client in clients:
            self.add(client)

    def add(self, client):
        self.selector.register(client.socket, selectors.EVENT_READ, client)

    def remove(self, client):
        """Must be called before the client's socket is closed by the play."""
        self.selector.unregister(client.socket)

    def clients(self):
        return [key.data for key in self.selector.get_map().values()]

    def read(self, timeout):
        """Reads once from each that has something; gives those. One that has ended is left out
        from then on."""
        ready = [key.data for key, _ in self.selector.select(timeout)]
        for client in ready:
            client.receive_more(0.0001)
            if client.ended:
                self.remove(client)
        return ready

    def until(self, condition, what, timeout=30.0):
        """Reads until the condition is true; gives its value."""
        deadline = time.monotonic() + timeout
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                raise Failed(f"not within {timeout} s: {what}")
            self.read(0.02)

    def close(self):
        """Closes the clients that are still in it, and the crowd."""
        for client in self.clients():
            self.remove(client)
            client.close()
        self.selector.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()
