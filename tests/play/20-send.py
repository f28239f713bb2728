# SPDX-License-Identifier: Apache-2.0
"""Sending: who gets what, in which order, and the one answer that each request has."""

import time

from usherplay import (Broker, Client, check, check_equal, client_pb, frame_bytes, play, scaled)

DELIVERED = client_pb.Send.DELIVERED


def scene_send():
    with Broker() as broker, Client(broker) as alice, Client(broker) as bob:
        alice.login("alice")
        epoch = bob.login("bob").epoch
        check_equal(alice.send("bob", b"hello").epoch, epoch, "Done.epoch, which is the receiver's")
        message = bob.expect("message", id=0, seq=1, payload=b"hello", service="",
                             redelivered=False, **{"from": "alice"}).message
        skew = abs(message.time_ms / 1000 - time.time())
        check(skew < 10, f"time_ms is {skew:.1f} s away from now")
        alice.expect_nothing(0.05)
        check_equal(bob.send("bob", b"note").epoch, epoch, "Done.epoch of a note to oneself")
        bob.expect("message", seq=2, payload=b"note", **{"from": "bob"})
        alice.send("bob", b"")
        bob.expect("message", seq=3, payload=b"")
        every = bytes(range(256)) * 4
        alice.send("bob", every)
        bob.expect("message", seq=4, payload=every)


def scene_refusals_go_on():
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        for name, code in (("nobody", "NOT_ONLINE"), ("a b", "INVALID_NAME"),
                           ("x" * 65, "INVALID_NAME"), ("", "INVALID_NAME"),
                           ("\u00fc", "INVALID_NAME"), ("Alice", "NOT_ONLINE")):
            alice.post("send", to=name, payload=b"x")
            alice.expect_error(code)
            alice.post("send", id=0, to=name, payload=b"x")  # id 0: no answer, success or not
        alice.expect_nothing(0.1)
        alice.ping()


def scene_no_id_no_answer():
    with Broker() as broker, Client(broker) as alice, Client(broker) as bob:
        alice.login("alice")
        bob.login("bob")
        for number in range(100):
            alice.post("send", id=0, to="bob", payload=b"%d" % number)
        for number in range(100):
            bob.expect("message", seq=number + 1, payload=b"%d" % number)
        alice.post("call", id=0, service="none", method="m")
        alice.expect_nothing(0.1)


def scene_ping():
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        for id, stamp in ((7, 1), (0, 2), (0, 0), (2**64 - 1, 2**64 - 1)):
            alice.post("ping", id=id, stamp=stamp)
            pong = alice.expect("pong", id=id, stamp=stamp).pong
            check(abs(pong.time_ms / 1000 - time.time()) < 10, "time_ms is far from now")


def scene_largest_payload():
    with Broker() as broker, Client(broker) as alice, Client(broker) as bob:
        alice.login("alice")
        limit = bob.login("bob").frame_bytes_max
        payload = b"l" * (limit - 200)  # room for the names and numbers of the Message
        for _ in range(20):
            alice.send("bob", payload)
            bob.expect("message", payload=payload)


def exchange(sender, receiver, to, count, window):
    """Sends `count` numbered messages, at most `window` of them unanswered; gives the seconds.
    Each is taken, and arrives, in order, once."""
    began = time.monotonic()
    sent = answered = received = 0
    while answered < count or received < count:
        room = min(count, answered + window) - sent
        if room > 0 and (room >= window // 2 or sent == 0 or count - sent == room):
            sender.send_bytes(b"".join(
                frame_bytes(sender.request("send", to=to, payload=b"%d" % (sent + n)))
                for n in range(room)))
            sent += room
        while sender.frames or (answered < sent and sender.receive_more(0.001)):
            if not sender.frames:
                continue
            frame = sender.next_frame()
            check_equal(frame.WhichOneof("body"), "done", f"the answer to request {frame.id}")
            answered += 1
        while receiver.frames or (received < sent and receiver.receive_more(0.001)):
            if not receiver.frames:
                continue
            receiver.expect("message", payload=b"%d" % received)
            received += 1
        check(time.monotonic() - began < 60, f"stuck: {sent} sent, {answered} answered, "
              f"{received} received")
    return time.monotonic() - began


def scene_order():
    count = scaled(5000, 1000)
    with Broker() as broker, Client(broker) as alice, Client(broker) as bob:
        alice.login("alice")
        bob.login("bob")
        forth = exchange(alice, bob, "bob", count, 500)
        back = exchange(bob, alice, "alice", count, 500)
        bob.expect_nothing(0.05)
        alice.expect_nothing(0.05)
        print(f"     {count} there in {forth:.2f} s, {count} back in {back:.2f} s")


def scene_order_both_ways_without_a_window():
    """Everything at once from both sides. A broker that is short of room may refuse with BUSY;
    what it took arrives once and in order, and nothing is left without an answer."""
    count = scaled(5000, 1000)
    with Broker() as broker, Client(broker) as alice, Client(broker) as bob:
        alice.login("alice")
        bob.login("bob")
        streams = {
            client: b"".join(frame_bytes(client.request("send", to=to, payload=b"%d" % n))
                             for n in range(count))
            for client, to in ((alice, "bob"), (bob, "alice"))
        }
        began = time.monotonic()
        for client, stream in streams.items():
            client.send_bytes(stream)
        taken, refused, arrived = {}, {}, {}
        for client in (alice, bob):
            taken[client], refused[client], arrived[client] = [], [], []
            while len(taken[client]) + len(refused[client]) < count:
                frame = client.next_frame()
                check(frame is not None, "requests without an answer")
                sort_answer(frame, taken[client], refused[client], arrived[client])
        took = time.monotonic() - began
        for receiver, sender in ((alice, bob), (bob, alice)):
            while len(arrived[receiver]) < len(taken[sender]):
                frame = receiver.next_frame()
                check(frame is not None, f"{len(taken[sender])} messages were taken and "
                      f"{len(arrived[receiver])} arrived")
                sort_answer(frame, [], [], arrived[receiver])
            check_equal(arrived[receiver], sorted(taken[sender]), "the messages that arrived")
            receiver.expect_nothing(0.05)
        print(f"     {2 * count} messages in {took:.2f} s, "
              f"{sum(map(len, refused.values()))} refused as BUSY")


def sort_answer(frame, taken, refused, arrived):
    kind = frame.WhichOneof("body")
    if kind == "message":
        check_equal(frame.message.seq, len(arrived) + 1, "seq")
        arrived.append(int(frame.message.payload))
    elif kind == "done":
        taken.append(frame.id - 2)  # id 1 was the login
    else:
        check_equal(kind, "error", "kind of the answer")
        check(frame.error.code in (client_pb.Error.BUSY, client_pb.Error.INBOX_FULL),
              f"refused with {client_pb.Error.Code.Name(frame.error.code)}")
        refused.append(frame.id - 2)


def scene_many_senders():
    """Each sender's messages stay in order; the receiver's seq has no gap over all of them."""
    senders, each = 20, scaled(100, 20)
    # All of them may be read before bob's turn comes: more than the default lets wait for one user.
    with Broker({"limits.mailbox_messages": 4096}) as broker, Client(broker) as bob:
        bob.login("bob")
        clients = []
        for number in range(senders):
            client = Client(broker)
            client.login(f"sender{number}")
            clients.append(client)
        for client in clients:
            client.send_bytes(b"".join(
                frame_bytes(client.request("send", 0, to="bob", payload=b"%d" % n))
                for n in range(each)))
        following = dict.fromkeys((client.name for client in clients), 0)
        for seq in range(1, senders * each + 1):
            message = bob.expect("message", seq=seq).message
            sender = getattr(message, "from")
            check_equal(int(message.payload), following[sender], f"the next message of {sender}")
            following[sender] += 1
        for client in clients:
            client.drop()


def scene_acknowledge():
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        with Client(broker) as bob:
            bob.login("bob", acks=True)
            for number in range(5):
                alice.send("bob", b"%d" % number)
            bob.messages(5)
            for seq in (3, 1, 0, 3, 5, 5, 2):  # lower than before is ignored
                bob.post("ack", id=0, seq=seq)
            bob.ping()
            id = bob.post("ack", seq=5)  # with an id it is answered like any request
            bob.expect("done", id=id)
        for beyond in (6, 7, 1 << 32, (1 << 64) - 1):
            with Client(broker) as bob:
                bob.login("bob", acks=True)
                for number in range(5):
                    alice.send("bob", b"%d" % number)
                bob.messages(5)
                bob.post("ack", seq=5, id=0)
                bob.post("ack", seq=beyond)
                bob.expect_error("PROTOCOL")
                bob.expect_close("PROTOCOL_ERROR")


def scene_until_delivered():
    with Broker() as broker, Client(broker) as alice, Client(broker) as bob:
        alice.login("alice")
        bob.login("bob", acks=True)
        ids = [alice.post("send", to="bob", payload=b"x", until=DELIVERED) for _ in range(3)]
        bob.messages(3)
        alice.expect_nothing(0.1)
        bob.post("ack", id=0, seq=2)
        check_equal(sorted(alice.expect("done").id for _ in range(2)), ids[:2], "delivered")
        alice.expect_nothing(0.1)
        bob.post("ack", id=0, seq=3)
        alice.expect("done", id=ids[2])
        with Client(broker) as carol:  # without acks: handed to the socket is delivered
            carol.login("carol")
            alice.send("carol", b"y", until=DELIVERED)
            carol.messages(1)
        id = alice.post("send", to="bob", payload=b"z", until=DELIVERED)
        bob.messages(1)
        bob.post("logout")
        frame = alice.answer_to(id)
        check_equal(frame.error.code, client_pb.Error.UNDELIVERED, "given up by a logout")


def scene_id_in_flight():
    with Broker() as broker, Client(broker) as alice, Client(broker) as bob:
        alice.login("alice")
        bob.login("bob", acks=True)
        alice.post("send", id=77, to="bob", until=DELIVERED)
        bob.messages(1)
        alice.post("send", id=77, to="bob", until=DELIVERED)
        alice.expect_error("PROTOCOL", id=77)
        alice.expect_close("PROTOCOL_ERROR")
    for kind in ("ping", "ack", "logout"):  # whatever the second one is
        with Broker() as broker, Client(broker) as alice, Client(broker) as bob:
            alice.login("alice")
            bob.login("bob", acks=True)
            alice.post("send", id=77, to="bob", until=DELIVERED)
            bob.messages(1)
            alice.post(kind, id=77)
            alice.expect_error("PROTOCOL", id=77)
            alice.expect_close("PROTOCOL_ERROR")
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        for _ in range(3):  # an id is free again once it is answered
            alice.post("send", id=77, to="alice", payload=b"x")
            check_equal(alice.answer_to(77).WhichOneof("body"), "done", "answer")


if __name__ == "__main__":
    play(scene_send, scene_refusals_go_on, scene_no_id_no_answer, scene_ping,
         scene_largest_payload, scene_order, scene_order_both_ways_without_a_window,
         scene_many_senders, scene_acknowledge, scene_until_delivered, scene_id_in_flight)
