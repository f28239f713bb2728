# SPDX-License-Identifier: Apache-2.0
"""What clients do in a soak: each class is one activity, in a thread of its own. Its round() is
called again and again; what must never happen raises Failed. rest() is called when the load
pauses, and leaves nothing of the activity behind but sessions that expire."""

import collections
import socket
import time

from usherplay import Backend, ConnectionEnded, Failed, check, check_equal, client_pb, frame_bytes
from usherplay.backend import state_name
from usherplay.client import Witness, describe
from usherplay.history import History, check_history

SLOW_SECONDS = 60  # for what surely happens, on any machine
SERVICE = "echo"
GONE = (ConnectionEnded, OSError)  # the broker closed: a client's everyday life
BUSY_CODES = ("INBOX_FULL", "BUSY", "NOT_ONLINE", "UNDELIVERED")
CALL_CODES = ("SERVICE_LOST", "TIMEOUT", "NO_SERVICE", "BUSY")
KEPT_SILENT = 48


def code_of(frame):
    return client_pb.Error.Code.Name(frame.error.code)


class Activity:
    """door makes connections; tally counts what clients see, over all activities."""

    def __init__(self, door, random, tally):
        self.door, self.random, self.tally = door, random, tally
        self.stopping = lambda: False
        self.longest = 0.0  # seconds of a round

    def login(self, name, acks=False, **options):
        """A welcomed client, or None when the broker does not want it now."""
        client = self.door.connect(**options)
        try:
            self.door.login(client, name, acks)
            self.tally["logins"] += 1
            return client
        except GONE:
            self.note(client)
            client.close()
            return None

    def login_surely(self, name, acks=False, **options):
        """Until it is welcomed: others may have taken all places of strangers."""
        deadline = time.monotonic() + SLOW_SECONDS
        while time.monotonic() < deadline:
            client = self.login(name, acks, **options)
            if client is not None:
                return client
            time.sleep(0.02)
        raise Failed(f"{name} could not log in within {SLOW_SECONDS} s")

    def note(self, client):
        """Counts the refusals among the frames that are here, and drops all of them."""
        for frame in client.frames:
            kind = frame.WhichOneof("body")
            if kind == "error":
                self.tally[code_of(frame)] += 1
            elif kind == "close":
                client.reason = describe(frame)
                self.tally[client_pb.Close.Reason.Name(frame.close.reason)] += 1
            elif kind == "message":
                self.tally["messages"] += 1
            elif kind == "pong":
                client.ponged = frame.id
        client.frames.clear()

    def end(self, client):
        """Waits for the broker to close, counts and closes."""
        deadline = time.monotonic() + SLOW_SECONDS
        while not client.ended:
            check(time.monotonic() < deadline, f"{client.name}: not closed by the broker")
            client.receive_more(0.2)
            self.note(client)
        client.close()

    def pump(self, client, data, answers, seconds=SLOW_SECONDS):
        """Sends without waiting for answers, which are read meanwhile; until so many have come
        or the connection has ended. Gives a Counter of the answers' kinds and errors."""
        counts, deadline = collections.Counter(), time.monotonic() + seconds
        view = memoryview(data)
        while sum(counts.values()) < answers and not client.ended:
            check(
                time.monotonic() < deadline,
                f"{client.name}: {sum(counts.values())} of {answers} answers: {dict(counts)}",
            )
            if view:
                client.socket.setblocking(False)
                try:
                    view = view[client.socket.send(view[:65536]) :]
                except BlockingIOError:
                    pass
                except OSError:
                    view = view[:0]
            client.receive_more(0.002)
            for frame in client.frames:
                if frame.id:
                    kind = frame.WhichOneof("body")
                    counts[code_of(frame) if kind == "error" else kind] += 1
            self.note(client)
        return counts

    def rest(self):
        pass


class Churn(Activity):
    """Comes, talks a little and goes, in every way in which one can go."""

    def __init__(self, *arguments, label="a"):
        super().__init__(*arguments)
        self.label, self.fresh, self.silent = label, 0, []

    def name(self):
        if self.random.random() < 0.5:
            return f"churn{self.random.randrange(200)}"
        self.fresh += 1  # a name that never comes again
        return f"once-{self.label}{self.fresh}"

    def round(self):
        clients = [self.login(self.name(), self.random.random() < 0.5) for _ in range(12)]
        clients = [client for client in clients if client is not None]
        for client in clients:
            try:
                self.talk(client, clients)
            except GONE:
                pass
        for client in clients:
            getattr(self, self.random.choice(["fin", "rst", "logout", "silence", "half"]))(client)
        self.look_after_silent(KEPT_SILENT)

    def talk(self, client, clients):
        for _ in range(self.random.randrange(8)):
            peer = self.random.choice(clients)
            until = self.random.randrange(2)
            client.post(
                "send", to=peer.name, payload=b"x" * self.random.randrange(600), until=until
            )
        if self.random.random() < 0.5:
            client.post("call", service=SERVICE, method="m", payload=b"1", timeout_ms=2000)
        client.post("ping", stamp=1)
        client.receive_more(0.0001)
        last = max(
            (frame.message.seq for frame in client.frames if frame.WhichOneof("body") == "message"),
            default=0,
        )
        if last and self.random.random() < 0.7:
            client.post("ack", id=0, seq=last)

    def fin(self, client):
        client.close()

    def rst(self, client):
        client.drop()

    def logout(self, client):
        try:
            client.post("logout")
        except OSError:
            pass
        self.end(client)

    def half(self, client):
        """Says that it will send nothing more, and reads to the end."""
        try:
            client.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        self.end(client)

    def silence(self, client):
        """As one whose cable was cut: nothing comes any more, not even an end."""
        self.silent.append(client)

    def look_after_silent(self, most):
        while len(self.silent) > most:
            self.end(self.silent.pop(0))

    def rest(self):
        self.look_after_silent(0)


class Strangers(Activity):
    """Connections that never log in: silent, garbage, half frames, a request out of place."""

    def round(self):
        strangers = []
        for _ in range(self.random.choice([5, 20, 80])):
            stranger = self.door.connect()
            stranger.name = "stranger"
            try:
                stranger.send_bytes(self.bytes_of_one())
            except OSError:
                pass
            strangers.append(stranger)
        for stranger in strangers:
            if self.random.random() < 0.2:
                stranger.drop()
        for stranger in strangers:
            if stranger.ended != "dropped":
                self.end(stranger)

    def bytes_of_one(self):
        login = client_pb.ClientFrame(id=1, login=client_pb.Login(username="stranger"))
        return self.random.choice(
            [
                b"",
                self.random.randbytes(self.random.randrange(1, 300)),
                frame_bytes(login)[: self.random.randrange(1, 8)],
                frame_bytes(client_pb.ClientFrame(id=1, ping=client_pb.Ping())),
                b"\xff\xff\xff\xff\xff\xff",
                b"\x80\x80\x04" + b"x" * 2000,
            ]
        )


class Floods(Activity):
    """Sends as fast as it goes: into one inbox, into one mailbox, pings, frames too large. Each
    request must have its one answer as long as the connection lives."""

    def round(self):
        way = self.random.choice(["inbox", "mailbox", "pings", "oversize"])
        flooder = self.login_surely(f"flooder{self.random.randrange(3)}", timeout=SLOW_SECONDS)
        getattr(self, way)(flooder)
        flooder.close()

    def sends(self, client, to, count, size, until=0):
        payload = b"f" * size
        return b"".join(
            frame_bytes(client.request("send", to=to, payload=payload, until=until))
            for _ in range(count)
        )

    def answered(self, client, data, count, what):
        counts = self.pump(client, data, count)
        check_equal(
            sum(counts.values()),
            count,
            f"answers to a flood ({what}, {dict(counts)}, ended: {client.ended})",
        )
        return counts

    def inbox(self, flooder):
        victim = self.login_surely("victim-inbox", acks=True)
        counts = self.answered(flooder, self.sends(flooder, "victim-inbox", 600, 200), 600, "inbox")
        check(counts["INBOX_FULL"] + counts["BUSY"] > 0, f"an inbox took 600: {dict(counts)}")
        if self.random.random() < 0.5:
            self.drain(victim)
        victim.drop()

    def drain(self, victim):
        """Reads and acknowledges what is there."""
        try:
            victim.receive_more(0.01)
            seqs = [
                frame.message.seq
                for frame in victim.frames
                if frame.WhichOneof("body") == "message"
            ]
            if seqs:
                victim.post("ack", id=0, seq=seqs[-1])
            self.note(victim)
        except GONE:
            pass

    def mailbox(self, flooder):
        """Several at once: one alone is slower than a mailbox."""
        victim = self.login_surely("victim-mailbox")
        others = [self.login_surely(f"flood-helper{number}") for number in range(3)]
        for other in others:
            try:
                other.send_bytes(self.sends(other, "victim-mailbox", 300, 20))
            except OSError:
                pass
        self.answered(flooder, self.sends(flooder, "victim-mailbox", 800, 20), 800, "mailbox")
        for other in others:
            other.receive_more(0.01)
            self.note(other)
            other.drop()
        victim.drop()

    def pings(self, flooder):
        data = b"".join(
            frame_bytes(flooder.request("ping", stamp=number)) for number in range(2000)
        )
        counts = self.answered(flooder, data, 2000, "pings")
        check_equal(counts["pong"], 2000, "pongs")

    def oversize(self, flooder):
        try:
            flooder.send_bytes(b"\x80\x80\x80\x01" + b"x" * 100000)
        except OSError:
            pass
        self.end(flooder)


class SlowReaders(Activity):
    """Receive buffers as small as the kernel allows; read a byte a second or never. The broker
    must end each of them, and the sender must not wait for them."""

    def round(self):
        sender = self.login_surely("slow-sender", timeout=SLOW_SECONDS)
        readers = [
            self.login(f"slow{number}", acks=number % 3 == 2, receive_buffer=2048)
            for number in range(6)
        ]
        readers = [reader for reader in readers if reader is not None]
        payload = b"s" * 60000
        for _ in range(120):
            data = b"".join(
                frame_bytes(sender.request("send", to=reader.name, payload=payload))
                for reader in readers
            )
            check_equal(
                sum(self.pump(sender, data, len(readers)).values()),
                len(readers),
                f"answers to the sender of slow readers (ended: {sender.ended})",
            )
        sender.close()
        self.trickle(readers)

    def trickle(self, readers):
        """Until the broker says that none of them has a connection: a reader who does not read
        would not see its end, which waits behind the rest."""
        deadline = time.monotonic() + SLOW_SECONDS
        names = [reader.name for reader in readers]
        with Backend(self.door.link_url, hello=False, timeout=SLOW_SECONDS) as asker:
            while readers and any(
                state_name(session) == "ONLINE" for session in asker.lookup(*names).sessions
            ):
                check(time.monotonic() < deadline, "a slow reader was not closed")
                for reader in readers[::2]:
                    self.read_byte(reader)
                time.sleep(1)  # that is how slow they are
        for reader in readers:
            reader.drop()

    @staticmethod
    def read_byte(reader):
        try:
            reader.socket.settimeout(0.001)
            reader.socket.recv(1)
        except OSError:
            pass


class Rounds(Activity):
    """Users who send each other numbered messages through storms of takeovers and resumes, with
    everything recorded; at the end of a round all rules of the plays are held against it."""

    USERS = [f"round{number}" for number in range(6)]

    def round(self):
        self.history, self.numbers = History(), collections.Counter()
        self.clients = {user: self.enter(user) for user in self.USERS}
        self.olds = []
        for _ in range(30):
            if self.stopping():
                break
            self.step()
        self.finish()

    def enter(self, user, resume=False):
        """A new connection, until it is welcomed. A resume that is refused becomes a login."""
        deadline = time.monotonic() + SLOW_SECONDS
        while time.monotonic() < deadline:
            after = self.clients.get(user) if resume else None
            client = self.door.connect(
                make=Witness, history=self.history, timeout=SLOW_SECONDS, after=after
            )
            try:
                if resume:
                    self.door.resume(client, after.welcome, after.had, user)
                    self.tally["resumes"] += 1
                else:
                    self.door.login(client, user, True)
                    self.tally["logins"] += 1
                client.had = client.welcome.next_seq - 1
                return client
            except GONE:
                self.note(client)
                client.close()
        raise Failed(f"{user} could not enter within {SLOW_SECONDS} s")

    def step(self):
        for user in self.USERS:
            self.chat(user)
        for user in self.USERS:
            self.read(user, 0.001)
        user = self.random.choice(self.USERS)
        way = self.random.choice(["none", "none", "storm", "takeover", "resume", "lost"])
        if way == "storm":
            self.storm(user)
        elif way == "takeover":
            self.replace(user, self.enter(user))
        elif way == "resume":
            self.replace(user, self.enter(user, resume=True))
        elif way == "lost":
            self.clients[user].drop()
            self.replace(user, self.enter(user, resume=True))

    def replace(self, user, newer):
        self.olds.append(self.clients[user])
        self.clients[user] = newer

    def storm(self, user):
        """Many logins at once; the one with the highest epoch stays."""
        many = [
            self.door.connect(make=Witness, history=self.history, timeout=SLOW_SECONDS)
            for _ in range(8)
        ]
        for client in many:
            try:
                client.name = user
                client.send_frame(self.door.login_frame(client, user, True))
            except OSError:
                pass
        for client in many:
            self.until_welcome(client)
        welcomed = [client for client in many if client.welcome is not None]
        self.tally["logins"] += len(welcomed)
        if not welcomed:  # all were turned away: the broker was full of strangers
            self.olds += many
            return
        newest = max(welcomed, key=lambda client: client.welcome.epoch)
        newest.had = 0
        self.olds += [client for client in many if client is not newest]
        self.replace(user, newest)

    @staticmethod
    def until_welcome(client):
        deadline = time.monotonic() + SLOW_SECONDS
        while client.welcome is None and not client.ended:
            check(time.monotonic() < deadline, f"{client.name}: neither welcomed nor closed")
            client.receive_more(0.2)

    def chat(self, user):
        client, frames = self.clients[user], []
        for _ in range(self.random.randrange(1, 5)):
            peer = self.random.choice(self.USERS)
            self.numbers[user, peer] += 1
            frames.append(
                client.request(
                    "send",
                    to=peer,
                    until=self.random.randrange(2),
                    payload=b"%d " % self.numbers[user, peer],
                )
            )
        try:
            client.send_frames(frames)
        except OSError:
            pass

    def read(self, user, timeout):
        """Takes what is here and acknowledges the messages."""
        client = self.clients[user]
        client.receive_more(timeout)
        messages = [frame.message for frame in client.take("message")]
        self.note(client)
        if messages:
            client.had = messages[-1].seq
            self.tally["messages"] += len(messages)
            try:
                client.post("ack", id=0, seq=client.had)
            except OSError:
                pass

    def finish(self):
        """All lost ones come back, everything is read, and the rules are held against it."""
        for user in self.USERS:
            self.read(user, 0.001)
            if self.clients[user].ended:
                self.replace(user, self.enter(user, resume=False))
        for old in self.olds:
            self.end(old) if not old.ended else old.close()
        for _ in range(3):  # acks of the one free the answers of the other
            for user in self.USERS:
                self.until_pong(user)
        self.history.quiet()
        for user in self.USERS:
            self.until_pong(user)
        counts = check_history(self.history)
        self.tally["rounds checked"] += 1
        for name in ("delivered", "COMPLETE", "PARTIAL"):
            self.tally[f"rounds: {name}"] += counts[name]
        for client in self.clients.values():
            client.post("logout")
            self.end(client)

    def until_pong(self, user):
        client = self.clients[user]
        id, deadline = client.post("ping", stamp=1), time.monotonic() + SLOW_SECONDS
        while getattr(client, "ponged", 0) != id:
            self.read(user, 0.2)
            check(
                not client.ended,
                f"{user}: closed at the end of a round: "
                f"{client.ended} {getattr(client, 'reason', '')}",
            )
            check(time.monotonic() < deadline, f"{user}: no pong")


class Pen:
    """One user of the Exchange: what he was handed, in order."""

    def __init__(self, name):
        self.name, self.client, self.seq = name, None, 0
        self.seen = collections.Counter()  # sender -> highest number
        self.asked = {}  # id -> (receiver, number), of this connection
        self.unknown = {}  # those of lost ones; the request or its answer may be lost with it
        self.heard = time.monotonic()  # when it was last seen to be connected


class Exchange(Activity):
    """A few users who write to each other for as long as the soak runs, over connections that
    come and go. Nothing that was accepted may be lost, come twice or in another order."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.users = {f"pen{number}": Pen(f"pen{number}") for number in range(4)}
        self.numbers = collections.Counter()
        self.owed = {}  # (sender, receiver) -> accepted numbers that have not arrived

    def round(self):
        for user in self.users.values():
            if user.client is None or user.client.ended:
                self.connect(user)
        for user in self.users.values():
            self.write(user)
        for user in self.users.values():
            self.read(user)
        if self.random.random() < 0.02:
            user = self.random.choice(list(self.users.values()))
            user.client.drop() if self.random.random() < 0.7 else user.client.close()

    def connect(self, user):
        """Resumes, or logs in and inherits."""
        deadline = time.monotonic() + SLOW_SECONDS
        while time.monotonic() < deadline:
            lonely = time.monotonic() - user.heard
            if user.client is not None and lonely > self.door.resume_seconds - 1:
                self.forgive(user)
            client = self.door.connect(timeout=SLOW_SECONDS)
            try:
                old = user.client
                if old is not None and self.random.random() < 0.8:
                    client.last_id = old.last_id
                    self.door.resume(client, old.welcome, user.seq, user.name)
                    check_equal(
                        client.welcome.next_seq,
                        user.seq + 1,
                        f"{user.name}: the next seq of a resume",
                    )
                    self.tally["resumes"] += 1
                    user.unknown.update(user.asked)
                else:
                    self.door.login(client, user.name, True)
                    self.tally["logins"] += 1
                    user.seq, user.unknown = 0, {}
                user.asked = {}
                user.client = client
                return
            except GONE:
                client.close()
        raise Failed(f"{user.name} could not connect within {SLOW_SECONDS} s")

    def forgive(self, user):
        """A machine that stood still for so long that the session may have expired: what waited
        for him was given up."""
        self.tally["exchange stalled"] += 1
        user.client = None
        for (_, receiver), owed in self.owed.items():
            if receiver == user.name:
                owed.clear()
        user.heard = time.monotonic()

    def write(self, user):
        if len(user.asked) > 24:
            return
        for _ in range(4):
            to = self.random.choice(list(self.users))
            self.numbers[user.name, to] += 1
            number = self.numbers[user.name, to]
            frame = user.client.request(
                "send", to=to, payload=b"%d " % number, until=self.random.randrange(2)
            )
            user.asked[frame.id] = (to, number)
            try:
                user.client.send_frame(frame)
            except OSError:
                return

    def read(self, user, timeout=0.001):
        client = user.client
        client.receive_more(timeout)
        if not client.ended:
            user.heard = time.monotonic()
        before = user.seq
        while client.frames:
            frame = client.frames.popleft()
            kind = frame.WhichOneof("body")
            if kind == "message":
                self.message(user, frame.message)
            elif kind == "close":
                self.tally[client_pb.Close.Reason.Name(frame.close.reason)] += 1
            elif frame.id in user.asked:
                self.answer(user, frame, *user.asked.pop(frame.id))
            elif frame.id in user.unknown:
                self.answer(user, frame, *user.unknown.pop(frame.id))
            elif kind != "pong":
                raise Failed(f"{user.name}: an answer to nothing: {describe(frame)}")
        if user.seq > before:
            try:
                client.post("ack", id=0, seq=user.seq)
            except OSError:
                pass

    def message(self, user, message):
        check_equal(message.seq, user.seq + 1, f"{user.name}: the seq of a message")
        user.seq = message.seq
        self.tally["messages"] += 1
        sender = getattr(message, "from")
        if message.service or sender not in self.users:
            return
        number = int(message.payload)
        highest = user.seen[sender]
        if number <= highest:
            check(
                message.redelivered,
                f"{user.name}: {sender}'s {number} came again, unmarked " f"and after {highest}",
            )
            return
        owed = self.owed.setdefault((sender, user.name), set())
        lost = {other for other in owed if other < number}
        check(
            not lost,
            f"{user.name}: {sender}'s {sorted(lost)} were accepted and {number} came "
            "without them",
        )
        owed.discard(number)
        user.seen[sender] = number
        self.tally["exchanged"] += 1

    def answer(self, user, frame, to, number):
        if frame.WhichOneof("body") == "error":
            code = code_of(frame)
            self.tally[code] += 1
            check(code in BUSY_CODES, f"{user.name}: {number} to {to} was answered {code}")
            return
        if self.users[to].seen[user.name] < number:
            self.owed.setdefault((user.name, to), set()).add(number)

    def rest(self):
        """Everything that was accepted has to arrive now."""
        deadline = time.monotonic() + SLOW_SECONDS
        for user in self.users.values():
            if user.client is None or user.client.ended:
                self.connect(user)
        while any(self.owed.values()) or any(user.asked for user in self.users.values()):
            for user in self.users.values():
                user.client.post("ping", id=0)
                self.read(user, 0.01)
                check(not user.client.ended, f"{user.name}: closed while everything rests")
            check(
                time.monotonic() < deadline,
                f"not arrived: {self.owed}; not answered: "
                f"{[(user.name, user.asked) for user in self.users.values()]}",
            )
        for user in self.users.values():
            user.client.post("logout")
            self.end(user.client)
            user.client = None


class Callers(Activity):
    """Users who call the service all the time; every call has one outcome, and a reply is the
    reply to that very call."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.clients, self.number = {}, 0

    def round(self):
        for number in range(4):
            name = f"caller{number}"
            client = self.clients.get(name)
            if client is None or client.ended or self.random.random() < 0.01:
                if client is not None:
                    client.close()
                client = self.clients[name] = self.login_surely(name)
                client.waiting = {}
            try:
                self.call(client)
                self.take(client)
            except GONE:
                pass

    def call(self, client):
        while len(client.waiting) < 6:
            self.number += 1
            id = client.post(
                "call", service=SERVICE, method="m", timeout_ms=8000, payload=b"%d" % self.number
            )
            client.waiting[id] = self.number, time.monotonic()

    def take(self, client):
        client.receive_more(0.005)
        while client.frames:
            frame = client.frames.popleft()
            kind = frame.WhichOneof("body")
            if not frame.id:
                continue
            check(frame.id in client.waiting, f"{client.name}: {describe(frame)} to no call")
            number, _ = client.waiting.pop(frame.id)
            if kind == "error":
                check(code_of(frame) in CALL_CODES, f"{client.name}: a call: {code_of(frame)}")
                self.tally[code_of(frame)] += 1
                continue
            expected = f"{client.name} {client.welcome.epoch} {number}"
            check_equal(frame.reply.payload.decode(), expected, "the reply to a call")
            self.tally["replies"] += 1
        oldest = min((began for _, began in client.waiting.values()), default=None)
        check(
            oldest is None or time.monotonic() - oldest < SLOW_SECONDS,
            f"{client.name}: a call had no outcome for {SLOW_SECONDS} s",
        )

    def rest(self):
        for client in self.clients.values():
            if not client.ended:
                try:
                    client.post("logout")
                except OSError:
                    pass
                self.end(client)
        self.clients.clear()
