# SPDX-License-Identifier: Apache-2.0
"""Login: what Welcome says, which names are names, and what else ends a connection."""

import time

from usherplay import (
    Backend,
    Broker,
    Client,
    check,
    check_equal,
    check_presence,
    client_pb,
    eventually,
    frame_bytes,
    play,
    varint,
)

GOOD_NAMES = [
    "a",
    "0",
    "-",
    "..",
    "alice",
    "ALICE",
    "Alice",
    "a.b",
    "a_b",
    "a-b",
    "a@b",
    "a:b",
    "a+b",
    "guild:42@eu-1.example+test",
    "x" * 63,
    "y" * 64,
]
BAD_NAMES = [
    "",
    " ",
    "a b",
    " a",
    "a ",
    "a\t",
    "a\n",
    "a\r\nb",
    "a\x1b[2J",
    "a\x7f",
    "a/b",
    "a\\b",
    "a*",
    "a#",
    "a%00",
    'a"',
    "a'",
    "a$b",
    "a=b",
    "a,b",
    "a;b",
    "<a>",
    "{a}",
    "a|b",
    "a&b",
    "a~",
    "a!",
    "x" * 65,
    "x" * 128,
    "x" * 511,
    "x" * 512,
    "x" * 1000,
    "\u00fc",
    "u\u0308",
    "\u00e9clair",
    "e\u0301clair",
    "\uff21lice",
    "\u0430lice",
    "ali\u200bce",
    "\u202ealice",
    "ali\u2060ce",
    "a" + "\u0301" * 20,
    "\ufeffalice",
    "\U0001f600",
    "\u2126",
    "stra\u00dfe",
    "\u0130",
    "\ufb01x",
]
# Not UTF-8, or with a NUL: no valid frame at all.
BROKEN_NAMES = [
    b"a\0",
    b"\0",
    b"a\0b",
    b"\xff",
    b"\xc3",
    b"a\xc3(",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xe2\x82",
    b"\x80",
    b"\xf8\x88\x80\x80\x80",
]


def login_bytes(name, id=1):
    login = b"\x0a" + varint(len(name)) + name
    return frame_bytes(b"\x08" + varint(id) + b"\x12" + varint(len(login)) + login)


def scene_welcome():
    options = {
        "session.resume_ms": 4321,
        "session.heartbeat_ms": 9876,
        "node.name": "node-7",
        "limits.frame_bytes": 20000,
    }
    with Broker(options) as broker, Client(broker) as alice, Client(broker) as bob:
        welcome = alice.login("alice")
        check(welcome.epoch > 0, "epoch 0")
        check_equal(len(welcome.secret), 16, "bytes of the secret")
        check_equal(welcome.replay, client_pb.Welcome.FRESH, "replay")
        check_equal(welcome.next_seq, 1, "next_seq")
        check_equal(welcome.resume_ms, 4321, "resume_ms")
        check_equal(welcome.heartbeat_ms, 9876, "heartbeat_ms")
        check_equal(welcome.frame_bytes_max, 20000, "frame_bytes_max")
        check_equal(welcome.node, "node-7", "node")
        skew = abs(welcome.time_ms / 1000 - time.time())
        check(skew < 10, f"time_ms is {skew:.1f} s away from now")
        other = bob.login("bob")
        check(other.secret != welcome.secret, "two users have one secret")
        alice.ping()
        bob.ping()
        backend = Backend(broker)
        sessions = {session.user: session for session in backend.lookup("alice", "bob").sessions}
        check_equal(sessions["alice"].epoch, welcome.epoch, "epoch in the map")
        check_equal(sessions["bob"].epoch, other.epoch, "epoch in the map")
        check_equal(sessions["alice"].client, "play", "client text in the map")
        check("127.0.0.1" in sessions["alice"].address, "no address in the map")


def scene_login_without_id():
    """The id belongs to the request; Welcome comes with or without it."""
    with Broker() as broker, Client(broker) as alice:
        alice.name = "alice"
        alice.post("login", id=0, username="alice")
        frame = alice.next_frame()
        if frame is not None:
            check_equal((frame.WhichOneof("body"), frame.id), ("welcome", 0), "the answer to id 0")
        alice.ping()


def scene_names():
    with Broker({"limits.prelogin_bytes": 4096}) as broker:
        backend = Backend(broker)
        online = []
        for name in GOOD_NAMES:
            client = Client(broker)
            client.login(name)
            online.append(client)
        for client in online:  # two names that differ in one bit are two users
            client.ping()
        for name in BAD_NAMES:
            with Client(broker) as client:
                client.name = repr(name)
                client.post("login", username=name)
                client.expect_error("INVALID_NAME")
                client.expect_close("AUTH_FAILED")
        for name in BROKEN_NAMES:
            with Client(broker) as client:
                client.name = repr(name)
                client.send_bytes(login_bytes(name))
                client.expect_close("PROTOCOL_ERROR")
        sessions, _ = backend.list_all()
        check_equal(
            sorted(session.user for session in sessions), sorted(GOOD_NAMES), "the names in the map"
        )
        check_equal(
            sorted(event.user for event in backend.all_events()),
            sorted(GOOD_NAMES),
            "the names in the stream",
        )
        for client in online:
            client.close()
        print(
            f"     {len(GOOD_NAMES)} names taken, {len(BAD_NAMES)} refused, "
            f"{len(BROKEN_NAMES)} broken"
        )


def scene_bad_login_disturbs_nobody():
    with Broker() as broker, Client(broker) as alice:
        welcome = alice.login("alice")
        for name in (b"alice\0", b"alice ", b"alice\xff", b"alice\n"):
            with Client(broker) as other:
                other.send_bytes(login_bytes(name))
                other.read_to_end()
        alice.ping()
        alice.expect_nothing(0.1)
        check_equal(Backend(broker).lookup("alice").sessions[0].epoch, welcome.epoch, "epoch")


def scene_second_login_on_a_connection():
    with Broker() as broker:
        for name in ("alice", "bob"):
            with Client(broker) as alice:
                alice.login("alice")
                alice.post("login", username=name)
                alice.expect_error("PROTOCOL")
                alice.expect_close("PROTOCOL_ERROR")
        check_equal(Backend(broker).lookup("bob").sessions[0].epoch, 0, "bob's epoch")
        with Client(broker) as alice:
            welcome = alice.login("alice")
            alice.post("resume", username="alice", epoch=welcome.epoch, secret=welcome.secret)
            alice.expect_error("PROTOCOL")
            alice.expect_close("PROTOCOL_ERROR")


def scene_two_logins_in_one_segment():
    with Broker() as broker:
        for second in ("alice", "bob"):
            with Client(broker) as alice:
                alice.name = "alice"
                frames = [alice.request("login", username=name) for name in ("alice", second)]
                alice.send_bytes(b"".join(frame_bytes(frame) for frame in frames))
                answers = alice.read_to_end()
                kinds = [(frame.id, frame.WhichOneof("body")) for frame in answers]
                check_equal(sorted(kinds[:-1]), [(1, "welcome"), (2, "error")], "the answers")
                check_equal(kinds[-1], (0, "close"), "the last frame")
                error = [frame.error for frame in answers if frame.id == 2][0]
                check_equal(error.code, client_pb.Error.PROTOCOL, "code")
                check_equal(answers[-1].close.reason, client_pb.Close.PROTOCOL_ERROR, "reason")
        with Client(broker) as alice:  # and nothing of it stays in the way
            alice.login("alice")
            alice.ping()


def scene_request_behind_the_login():
    """Sent in one segment with the Login, so before its Welcome: not served."""
    with Broker() as broker:
        for kind, fields in (("ping", {"stamp": 1}), ("send", {"to": "alice", "payload": b"x"})):
            with Client(broker) as alice:
                alice.name = "alice"
                frames = [alice.request("login", username="alice"), alice.request(kind, **fields)]
                alice.send_bytes(b"".join(frame_bytes(frame) for frame in frames))
                kinds = [(frame.id, frame.WhichOneof("body")) for frame in alice.read_to_end()]
                check_equal(
                    sorted(kinds),
                    [(0, "close"), (1, "welcome"), (2, "error")],
                    f"the answers to a login with a {kind} behind it",
                )


def scene_requests_before_login():
    requests = {
        "send": {"to": "alice", "payload": b"x"},
        "call": {"service": "s"},
        "ack": {"seq": 0},
        "ping": {"stamp": 1},
        "logout": {},
    }
    with Broker() as broker:
        for kind, fields in requests.items():
            with Client(broker) as client:
                client.name = f"{kind} before Login"
                client.post(kind, **fields)
                client.expect_error("PROTOCOL")
                client.expect_close("PROTOCOL_ERROR")
            with Client(broker) as client:
                client.name = f"{kind} without id before Login"
                client.post(kind, id=0, **fields)
                client.expect_close("PROTOCOL_ERROR")


def scene_deadline():
    with Broker({"limits.login_deadline_ms": 300}) as broker:

        def silent(client):
            time.sleep(0)

        def trickle(client):
            """One byte at a time: the deadline counts from the start, not from the last byte."""
            data = login_bytes(b"alice")
            for byte in data[:-1]:
                if client.frames or client.ended:
                    break
                try:
                    client.send_bytes(bytes([byte]))
                except OSError:
                    break
                client.receive_more(0.04)

        def rejected_resume(client):
            client.post("resume", username="nobody", epoch=7, secret=b"s" * 16)
            client.expect_error("RESUME_REJECTED")

        for behaviour in (silent, trickle, rejected_resume):
            with Client(broker) as client:
                client.name = behaviour.__name__
                began = time.monotonic()
                behaviour(client)
                client.expect_close("AUTH_TIMEOUT")
                took = time.monotonic() - began
                print(f"     {behaviour.__name__} closed after {took * 1000:.0f} ms (limit 300)")
                check(0.25 < took < 2.0, f"closed after {took:.2f} s")
        with Client(broker) as alice:
            alice.login("alice")
            time.sleep(0.5)  # the deadline is over with the login
            alice.ping()


def scene_bytes_before_login():
    with Broker({"limits.prelogin_bytes": 512}) as broker:

        def login_of(size):
            frame = client_pb.ClientFrame(id=1)
            frame.login.username = "alice"
            while frame.ByteSize() < size:  # the lengths inside grow with the token
                frame.login.token += b"t"
            check_equal(frame.ByteSize(), size, "bytes of the frame made")
            return frame_bytes(frame)

        with Client(broker) as alice:
            alice.name = "the largest login"
            alice.send_bytes(login_of(512))
            alice.expect("welcome", id=1)
            alice.send("alice", b"x" * 2000)  # another limit holds from here on
        with Client(broker) as alice:
            alice.name = "a login one byte larger"
            alice.send_bytes(login_of(513))
            check_equal(
                alice.read_to_end()[-1].close.reason, client_pb.Close.PROTOCOL_ERROR, "reason"
            )
        with Client(broker) as alice:
            alice.name = "the length of a login one byte larger"
            alice.send_bytes(varint(513))  # the length alone is enough to refuse it
            check_equal(
                alice.read_to_end()[-1].close.reason, client_pb.Close.PROTOCOL_ERROR, "reason"
            )


def scene_logout():
    with Broker() as broker, Client(broker) as bob:
        bob.login("bob")
        with Client(broker) as alice:
            welcome = alice.login("alice")
            id = alice.post("logout")
            alice.expect("done", id=id)
            alice.expect_close("LOGGED_OUT")
        bob.post("send", to="alice", payload=b"late")
        bob.expect_error("NOT_ONLINE")
        with Client(broker) as alice:
            alice.name = "alice"
            alice.post("resume", username="alice", epoch=welcome.epoch, secret=welcome.secret)
            alice.expect_error("RESUME_REJECTED")
            again = alice.login("alice")
            check(again.epoch > welcome.epoch, f"epoch {again.epoch} after {welcome.epoch}")
            alice.post("logout", id=0)
            alice.expect_close("LOGGED_OUT")


def scene_vanish_after_login():
    """The connection is reset right behind the bytes of the login: no ghost stays online."""
    with Broker({"session.resume_ms": 300}) as broker:
        backend = Backend(broker)
        for number in range(100):
            client = Client(broker)
            client.post("login", username=f"ghost{number % 10}")
            client.drop()
        time.sleep(0.3)  # until the last of them was read
        eventually(
            lambda: not check_presence(backend.all_events(), first_seq=1),
            "an offline for each online",
        )  # some may not have logged in at all
        check_equal(backend.list_all()[0], [], "ghosts in the map")
        eventually(lambda: broker.descriptors()["socket"] < 20, "closed sockets of gone peers")


if __name__ == "__main__":
    play(
        scene_welcome,
        scene_login_without_id,
        scene_names,
        scene_bad_login_disturbs_nobody,
        scene_second_login_on_a_connection,
        scene_two_logins_in_one_segment,
        scene_request_behind_the_login,
        scene_requests_before_login,
        scene_deadline,
        scene_bytes_before_login,
        scene_logout,
        scene_vanish_after_login,
    )
