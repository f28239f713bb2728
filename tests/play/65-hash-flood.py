# SPDX-License-Identifier: Apache-2.0
"""Keys that collide: names under the hashes that everybody knows, request ids under one that was
used here. Both cost what random ones cost.

USHER_PLAY_NAMES: how many names of each kind."""

import binascii
import os
import statistics
import time

from usherplay import Broker, Client, check, check_equal, client_pb, frame_bytes, play, scaled, seed
from usherplay.client import Crowd

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
FNV_PRIME, FNV_BASIS, FNV_BITS = 0x01000193, 0x811C9DC5, 24
GOLDEN = 0x9E3779B97F4A7C15  # ids were once multiplied with it, and the upper half was the hash
SENDS = 100000
ROUNDS = 5
AT_ONCE = 200
IN_FLIGHT, IN_AN_INBOX = 4000, 200
RATIO_MIN = 0.4  # the goal is 0.8; a busy machine is given room


# --- names ---------------------------------------------------------------------------------------


def djb2(name):
    value = 5381
    for byte in name.encode():
        value = value * 33 + byte & 0xFFFFFFFF
    return value


def fnv1a(name):
    value = FNV_BASIS
    for byte in name.encode():
        value = (value ^ byte) * FNV_PRIME & 0xFFFFFFFF
    return value


def crc32(name):
    return binascii.crc32(name.encode())


def names_djb2(count):
    """ "Ab" and "BA" are the same to it, so all strings of the two are."""
    bits = max(1, (count - 1).bit_length())
    return [
        "".join("BA" if number >> bit & 1 else "Ab" for bit in range(bits))
        for number in range(count)
    ]


def names_fnv1a(count):
    """The low bits of the state depend on low bits alone and each step can be undone: from the
    middle back to one end state, three letters, and forth to the middle, one letter."""
    mask = (1 << FNV_BITS) - 1
    undo = pow(FNV_PRIME, -1, 1 << FNV_BITS)
    back = {}
    first = {ord(letter): (0x123456 * undo & mask) ^ ord(letter) for letter in LETTERS}
    for third, state in first.items():
        for second in map(ord, LETTERS):
            middle = (state * undo & mask) ^ second
            for one in map(ord, LETTERS):
                back[(middle * undo & mask) ^ one] = bytes((one, second, third)).decode()
    names, number = [], 0
    while len(names) < count:
        prefix = f"n{number}."
        state = fnv1a(prefix) & mask
        number += 1
        for letter in LETTERS:
            end = back.get((state ^ ord(letter)) * FNV_PRIME & mask)
            if end is not None:
                names.append(prefix + letter + end)
                break
    return names


def names_crc32(count):
    """It is linear: each place of a name that may be 0 or 1 adds a fixed pattern, and there are
    more places than bits."""
    size = 32 + max(1, (count - 1).bit_length())
    zero = crc32("0" * size)
    basis, kernel = {}, []  # highest bit -> (pattern, places)
    for place in range(size):
        pattern = crc32("0" * place + "1" + "0" * (size - place - 1)) ^ zero
        places = 1 << place
        while pattern and pattern.bit_length() in basis:
            other, others = basis[pattern.bit_length()]
            pattern, places = pattern ^ other, places ^ others
        if pattern:
            basis[pattern.bit_length()] = pattern, places
        else:
            kernel.append(places)
    names = []
    for number in range(count):
        places = 0
        for bit, vector in enumerate(kernel):
            places ^= vector if number >> bit & 1 else 0
        names.append("".join("1" if places >> place & 1 else "0" for place in range(size)))
    return names


def names_random(random, count, size=24):
    return ["".join(random.choices(LETTERS, k=size)) for _ in range(count)]


def check_collide(names, hash, bits=32):
    check_equal(len(set(names)), len(names), "distinct names")
    check_equal(len({hash(name) & ((1 << bits) - 1) for name in names}), 1, "hashes of the names")
    check(max(map(len, names)) <= 64, "a name is too long")


# --- what they cost ------------------------------------------------------------------------------


def sends(client, names, count):
    """The bytes of so many sends without an answer, to the names in turn."""
    each = [frame_bytes(client.request("send", 0, to=name, payload=b"x")) for name in names]
    return b"".join(each[number % len(names)] for number in range(count))


def busy_seconds(broker):
    """The processor time of all threads, finer than the ticks that Broker.cpu_seconds has. Wall
    time would tell how busy the machine is with others."""
    total = 0
    folder = f"/proc/{broker.process.pid}/task"
    for thread in os.listdir(folder):
        with open(f"{folder}/{thread}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e9


def throughput(broker, client, data, count):
    """Sends per second of processor time; the Pong behind them says that they are through."""
    before = busy_seconds(broker)
    client.timeout = 60
    client.send_bytes(data)
    client.ping()
    return count / (busy_seconds(broker) - before)


def log_in(broker, names):
    """Sessions that stay, without their connections; gives logins per second."""
    began = time.monotonic()
    for begin in range(0, len(names), AT_ONCE):
        people = [Client(broker) for _ in names[begin : begin + AT_ONCE]]
        for client, name in zip(people, names[begin:]):
            client.post("login", username=name)
        for client in people:
            client.expect("welcome", timeout=30)
            client.drop()
    return len(names) / (time.monotonic() - began)


def measure(names):
    """(logins per second, the best sends per second). Inboxes are full after one message, so that
    a send is little more than finding its receiver."""
    options = {
        "threads.io": 1,
        "threads.workers": 1,
        "session.resume_ms": 600000,
        "limits.inbox_messages": 1,
        "limits.prelogin_connections": 4096,
    }
    with Broker(options) as broker, Client(broker) as sender:
        sender.login("sender")
        logins = log_in(broker, names)
        count = scaled(SENDS, 2000)
        data = sends(sender, names, count)
        return logins, max(throughput(broker, sender, data, count) for _ in range(ROUNDS))


def scene_names():
    random = seed()
    count = int(os.environ.get("USHER_PLAY_NAMES", scaled(2000, 200)))
    kinds = {"djb2": names_djb2(count), "fnv1a": names_fnv1a(count), "crc32": names_crc32(count)}
    check_collide(kinds["djb2"], djb2)
    check_collide(kinds["fnv1a"], fnv1a, FNV_BITS)
    check_collide(kinds["crc32"], crc32)
    plain = measure(names_random(random, count))
    print(f"     {count} names. random: {plain[0]:.0f} logins/s, {plain[1]:.0f} sends/s")
    for kind, names in kinds.items():
        logins, speed = measure(names)
        print(
            f"     {kind}: {logins:.0f} logins/s, {speed:.0f} sends/s, ratio "
            f"{logins / plain[0]:.2f} and {speed / plain[1]:.2f}"
        )
        check(
            speed / plain[1] >= RATIO_MIN,
            f"names that collide under {kind} are "
            f"{plain[1] / speed:.1f} times slower than random ones",
        )


# --- ids -----------------------------------------------------------------------------------------


def colliding_ids(count):
    """They differ in the low half of the product alone."""
    undo = pow(GOLDEN, -1, 1 << 64)
    return [((7 << 32 | number) * undo) & ((1 << 64) - 1) for number in range(1, count + 1)]


def in_flight(broker, ids, others):
    """(pings per second, a bystander's usual and worst ping) of a client that has a request in
    flight under each id, sends that nobody acknowledges, and pings under the other ids."""
    with Client(broker) as holder, Client(broker) as bystander, Crowd() as receivers:
        holder.login("holder")
        bystander.login("bystander")
        for begin in range(0, len(ids), IN_AN_INBOX):
            receiver = Client(broker)
            receiver.login(f"receiver{begin}", acks=True)
            receivers.add(receiver)
            for id in ids[begin : begin + IN_AN_INBOX]:
                holder.post("send", id=id, to=receiver.name, payload=b"x", until=1)
            receiver.messages(len(ids[begin : begin + IN_AN_INBOX]))
        data = b"".join(
            frame_bytes(client_pb.ClientFrame(id=id, ping=client_pb.Ping())) for id in others
        )
        pings = []
        speeds = [
            answered(broker, holder, bystander, data, len(others), pings) for _ in range(ROUNDS)
        ]
        return max(speeds), statistics.median(pings), max(pings)


def answered(broker, holder, bystander, data, count, pings):
    """Pings by the holder, with looks at how the bystander fares; pings per second of processor
    time."""
    before = busy_seconds(broker)
    seen, sent = 0, 0
    while seen < count:
        if sent < len(data):
            sent += holder.socket.send(data[sent : sent + 65536])
        pings.append(bystander.ping())
        holder.receive_more(1)
        seen += len(holder.frames)
        holder.frames.clear()
    return count / (busy_seconds(broker) - before)


def scene_request_ids():
    random = seed()
    pings = scaled(20000, 1000)
    figures = []
    for ids in (
        [random.getrandbits(62) | 1 << 62 for _ in range(IN_FLIGHT + pings)],
        colliding_ids(IN_FLIGHT + pings),
    ):
        with Broker() as broker:
            figures.append(in_flight(broker, ids[:IN_FLIGHT], ids[IN_FLIGHT:]))
    (plain, usual, _), (speed, middle, worst) = figures
    print(
        f"     {IN_FLIGHT} requests in flight: {plain:.0f} pings/s with random ids, {speed:.0f} "
        f"with colliding ones (ratio {speed / plain:.2f}); a bystander's ping "
        f"{usual * 1000:.2f} and {middle * 1000:.2f} ms, worst {worst * 1000:.1f}"
    )
    check(speed / plain >= RATIO_MIN, f"ids that collide are {plain / speed:.1f} times slower")


if __name__ == "__main__":
    play(scene_names, scene_request_ids)
