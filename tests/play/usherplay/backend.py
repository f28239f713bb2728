# SPDX-License-Identifier: Apache-2.0
"""A backend without nng: the SP framing is small enough to be spoken over a plain socket, and a
plain socket can also break every rule."""

import collections
import itertools
import os
import socket
import struct
import time

from usherplay.numbers import check_numbers
from usherplay.record import record
from usherplay.schema import backend_pb
from usherplay.stage import Failed

SP_REQ = 0x0030
SP_REP = 0x0031
SP_HEADER = struct.Struct(">4sHH")
DEFAULT_SECONDS = 20.0  # a machine may be busy with something else
PAGE = 100

_instances = itertools.count(1)


class LinkClosed(Failed):
    """The broker, or nng in it, closed the connection."""


class LinkRefused(Failed):
    """The broker answered Refused."""

    def __init__(self, refused):
        self.code = backend_pb.Refused.Code.Name(refused.code)
        super().__init__(f"Refused({self.code}) {refused.detail}")


def connect(url, timeout=DEFAULT_SECONDS):
    """A plain stream socket to ipc://PATH or tcp://HOST:PORT."""
    if url.startswith("ipc://"):
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.settimeout(timeout)
        stream.connect(url[len("ipc://") :])
        return stream
    host, port = url[len("tcp://") :].rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout)


class Link:
    """One REQ connection: whole messages with request ids, nothing about what is in them."""

    def __init__(self, url, timeout=DEFAULT_SECONDS, protocol=SP_REQ):
        self.ipc = url.startswith("ipc://")
        self.timeout = timeout
        self.stream = connect(url, timeout)
        self.stream.sendall(SP_HEADER.pack(b"\0SP\0", protocol, 0))
        magic, peer, _ = SP_HEADER.unpack(self._read(SP_HEADER.size))
        if magic != b"\0SP\0" or peer != SP_REP:
            raise Failed(f"the link's header is {magic!r} protocol {peer:#x}, not REP")
        self.request_id = struct.unpack(">I", os.urandom(4))[0] | 0x80000000

    def _read(self, size):
        data = b""
        while len(data) < size:
            try:
                part = self.stream.recv(size - len(data))
            except TimeoutError:
                raise Failed(f"no answer on the link within {self.stream.gettimeout()} s") from None
            except OSError as error:
                raise LinkClosed(f"the link was closed: {error}") from None
            if not part:
                raise LinkClosed("the link was closed: end of file")
            data += part
        return data

    def post(self, body):
        """Sends one request and gives its id; does not wait."""
        self.request_id = (self.request_id + 1) & 0xFFFFFFFF | 0x80000000
        record("link_request", body)
        message = struct.pack(">I", self.request_id) + body
        header = (b"\x01" if self.ipc else b"") + struct.pack(">Q", len(message))
        self.stream.settimeout(self.timeout)
        self.stream.sendall(header + message)
        return self.request_id

    def receive(self, timeout=None):
        """(request id, body) of the next answer."""
        self.stream.settimeout(self.timeout if timeout is None else timeout)
        if self.ipc and self._read(1) != b"\x01":
            raise Failed("an ipc message does not begin with 0x01")
        (size,) = struct.unpack(">Q", self._read(8))
        message = self._read(size)
        if size < 4:
            raise Failed(f"an answer of {size} bytes has no request id")
        return struct.unpack(">I", message[:4])[0], message[4:]

    def request(self, body, timeout=None):
        """Sends one request and gives the body of its answer."""
        wanted = self.post(body)
        got, answer = self.receive(timeout)
        if got != wanted:
            raise Failed(f"the answer bears {got:#x} instead of {wanted:#x}")
        return answer

    def close(self):
        self.stream.close()


class Backend:
    """One instance of a service: two connections, one request outstanding on each. Where: a Broker
    or a URL. An empty service only observes. Nothing runs by itself: calls and events arrive by
    fetch, which also acknowledges what came before."""

    def __init__(
        self,
        where,
        service="",
        instance=None,
        incarnation=None,
        presence=False,
        presence_after=0,
        hello=True,
        timeout=DEFAULT_SECONDS,
        token=b"",
    ):
        self.url = getattr(where, "link_url", where)
        self.service = service
        self.instance = instance or f"play-{os.getpid()}-{next(_instances)}"
        self.incarnation = incarnation or time.time_ns() // 1000000
        self.presence = presence
        self.presence_after = presence_after
        self.timeout = timeout  # of each connection
        self.token = token
        self.fetcher = self.submitter = None
        self.link = 0
        self.node_boot = ""
        self.accepted = None
        self.lanes = collections.Counter()
        self.mail = collections.deque()  # Mail fetched, not looked at yet
        self.events = []  # every PresenceEvent, in order of arrival
        self.mail_done = self.presence_done = 0
        self.resets = 0
        if hello:
            self.hello()

    # --- connections ---------------------------------------------------------------------------

    def _submitter(self):
        if self.submitter is None:
            self.submitter = Link(self.url, self.timeout)
        return self.submitter

    def _fetcher(self):
        if self.fetcher is None:
            self.fetcher = Link(self.url, self.timeout)
        return self.fetcher

    def lose(self):
        """Both connections go, as if the process had died."""
        for link in (self.fetcher, self.submitter):
            if link is not None:
                link.close()
        self.fetcher = self.submitter = None

    close = lose

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.lose()

    @staticmethod
    def _ask(link, kind, body, wanted, timeout=None):
        request = backend_pb.LinkRequest()
        getattr(request, kind).CopyFrom(body)
        answer = backend_pb.LinkAnswer()
        answer.ParseFromString(link.request(request.SerializeToString(), timeout))
        check_numbers(answer)
        if answer.WhichOneof("body") == "refused":
            raise LinkRefused(answer.refused)
        if answer.WhichOneof("body") != wanted:
            raise Failed(f"{kind} was answered {answer}")
        return getattr(answer, wanted)

    # --- requests ------------------------------------------------------------------------------

    def hello(self):
        request = backend_pb.Hello(
            service=self.service,
            instance=self.instance,
            incarnation=self.incarnation,
            presence=self.presence,
            presence_after=self.presence_after,
            node_boot=self.node_boot,
            token=self.token,
        )
        self.accepted = self._ask(self._submitter(), "hello", request, "accepted")
        if self.accepted.link != self.link:
            self.lanes.clear()
            self.mail.clear()
            self.mail_done = 0
        self.link = self.accepted.link
        self.node_boot = self.accepted.node_boot
        if self.presence:
            self.presence_done = max(self.presence_after, self.accepted.presence_from - 1)
        return self.accepted

    def fetch(self, wait_ms=200, timeout=None):
        """One Fetch; what it brings is kept in mail and events. Gives the Batch."""
        request = backend_pb.Fetch(
            link=self.link,
            mail_done=self.mail_done,
            presence_done=self.presence_done,
            wait_ms=wait_ms,
        )
        batch = self._ask(
            self._fetcher(), "fetch", request, "batch", timeout or wait_ms / 1000 + DEFAULT_SECONDS
        )
        for mail in batch.mail:
            if mail.seq != self.mail_done + 1:
                raise Failed(f"mail {mail.seq} came after {self.mail_done}")
            self.mail_done = mail.seq
            self.mail.append(mail)
        if batch.presence_reset:
            self.resets += 1
        for event in batch.presence:
            if self.events and not batch.presence_reset and event.seq <= self.events[-1].seq:
                raise Failed(f"event {event.seq} came after {self.events[-1].seq}")
            self.events.append(event)
            self.presence_done = event.seq
        return batch

    def submit(self, *commands, lane=0, seq=None, link=None):
        """One Submit; gives its results, one per command. seq None: the next of the lane."""
        if seq is None:
            self.lanes[lane] += 1
            seq = self.lanes[lane]
        request = backend_pb.Submit(link=self.link if link is None else link, lane=lane, seq=seq)
        if request.link == 0:
            request.token = self.token
        request.commands.extend(commands)
        results = self._ask(self._submitter(), "submit", request, "results")
        if len(results.results) != len(commands):
            raise Failed(f"{len(commands)} commands had {len(results.results)} results")
        if results.seq != seq:
            raise Failed(f"the results of submit {seq} say seq {results.seq}")
        return list(results.results)

    def query(self, command):
        """One command without a link, as a tool asks; gives its result."""
        return self.submit(command, link=0, seq=1)[0]

    # --- what arrives --------------------------------------------------------------------------

    def next_call(self, timeout=DEFAULT_SECONDS, kind="call"):
        """The next UserCall (kind auth: AuthCall), or None."""
        deadline = time.monotonic() + timeout
        while True:
            while self.mail:
                mail = self.mail.popleft()
                if mail.WhichOneof("body") == kind:
                    return getattr(mail, kind)
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self.fetch(wait_ms=max(1, int(min(left, 0.2) * 1000)))

    def expect_call(self, timeout=DEFAULT_SECONDS, kind="call"):
        call = self.next_call(timeout, kind)
        if call is None:
            raise Failed(f"no call arrived at {self.service} {self.instance} in {timeout} s")
        return call

    def wait_events(self, condition, what, timeout=DEFAULT_SECONDS):
        """Fetches until condition(events) is true; gives that."""
        deadline = time.monotonic() + timeout
        while True:
            value = condition(self.events)
            if value:
                return value
            if time.monotonic() > deadline:
                raise Failed(
                    f"no presence event for {what}; came:\n  "
                    + "\n  ".join(describe_event(event) for event in self.events[-20:])
                )
            self.fetch(wait_ms=100)

    def wait_event(self, user, kind, cause=None, epoch=None, timeout=DEFAULT_SECONDS):
        """The first event like that, fetched already or still to come."""

        def found(events):
            for event in events:
                if (
                    event.user == user
                    and kind_name(event) == kind
                    and cause in (None, cause_name(event))
                    and epoch in (None, event.epoch)
                ):
                    return event
            return None

        return self.wait_events(found, f"{user} {kind} {cause or ''} {epoch or ''}", timeout)

    # --- commands ------------------------------------------------------------------------------

    def reply(self, call, status=0, payload=b"", **fields):
        return self.submit(reply_to(call, status, payload, **fields))[0]

    def push(self, to, payload=b"", epoch=0, transient=False):
        return self.submit(push(to, payload, epoch, transient))[0]

    def kick(self, user, **fields):
        return self.submit(backend_pb.Command(kick=backend_pb.Kick(user=user, **fields)))[0]

    def lookup(self, *users):
        return self.query(backend_pb.Command(lookup=backend_pb.Lookup(users=users))).sessions

    def list_all(self, prefix="", limit=PAGE):
        """All sessions, page by page; also how many pages it took."""
        sessions, pages, after = [], 0, ""
        while True:
            command = backend_pb.Command(
                list=backend_pb.List(prefix=prefix, after=after, limit=limit)
            )
            page = self.query(command).sessions
            sessions += page.sessions
            pages += 1
            if not page.more:
                return sessions, pages
            if not page.sessions:
                raise Failed("an empty page says that there is more")
            after = page.sessions[-1].user

    def snapshot(self, limit=PAGE):
        """[(SessionInfo, seq that its page is true for)]"""
        sessions, after = [], ""
        while True:
            command = backend_pb.Command(snapshot=backend_pb.Snapshot(after=after, limit=limit))
            page = self.query(command).sessions
            sessions += [(session, page.presence_seq) for session in page.sessions]
            if not page.more:
                return sessions, page.presence_seq
            after = page.sessions[-1].user

    def all_events(self, after=0, limit=PAGE):
        """The stored stream from `after` to its end."""
        events = []
        while True:
            command = backend_pb.Command(events=backend_pb.Events(after=after, limit=limit))
            page = self.query(command).events
            if page.reset:
                raise Failed(f"events after {after} are no longer kept")
            events += page.events
            if not page.events:
                return events
            after = page.events[-1].seq

    def numbers(self, kind):
        """Count or Stats as {name: value}."""
        command = backend_pb.Command()
        getattr(command, kind).SetInParent()
        return {number.name: number.value for number in self.query(command).numbers.numbers}


def reply_to(call, status=0, payload=b"", **fields):
    number = call if isinstance(call, int) else call.call
    return backend_pb.Command(
        reply_to=backend_pb.ReplyTo(call=number, status=status, payload=payload, **fields)
    )


def push(to, payload=b"", epoch=0, transient=False):
    names = [to] if isinstance(to, str) else to
    return backend_pb.Command(
        push=backend_pb.Push(to=names, payload=payload, epoch=epoch, transient=transient)
    )


def kind_name(event):
    return backend_pb.PresenceEvent.Kind.Name(event.kind)


def cause_name(event):
    return backend_pb.PresenceEvent.Cause.Name(event.cause)


def code_name(result):
    return backend_pb.Result.Code.Name(result.code)


def state_name(session):
    return backend_pb.SessionInfo.State.Name(session.state)


def describe_event(event):
    previous = f" previous {event.previous_epoch}" if event.previous_epoch else ""
    return (
        f"{event.seq}: {event.user} {kind_name(event)} {cause_name(event)} "
        f"epoch {event.epoch}{previous}"
    )
