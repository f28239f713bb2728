# SPDX-License-Identifier: Apache-2.0
"""Who has just come goes over to another process as he is. And who cannot go: clients by TLS hear that they are to come back, each after a
time of his own, and have missed nothing when they do; whoever does not listen holds nobody up."""

import threading
import time

from usherplay import (
    Backend,
    Client,
    TlsBroker,
    TlsClient,
    check,
    check_equal,
    client_pb,
    eventually,
    play,
    scaled,
)
from usherplay.client import ConnectionEnded
from usherplay.successor import SucceededBroker

CLIENTS = scaled(60, least=6)
SPREAD_MS = 800
UPGRADES = scaled(3, least=2)
PATIENCE_S = 60


class SucceededTlsBroker(SucceededBroker, TlsBroker):
    """With both doors that are behind TLS."""

    def __init__(self, options=None):
        super().__init__(
            {"process.drain_ms": 4 * SPREAD_MS, **(options or {})},
            ws=True,
        )


class Player(threading.Thread):
    """Reads what comes and acknowledges it; is sent away and comes back as it is told to."""

    def __init__(self, broker, name, over):
        super().__init__(daemon=True)
        self.broker, self.name, self.over = broker, name, over
        self.client = TlsClient(broker, over=over)
        self.welcome = self.client.login(name, acks=True)
        self.seq, self.waits, self.returns = 0, [], 0
        self.fault, self.left = None, False
        self.start()

    def run(self):
        try:
            while not self.left:
                frame = self.client.next_frame(0.2)
                if frame is not None:
                    self.take(frame)
        except BaseException as fault:  # pylint: disable=broad-exception-caught
            self.fault = fault

    def take(self, frame):
        kind = frame.WhichOneof("body")
        if kind == "message":
            check_equal(frame.message.seq, self.seq + 1, f"{self.name}: the number")
            check_equal(frame.message.payload, b"%d" % self.seq, f"{self.name}: the payload")
            check(not frame.message.redelivered, f"{self.name}: {frame.message}")
            self.seq += 1
            self.client.post("ack", id=0, seq=self.seq)
        else:
            check_equal(kind, "close", f"{self.name}: what came: {frame}")
            self.come_back(frame.close)

    def come_back(self, close):
        check_equal(close.reason, client_pb.Close.SHUTDOWN, f"{self.name}: the reason")
        check("upgraded" in close.detail, f"{self.name}: {close.detail}")
        check(not close.do_not_return, f"{self.name}: {close}")
        self.client.expect_eof()
        self.client.close()
        self.waits.append(close.retry_after_ms)
        time.sleep(close.retry_after_ms / 1000)
        self.client = TlsClient(self.broker, over=self.over)
        self.welcome = self.client.resume(self.welcome, self.seq, self.name)
        check_equal(self.welcome.replay, client_pb.Welcome.COMPLETE, f"{self.name}: what it says")
        self.returns += 1

    def end(self):
        self.left = True
        self.join(PATIENCE_S)
        check(not self.is_alive(), f"{self.name}: it ends")
        self.client.close()
        if self.fault is not None:
            raise self.fault


def wait_for(players, condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not all(condition(player) for player in players):
        for player in players:
            if player.fault is not None:
                raise player.fault
        check(time.monotonic() < deadline, what)
        time.sleep(0.01)


def scene_they_come_back_and_have_missed_nothing():
    with SucceededTlsBroker() as broker:
        players = [
            Player(broker, f"player{number}", "ws" if number % 2 else "tcp")
            for number in range(CLIENTS)
        ]
        sent = 0
        with Client(broker, over="tcp") as writer:
            writer.login("writer")

            def tell_all():
                for player in players:
                    writer.send(player.name, b"%d" % sent)

            for upgrade in range(UPGRADES):
                tell_all()
                sent += 1
                line = broker.upgrade()
                check_equal((line["left"], line["told"]), (CLIENTS, CLIENTS), "who was told")
                tell_all()  # whoever is away gets it when he is back
                sent += 1
                wait_for(players, lambda it, n=upgrade: it.returns == n + 1, "who comes back")
            wait_for(players, lambda it: it.seq == sent, "all that was sent comes")
        for player in players:
            player.end()
        waits = [wait for player in players for wait in player.waits]
        check(max(waits) < SPREAD_MS, f"the longest wait: {max(waits)} ms")
        check(max(waits) - min(waits) > SPREAD_MS / 8, f"waits: {sorted(waits)}")
        with Backend(broker) as backend:
            kinds = {}
            for event in backend.all_events():
                kinds[event.kind] = kinds.get(event.kind, 0) + 1
        print(f"     waits of {min(waits)} to {max(waits)} ms; events by kind: {kinds}")


def scene_answers_wait_for_them():
    """What they have asked for goes on meanwhile."""
    with SucceededTlsBroker({"process.drain_ms": 0}) as broker:
        with Client(broker, over="tcp") as reader, TlsClient(broker, over="tcp") as asker:
            reader.login("reader", acks=True)
            welcome = asker.login("asker", acks=True)
            waits = asker.post(
                "send", to="reader", payload=b"tell me", until=client_pb.Send.DELIVERED
            )
            seq = reader.expect("message", payload=b"tell me").message.seq
            broker.upgrade()
            close = asker.expect_close("SHUTDOWN")
            check_equal(close.retry_after_ms, 0, "at once, without a drain")
            reader.post("ack", id=0, seq=seq)
            reader.ping()
            with TlsClient(broker, over="tcp") as again:
                again.name = "asker"
                answer = again.resume(welcome, 0, "asker")
                check_equal(answer.replay, client_pb.Welcome.COMPLETE, "what the resume says")
                again.expect("done", id=waits)


def scene_who_does_not_listen():
    """Neither who reads nothing, nor who is in a handshake, nor who says nothing, holds it up."""
    with SucceededTlsBroker() as broker:
        with Client(broker, over="tcp") as writer, TlsClient(
            broker, over="tcp", receive_buffer=4096
        ) as deaf, Client(broker.tls_address, over="tcp") as shaking, TlsClient(
            broker, over="tcp"
        ) as mute:
            writer.login("writer")
            deaf.login("deaf", acks=True)
            shaking.send_bytes(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            for _ in range(5):
                writer.send("deaf", b"x" * 50000)
            writer.ping()
            broker.upgrade()
            writer.ping()
            try:
                close = mute.expect("close").close
                check_equal(close.reason, client_pb.Close.SHUTDOWN, "what a stranger hears")
            except ConnectionEnded:
                raise AssertionError("who had not logged in was told nothing") from None
            shaking.expect_eof()


class Early(Client):
    """Is connected, and has said nothing, when the upgrade comes."""

    def _connect(self):
        super()._connect()
        where = self.where
        if self.header:
            self.socket.sendall(self.header[:9])
        time.sleep(0.1)
        line = where.upgrade()
        check_equal((line["left"], line["connections"]), (0, 1), "who goes")
        if self.header:
            self.socket.sendall(self.header[9:])

    def __init__(self, where, header=b"", **others):
        self.where, self.header = where, header
        super().__init__(where, **others)


class TlsEarly(TlsClient, Early):
    pass


def scene_who_has_just_come():
    """He does not notice it either, and is who he is: by TLS, WebSocket, and behind a proxy."""
    with SucceededTlsBroker(
        {
            "proxy.from": "127.0.0.2",
            "auth.allow_open_network": "true",
            "limits.handshake_deadline_ms": 60000,
            "limits.login_deadline_ms": 60000,
        }
    ) as broker:
        header = b"PROXY TCP4 192.0.2.7 192.0.2.9 4711 7400\r\n"
        for kind, over in ((Early, "tcp"), (Early, "ws"), (TlsEarly, "tcp"), (TlsEarly, "ws")):
            for start in (b"", header):
                name = f"{kind.__name__}{over}{len(start)}".lower()
                with kind(
                    broker, header=start, over=over, source="127.0.0.2" if start else None
                ) as client:
                    client.login(name)
                    client.ping()
                    client.ask("logout")
                line = eventually(
                    lambda: [
                        line for line in broker.log_events("login", True) if line["user"] == name
                    ],
                    "the line of the log",
                )[0]
                check_equal(
                    line["address"].startswith("192.0.2.7:4711" if start else "127.0.0.1:"),
                    True,
                    f"{name} is {line['address']}",
                )
        check_equal(broker.log_events("proxy_failed", every_start=True), [], "lines of the log")


play(
    scene_who_has_just_come,
    scene_they_come_back_and_have_missed_nothing,
    scene_answers_wait_for_them,
    scene_who_does_not_listen,
)
