# SPDX-License-Identifier: Apache-2.0
"""The rules over histories of clients, and the relay: each must be able to fail."""

import socket
import threading
import time

from usherplay import (
    ConnectionEnded,
    Failed,
    check,
    check_equal,
    client_pb,
    eventually,
    frame_bytes,
    play,
)
from usherplay.client import Client, Crowd, Witness
from usherplay.friends_history import check_friends, rule_f1, rule_f2, rule_f3
from usherplay.history import (
    History,
    check_history,
    rule_a1,
    rule_a2,
    rule_a3,
    rule_a4,
    rule_a5,
    rule_answers,
    rule_c1,
    rule_c2,
    rule_d,
    rule_resume,
)
from usherplay.relay import Plan, Relay


def told(*lines):
    """A history of rows (kind, connection, user, fields)."""
    history = History()
    for kind, connection, user, fields in lines:
        history.add(kind, connection, user, **fields)
    return history


def row(kind, connection=0, user="", **fields):
    return kind, connection, user, fields


GOOD = (
    row("login", 9, "bob", id=1),
    row("welcome", 9, "bob", id=1, epoch=1, seq=1, word="FRESH"),
    row("login", 1, "alice", id=1, flag=True),
    row("welcome", 1, "alice", id=1, epoch=5, seq=1, word="FRESH"),  # 3
    row("send", 9, "bob", id=2, peer="alice", number=0, flag=True),
    row("message", 1, "alice", seq=1, peer="bob", number=0),
    row("answer", 9, "bob", id=2, word="done", epoch=5),  # 6
    row("send", 9, "bob", id=3, peer="alice", number=1),
    row("answer", 9, "bob", id=3, word="done", epoch=5),
    row("message", 1, "alice", seq=2, peer="bob", number=1),  # 9
    row("resume", 2, "alice", id=2, epoch=5, seq=1),
    row("welcome", 2, "alice", id=2, epoch=5, seq=2, word="COMPLETE"),  # 11
    row("message", 2, "alice", seq=2, peer="bob", number=1, flag=True),
    row("close", 1, "alice", word="STALE_SESSION"),  # 13
    row("send", 9, "bob", id=4, peer="alice", number=2),
    row("answer", 9, "bob", id=4, word="INBOX_FULL"),  # 15
    row("send", 9, "bob", id=5, peer="alice", number=3),
    row("answer", 9, "bob", id=5, word="done", epoch=5),
    row("login", 3, "alice", id=1, flag=True),
    row("welcome", 3, "alice", id=1, epoch=6, seq=1, word="FRESH"),  # 19
    row("close", 2, "alice", word="REPLACED"),
    row("message", 3, "alice", seq=1, peer="bob", number=1, flag=True),
    row("message", 3, "alice", seq=2, peer="bob", number=3, flag=True),  # 22
    row("send", 9, "bob", id=6, peer="alice", number=4),
    row("answer", 9, "bob", id=6, word="done", epoch=6),
    row("message", 3, "alice", seq=3, peer="bob", number=4),  # 25
    row("quiet"),
    row("ping", 3, "alice", id=2),
    row("answer", 3, "alice", id=2, word="pong"),  # 28
    row("ping", 9, "bob", id=7),
    row("answer", 9, "bob", id=7, word="pong"),
)

# rule, what is planted, which row, by what it is replaced (None: it goes; +: added behind it)
PLANTED = (
    (rule_a1, "an epoch for two logins", 19, row("welcome", 3, "alice", id=1, epoch=5, seq=1)),
    (rule_a1, "an epoch of another user", 19, row("welcome", 3, "alice", id=1, epoch=1, seq=1)),
    (
        rule_a1,
        "a resume into another epoch",
        11,
        row("welcome", 2, "alice", id=2, epoch=7, seq=2, word="COMPLETE"),
    ),
    (
        rule_a2,
        "a replaced connection is served",
        25,
        row("ping", 1, "alice", id=8),
        row("answer", 1, "alice", id=8, word="pong"),
    ),
    (
        rule_a2,
        "a connection is served after its session was resumed elsewhere",
        12,
        row("send", 1, "alice", id=8, peer="bob", number=0),
        row("answer", 1, "alice", id=8, word="done"),
    ),
    (
        rule_a2,
        "what a replaced connection sends arrives",
        25,
        row("send", 1, "alice", peer="bob", number=8),
        row("message", 9, "bob", seq=1, peer="alice", number=8),
    ),
    (
        rule_a3,
        "a later login has a lower epoch",
        19,
        row("welcome", 3, "alice", id=1, epoch=4, seq=1, word="FRESH"),
    ),
    (rule_a4, "the survivor does not answer", 28, None),
    (rule_a4, "an old connection stays open", 20, None),
    (rule_a4, "an older session survives", 28, row("answer", 2, "alice", id=2, word="pong")),
    (rule_a4, "a login hangs", 25, row("login", 4, "alice", id=1)),
    (rule_a4, "no quiet end", 26, None),
    (
        rule_a5,
        "a message goes to the old epoch",
        25,
        row("message", 2, "alice", seq=3, peer="bob", number=4),
    ),
    (
        rule_a5,
        "a message goes to the old connection of the epoch",
        17,
        row("message", 1, "alice", seq=3, peer="bob", number=3),
    ),
    (rule_c1, "a gap in seq", 9, row("message", 1, "alice", seq=3, peer="bob", number=1)),
    (rule_c1, "a double in seq", 9, row("message", 1, "alice", seq=1, peer="bob", number=1)),
    (
        rule_c1,
        "another message under its seq",
        12,
        row("message", 2, "alice", seq=2, peer="bob", number=3),
    ),
    (
        rule_c1,
        "a copy without its mark",
        21,
        row("message", 3, "alice", seq=1, peer="bob", number=1),
    ),
    (
        rule_c1,
        "twice in one session",
        25,
        row("message", 3, "alice", seq=3, peer="bob", number=3, flag=True),
    ),
    (rule_c1, "the order of a pair", 25, row("message", 3, "alice", seq=3, peer="bob", number=2)),
    (rule_c2, "an accepted message is lost", 25, None),
    (
        rule_c2,
        "a message that was reported delivered is lost",
        5,
        row("message", 1, "alice", seq=1, peer="bob", number=77),
    ),
    (
        rule_c2,
        "reported delivered too early",
        4,
        row("send", 9, "bob", id=2, peer="alice", number=0, flag=True),
        row("answer", 9, "bob", id=2, word="done", epoch=5),
    ),
    (
        rule_c2,
        "a refused message arrives",
        25,
        row("message", 3, "alice", seq=3, peer="bob", number=2),
    ),
    (
        rule_c2,
        "an invented message",
        25,
        row("message", 3, "alice", seq=3, peer="bob", number=4),
        row("message", 3, "alice", seq=4, peer="bob", number=5),
    ),
    (
        rule_answers,
        "two answers",
        28,
        row("answer", 3, "alice", id=2, word="pong"),
        row("answer", 3, "alice", id=2, word="pong"),
    ),
    (rule_answers, "no answer", 24, None),
    (rule_answers, "an answer to nothing", 24, row("answer", 9, "bob", id=66, word="done")),
    (rule_answers, "an answer of another kind", 24, row("answer", 9, "bob", id=6, word="pong")),
    (rule_d, "called offline", 24, row("answer", 9, "bob", id=6, word="NOT_ONLINE")),
    (
        rule_resume,
        "COMPLETE with a gap",
        11,
        row("welcome", 2, "alice", id=2, epoch=5, seq=3, word="COMPLETE"),
    ),
    (
        rule_resume,
        "COMPLETE with an overlap",
        11,
        row("welcome", 2, "alice", id=2, epoch=5, seq=1, word="COMPLETE"),
    ),
    (
        rule_resume,
        "PARTIAL that goes back",
        11,
        row("welcome", 2, "alice", id=2, epoch=5, seq=1, word="PARTIAL"),
    ),
    (
        rule_resume,
        "a FRESH resume",
        11,
        row("welcome", 2, "alice", id=2, epoch=5, seq=2, word="FRESH"),
    ),
    (
        rule_resume,
        "a login that is not FRESH",
        19,
        row("welcome", 3, "alice", id=1, epoch=6, seq=1, word="COMPLETE"),
    ),
)


def scene_client_rules():
    counts = check_history(told(*GOOD))
    check_equal(
        counts,
        {
            "accepted": 4,
            "delivered": 4,
            "refused": 1,
            "reported": 0,
            "lost": 0,
            "unknown": 0,
            "COMPLETE": 1,
            "PARTIAL": 0,
        },
        "the counts",
    )
    for rule, what, place, *instead in PLANTED:
        lines = GOOD[:place] + tuple(line for line in instead if line) + GOOD[place + 1 :]
        if instead[0] is not None and instead[0][0] != GOOD[place][0]:  # added, nothing replaced
            lines = GOOD[: place + 1] + tuple(instead) + GOOD[place + 1 :]
        try:
            rule(told(*lines))
        except Failed as error:
            check(
                str(error)[:2] in (rule.__name__[-2:].upper(), "P5", "P6", "D:"),
                f"{what}: found as something else: {error}",
            )
            continue
        raise Failed(f"{rule.__name__}: {what} was not found")
    rules = {rule for rule, *_ in PLANTED}
    print(f"     {len(PLANTED)} planted faults, each found; {len(rules)} rules")


def scene_what_is_no_fault():
    """What the broker may do, so that the rules do not cry."""
    gone = GOOD[:18] + (row("gone", user="alice"), row("end", 2, "alice")) + GOOD[26:27] + GOOD[29:]
    check_equal(check_history(told(*gone))["lost"], 1, "what a session that was ended gave up")
    # A request of before the takeover may still be answered behind it.
    late = (
        GOOD[:18]
        + (row("ping", 2, "alice", id=5),)
        + GOOD[18:20]
        + (row("answer", 2, "alice", id=5, word="pong"),)
        + GOOD[20:]
    )
    check_history(told(*late))
    # A message that was sent before the takeover may arrive at either.
    check_history(
        told(*(GOOD[:17] + (row("message", 2, "alice", seq=3, peer="bob", number=3),) + GOOD[17:]))
    )
    # Whoever does not acknowledge may lose what was on the way, and only that.
    plain = [
        (kind, connection, user, {**fields, "flag": False} if kind == "login" else fields)
        for kind, connection, user, fields in GOOD[:25] + GOOD[26:]
    ]
    check_equal(check_history(told(*plain))["lost"], 1, "lost without acks")


FRIENDS = (
    row("granted", 0, "ann", peer="bob"),
    row("picture", 1, "ann"),
    row("shown", 1, "ann", peer="bob", word="OFFLINE", flag=True),
    row("event", 0, "bob", word="ONLINE", epoch=3),
    row("shown", 1, "ann", peer="bob", word="ONLINE"),  # 4
    row("granted", 0, "ann", peer="cid"),
    row("picture", 1, "ann"),  # 6
    row("shown", 1, "ann", peer="bob", word="ONLINE", flag=True),
    row("shown", 1, "ann", peer="cid", word="OFFLINE", flag=True),  # 8
    row("event", 0, "bob", word="DETACHED", epoch=3),
    row("event", 0, "bob", word="OFFLINE", epoch=3),
    row("shown", 1, "ann", peer="bob", word="OFFLINE"),  # 11
    row("picture", 1, "ann"),
    row("shown", 1, "ann", peer="cid", word="OFFLINE", flag=True),
    row("revoked", 0, "ann", peer="bob"),  # 14
    row("event", 0, "bob", word="ONLINE", epoch=4),
    row("event", 0, "cid", word="ONLINE", epoch=5),
    row("shown", 1, "ann", peer="cid", word="ONLINE"),  # 17
    row("quiet"),
)

# rule, what is planted, behind which row it is put, or which one it replaces
FRIENDS_PLANTED = (
    (rule_f1, "an early tick was forgotten, and a change with it", 17, True),
    (rule_f1, "the stream's last word is another", 16, row("event", 0, "cid", word="OFFLINE")),
    (rule_f1, "a target is in no picture", 14, row("granted", 0, "ann", peer="dan")),
    (rule_f1, "a revoke is lost: he is in the picture", 13, row("shown", 1, "ann", peer="bob")),
    (rule_f1, "no quiet end", 18, True),
    (rule_f2, "an event before the snapshot", 0, row("shown", 1, "ann", peer="bob", word="ONLINE")),
    (
        rule_f2,
        "an event before the snapshot that names him",
        4,
        row("shown", 1, "ann", peer="cid", word="ONLINE"),
    ),
    (rule_f2, "twice the same", 4, row("shown", 1, "ann", peer="bob", word="ONLINE")),
    (rule_f3, "a revoke is lost", 14, row("shown", 1, "ann", peer="bob", word="ONLINE")),
    (rule_f3, "nobody granted him", 8, row("shown", 1, "ann", peer="dan", word="ONLINE")),
    (rule_f3, "shown before it was granted", 4, row("shown", 1, "ann", peer="cid", word="ONLINE")),
)


def scene_friends_rules():
    check_friends(told(*FRIENDS))
    for rule, what, place, planted in FRIENDS_PLANTED:
        instead = () if planted is True else (FRIENDS[place], planted)
        try:
            rule(told(*FRIENDS[:place], *instead, *FRIENDS[place + 1 :]))
        except Failed as error:
            check(str(error)[:2] == rule.__name__[-2:].upper(), f"{what}: found as {error}")
            continue
        raise Failed(f"{rule.__name__}: {what} was not found")
    print(f"     {len(FRIENDS_PLANTED)} planted faults, each found")


class Server:
    """A peer behind the relay that shows what arrives and how it ends."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()

    def accept(self):
        peer, _ = self.listener.accept()
        peer.settimeout(5)
        return peer

    def close(self):
        self.listener.close()


def read_all(peer):
    """(bytes, how it ended)"""
    data = b""
    try:
        while part := peer.recv(65536):
            data += part
        return data, "FIN"
    except ConnectionResetError:
        return data, "RST"


def through(relay, server, plan):
    client = relay.connect(lambda: Client(relay), plan)
    return client, server.accept()


def scene_relay():
    server = Server()
    with Relay(server.address) as relay:
        client, peer = through(relay, server, Plan())
        blob = bytes(range(256)) * 4000
        threading.Thread(target=client.socket.sendall, args=(blob,), daemon=True).start()
        got = b""
        while len(got) < len(blob):
            got += peer.recv(65536)
        check(got == blob, "the bytes are not the same")
        peer.sendall(b"back")
        check_equal(client.socket.recv(100), b"back", "the way back")
        client.close()
        check_equal(read_all(peer), (b"", "FIN"), "an end")
        client, peer = through(relay, server, Plan())
        client.drop()
        check_equal(read_all(peer), (b"", "RST"), "a reset")
        for how in ("FIN", "RST"):
            for cut in (0, 1, 5, 9):
                client, peer = through(relay, server, Plan(cut_up=cut, cut_how=how))
                try:
                    client.socket.sendall(b"123456789")
                except OSError:
                    pass
                data, end = read_all(peer)
                check_equal((data, end), (b"123456789"[:cut], how), f"cut_up {cut} by {how}")
                client, peer = through(relay, server, Plan(cut_down=cut, cut_how=how))
                try:
                    peer.sendall(b"123456789")
                except OSError:
                    pass
                client.socket.settimeout(5)
                check_equal(
                    read_all(client.socket), (b"123456789"[:cut], how), f"cut_down {cut} by {how}"
                )
    server.close()


def scene_relay_in_time():
    server = Server()
    with Relay(server.address) as relay:
        began = time.monotonic()
        client, peer = through(relay, server, Plan(delay_up=0.2, delay_down=0.1))
        client.socket.sendall(b"a")
        check_equal(peer.recv(10), b"a", "a delayed byte")
        check(time.monotonic() - began >= 0.2, "the byte was not delayed")
        client.socket.sendall(b"b")
        client.close()  # an end does not overtake what was sent before it
        check_equal(read_all(peer), (b"b", "FIN"), "what came before the end")
        began = time.monotonic()
        client, peer = through(relay, server, Plan(hold_end=0.3))
        client.socket.sendall(b"c")
        client.drop()
        check_equal(read_all(peer), (b"c", "RST"), "what came before the held end")
        check(time.monotonic() - began >= 0.3, "the end was not held back")
        client, peer = through(relay, server, Plan())
        client.pipe.pause()
        eventually(lambda: client.pipe.paused, "paused")
        client.socket.sendall(b"d")
        client.close()
        peer.settimeout(0.2)
        try:
            check(False, f"a paused pipe passed {peer.recv(10)!r}")
        except TimeoutError:
            pass
        peer.settimeout(5)
        client.pipe.go_on()
        check_equal(read_all(peer), (b"d", "FIN"), "what waited")
        client, peer = through(relay, server, Plan())
        client.pipe.cut()
        check_equal(read_all(peer), (b"", "RST"), "a cut")
        check_equal(read_all(client.socket), (b"", "RST"), "the other side of it")
    server.close()


def scene_witness():
    """What is recorded is what was sent and seen, in that order."""
    server, history = Server(), History()
    client = Witness(server.address, history)
    peer = server.accept()
    client.post("login", username="alice", acks=True)
    welcome = client_pb.BrokerFrame(id=1, welcome=client_pb.Welcome(epoch=7, next_seq=1))
    message = client_pb.Message(seq=1, payload=b"12 rest", redelivered=True, **{"from": "bob"})
    peer.sendall(frame_bytes(welcome) + frame_bytes(client_pb.BrokerFrame(message=message)))
    client.expect("welcome")
    client.expect("message")
    client.send_frames([client.request("send", to="bob", payload=b"3"), client.request("ping")])
    refusal = client_pb.Error(code=client_pb.Error.NOT_ONLINE)
    peer.sendall(frame_bytes(client_pb.BrokerFrame(id=2, error=refusal)))
    with Crowd([client]) as crowd:
        crowd.until(lambda: client.frames, "the answer")
        check_equal([frame.id for frame in client.take("error")], [2], "what is taken")
        peer.close()
        crowd.until(lambda: not crowd.clients(), "the end")
    got = [str(entry).split(": ")[1] for entry in history.numbered()]
    check_equal(
        got,
        [
            "alice/1 login id=1 flag=True",
            "alice/1 welcome id=1 epoch=7 seq=1 word=FRESH",
            "alice/1 message seq=1 peer=bob flag=True number=12",
            "alice/1 send id=2 peer=bob number=3",
            "alice/1 ping id=3",
            "alice/1 answer id=2 word=NOT_ONLINE",
            "alice/1 end",
        ],
        "the history",
    )
    try:
        client.expect("pong")
    except ConnectionEnded:
        pass
    server.close()


if __name__ == "__main__":
    play(
        scene_client_rules,
        scene_what_is_no_fault,
        scene_friends_rules,
        scene_relay,
        scene_relay_in_time,
        scene_witness,
    )
