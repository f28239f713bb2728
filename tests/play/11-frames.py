# SPDX-License-Identifier: Apache-2.0
"""Frames: cut anywhere, joined in any way, and everything that is not one."""

import socket
import time

from usherplay import (
    Broker,
    Client,
    check,
    check_equal,
    client_pb,
    eventually,
    frame_bytes,
    play,
    scaled,
    seed,
    varint,
)

PAUSE = 0.0008  # enough for the halves to be read apart, most times


def send_split(client, data, place):
    client.send_bytes(data[:place])
    time.sleep(PAUSE)
    client.send_bytes(data[place:])


def scene_every_split():
    """Every message, cut at every byte, has the outcome that it has in one piece."""
    cases = 0
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        requests = [
            ("ping", {"stamp": 1 << 40}, "pong"),
            ("send", {"to": "alice", "payload": b"payload"}, "done"),
            ("send", {"to": "nobody", "payload": b"x" * 200}, "error"),
            ("call", {"service": "none", "method": "m", "payload": b"p"}, "error"),
        ]
        for kind, fields, answer in requests:
            size = len(frame_bytes(alice.request(kind, **fields)))
            for place in range(1, size):
                frame = alice.request(kind, **fields)
                send_split(alice, frame_bytes(frame), place)
                got = alice.answer_to(frame.id)
                check_equal(got.WhichOneof("body"), answer, f"{kind} cut at {place}")
                cases += 1
            while alice.frames or alice.receive_more(0.02):  # the messages to herself
                alice.frames.clear()
            alice.post("ack", id=0, seq=0)
        cases += split_logins(broker)
        alice.ping()
    print(f"     {cases} cuts")


def split_logins(broker):
    def one(data, place):
        client = Client(broker)
        client.name = "bob"
        send_split(client, data, place)
        return client

    login = client_pb.ClientFrame(id=1)
    login.login.username = "bob"
    size = len(frame_bytes(login))
    welcome = None
    for place in range(1, size):
        client = one(frame_bytes(login), place)
        welcome = client.expect("welcome", id=1).welcome
        client.drop()
    resume = client_pb.ClientFrame(id=1)
    resume.resume.username = "bob"
    resume.resume.epoch = welcome.epoch
    resume.resume.secret = welcome.secret
    more = len(frame_bytes(resume))
    for place in range(1, more):
        client = one(frame_bytes(resume), place)
        check_equal(client.expect("welcome", id=1).welcome.epoch, welcome.epoch, "resumed epoch")
        client.drop()
    # The cut may lie behind the login, in the first request.
    both = frame_bytes(login)
    with Client(broker) as client:
        client.name = "bob"
        client.send_bytes(both)
        client.expect("welcome", id=1)
        data = frame_bytes(client_pb.ClientFrame(id=2, logout=client_pb.Logout()))
        send_split(client, data, len(data) - 1)
        client.expect("done", id=2)
        client.expect_close("LOGGED_OUT")
    return size + more - 1


def scene_one_byte_writes():
    with Broker() as broker, Client(broker) as alice:
        alice.name = "alice"
        stream = frame_bytes(alice.request("login", username="alice"))
        for byte in stream:
            alice.send_bytes(bytes([byte]))
        alice.expect("welcome", id=1)
        stream = b"".join(frame_bytes(alice.request("ping", stamp=n)) for n in range(20))
        for byte in stream:
            alice.send_bytes(bytes([byte]))
        for n in range(20):
            alice.expect("pong", id=n + 2, stamp=n)


def scene_many_in_one_segment():
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        count = 500
        stream = b"".join(frame_bytes(alice.request("ping", stamp=n)) for n in range(count))
        alice.send_bytes(stream)
        for n in range(count):
            alice.expect("pong", id=n + 2, stamp=n)


def scene_frames_without_a_body():
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        alice.send_bytes(b"\0" * 10)  # ten frames of length 0: id 0, so no answer
        alice.send_bytes(frame_bytes(b"\x08\x00"))
        alice.expect_nothing(0.1)
        alice.ping()
        id = alice.last_id = alice.last_id + 1
        alice.send_bytes(frame_bytes(b"\x08" + varint(id)))
        alice.expect_error("PROTOCOL", id=id)
        alice.ping()


def scene_unknown_fields():
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        unknown_bodies = [
            b"\x7a\x03abc",
            b"\x7a\x00",
            b"\x78\x05",
            b"\xfa\x3f\x01x",
            b"\x7d\x01\x02\x03\x04",
            b"\x79\1\2\3\4\5\6\7\x08",
        ]
        for body in unknown_bodies:
            id = alice.last_id = alice.last_id + 1
            alice.send_bytes(frame_bytes(b"\x08" + varint(id) + body))
            alice.expect_error("PROTOCOL", id=id)
        for extra in unknown_bodies:  # beside a known body they do not matter, wherever they are
            frame = alice.request("ping", stamp=5)
            alice.send_bytes(frame_bytes(frame.SerializeToString() + extra))
            alice.expect("pong", id=frame.id, stamp=5)
            frame = alice.request("ping", stamp=6)
            alice.send_bytes(frame_bytes(extra + frame.SerializeToString()))
            alice.expect("pong", id=frame.id, stamp=6)
            id = alice.last_id = alice.last_id + 1
            inner = b"\x08\x07" + extra
            alice.send_bytes(
                frame_bytes(b"\x08" + varint(id) + b"\x3a" + varint(len(inner)) + inner)
            )
            alice.expect("pong", id=id, stamp=7)


def scene_last_one_counts():
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        # id twice; stamp twice; the fields in any order
        alice.send_bytes(frame_bytes(b"\x08\x63\x3a\x04\x08\x01\x08\x02\x08\x0a"))
        alice.expect("pong", id=10, stamp=2)
        # two different bodies: the last one is the body
        send = client_pb.ClientFrame(send=client_pb.Send(to="alice")).SerializeToString()
        alice.send_bytes(frame_bytes(b"\x08\x0b" + send + b"\x3a\x02\x08\x04"))
        alice.expect("pong", id=11, stamp=4)
        alice.expect_nothing(0.1)
        # the receiver twice
        alice.send_bytes(frame_bytes(b"\x08\x0c\x22\x0f\x0a\x06nobody\x0a\x05alice"))
        alice.answer_to(12)
        alice.expect("message", **{"from": "alice"})


def scene_broken():
    """Each ends the connection with Close(PROTOCOL_ERROR) and harms nobody else."""
    broken = {
        "a length of six bytes": b"\x80\x80\x80\x80\x80\x01",
        "a length of ten bytes": b"\xff" * 9 + b"\x01",
        "a length that never ends": b"\xff" * 32,
        "a length of 2^31": varint(1 << 31),
        "a length of 2^31 - 1": varint((1 << 31) - 1),
        "a length of 2^32 - 1": varint((1 << 32) - 1),
        "a length of 2^35 - 1": b"\xff\xff\xff\xff\x7f",
        "a cut varint": frame_bytes(b"\x08"),
        "a cut body": frame_bytes(b"\x08\x01\x3a\x7f\x08\x01"),
        "a field number 0": frame_bytes(b"\x00\x01"),
        "wire type 7": frame_bytes(b"\x0f\x01"),
        "an id as text": frame_bytes(b"\x0a\x01x"),
        "an id of eleven bytes": frame_bytes(b"\x08" + b"\xff" * 10 + b"\x01"),
        "a ping as a number": frame_bytes(b"\x38\x01"),
        "a stamp as fixed64": frame_bytes(b"\x08\x01\x3a\x09\x09" + b"\1" * 8),
        "a stamp as text": frame_bytes(b"\x08\x01\x3a\x03\x0a\x01x"),
        "a receiver with a NUL": frame_bytes(b"\x08\x01\x22\x05\x0a\x03a\0b"),
        "a receiver not UTF-8": frame_bytes(b"\x08\x01\x22\x05\x0a\x03a\xff\xff"),
        "a service with a NUL": frame_bytes(b"\x08\x01\x2a\x05\x0a\x03a\0b"),
        "a method not UTF-8": frame_bytes(b"\x08\x01\x2a\x04\x12\x02\xc3\x28"),
        "random text": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 4,
    }
    with Broker() as broker, Client(broker) as control:
        control.login("control")
        for what, data in broken.items():
            with Client(broker) as client:
                client.login("alice")
                client.name = what
                client.send_bytes(data)
                frames = client.read_to_end()
                check(
                    frames and frames[-1].WhichOneof("body") == "close",
                    f"{what}: no Close before the end, but {frames}",
                )
                check_equal(
                    frames[-1].close.reason, client_pb.Close.PROTOCOL_ERROR, f"{what}: reason"
                )
                # The text may say GET in a way that is a frame of an unknown body first.
                check(
                    all(frame.WhichOneof("body") == "error" for frame in frames[:-1]),
                    f"{what}: answered {frames}",
                )
            control.ping()


def ping_of_size(client, size):
    """A Ping with an unknown field that pads the frame to exactly that size."""
    frame = client.request("ping", stamp=9)
    body = frame.SerializeToString()
    pad = size - len(body) - 2  # tag of two bytes, then the length
    for bytes_of_length in (1, 2, 3):
        if len(varint(pad - bytes_of_length)) == bytes_of_length:
            body += b"\xfa\x3f" + varint(pad - bytes_of_length) + b"p" * (pad - bytes_of_length)
            break
    check_equal(len(body), size, "bytes of the frame made")
    return frame.id, frame_bytes(body)


def scene_frame_limit():
    for limit in (1024, 65536, 200000):
        with Broker({"limits.frame_bytes": limit}) as broker, Client(broker) as alice:
            check_equal(alice.login("alice").frame_bytes_max, limit, "frame_bytes_max")
            for size in (limit - 1, limit):
                id, data = ping_of_size(alice, size)
                alice.send_bytes(data)
                alice.expect("pong", id=id)
            _, data = ping_of_size(alice, limit + 1)
            try:
                alice.send_bytes(data)
            except OSError:
                pass  # refused by its length before the rest was written
            frames = alice.read_to_end()
            # A reset may have eaten the Close when the rest of the frame was still on its way.
            if frames:
                check_equal(frames[-1].close.reason, client_pb.Close.PROTOCOL_ERROR, "reason")
        with Broker({"limits.frame_bytes": limit}) as broker, Client(broker) as alice:
            alice.login("alice")
            alice.send_bytes(varint(limit + 1))  # the length alone is refused, and said so
            alice.expect_close("PROTOCOL_ERROR")


def scene_held_frames():
    """A frame that never ends holds only itself up."""
    with Broker({"session.heartbeat_ms": 60000}) as broker, Client(broker) as control:
        control.login("control")
        held = []
        for number in range(50):
            client = Client(broker)
            client.login(f"held{number}")
            client.send_bytes(varint(60000) + b"x" * 59999)
            held.append(client)
        worst = max(control.ping() for _ in range(50))
        print(f"     worst ping beside 50 held frames: {worst * 1000:.1f} ms")
        for client in held:
            client.expect_nothing(0)
            client.drop()
        control.ping()


def scene_half_close():
    """Whoever has said everything may shut his side: answers come, then the end; nothing spins."""
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        alice.send_bytes(b"".join(frame_bytes(alice.request("ping", stamp=n)) for n in range(50)))
        alice.socket.shutdown(socket.SHUT_WR)
        stamps = [
            frame.pong.stamp for frame in alice.read_to_end() if frame.WhichOneof("body") == "pong"
        ]
        check_equal(stamps, list(range(len(stamps))), "the pongs before the end")
        before = broker.cpu_seconds()
        time.sleep(0.5)
        used = broker.cpu_seconds() - before
        print(f"     {len(stamps)} of 50 answers, then {used * 1000:.0f} ms CPU in 500 ms")
        check(used < 0.25, f"an idle broker used {used:.2f} s CPU in 0.5 s")


def scene_garbage():
    """Random and mutated bytes from many connections, before and after login."""
    random = seed()
    rounds = scaled(300, 50)
    with Broker() as broker, Client(broker) as control:
        control.login("control")
        worst = 0.0
        good = b"".join(
            frame_bytes(frame)
            for frame in (
                control.request("ping", 1, stamp=3),
                control.request("send", 2, to="garbage"),
                control.request("call", 3, service="s"),
                control.request("ack", 4, seq=0),
            )
        )
        open_clients = []
        for number in range(rounds):
            client = Client(broker)
            if number % 3:
                client.login(f"garbage{number % 20}")
            if number % 2:
                data = bytearray(good * 3)
                for _ in range(random.randrange(1, 8)):
                    data[random.randrange(len(data))] = random.randrange(256)
            else:
                data = random.randbytes(random.choice((1, 5, 100, 3000)))
            try:
                client.send_bytes(bytes(data))
            except OSError:
                pass
            open_clients.append(client)
            if len(open_clients) > 20:
                open_clients.pop(random.randrange(20)).drop()
            if number % 10 == 0:
                worst = max(worst, control.ping())
        for client in open_clients:
            client.drop()
        worst = max(worst, control.ping())
        control.expect_nothing(0.05)
        broker.check_alive()
        sockets = eventually(
            lambda: broker.descriptors()["socket"] < 20 and broker.descriptors()["socket"],
            "closed sockets of gone peers",
        )
        print(
            f"     {rounds} connections, worst ping of a bystander {worst * 1000:.1f} ms, "
            f"{sockets} sockets left open"
        )


if __name__ == "__main__":
    play(
        scene_every_split,
        scene_one_byte_writes,
        scene_many_in_one_segment,
        scene_frames_without_a_body,
        scene_unknown_fields,
        scene_last_one_counts,
        scene_broken,
        scene_frame_limit,
        scene_held_frames,
        scene_half_close,
        scene_garbage,
    )
