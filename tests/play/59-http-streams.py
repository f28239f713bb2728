# SPDX-License-Identifier: Apache-2.0
"""How streams and long polls of HTTP end: by events that are not kept any more while one reads, and by a
drain of the node. Nothing is left out in silence, and who comes again has each event once."""

import http.client
import json
import os
import socket
import stat
import subprocess
import tempfile
import threading
import time

from usherplay import Broker, Client, check, check_equal, eventually, play, scaled
from usherplay.asker import SLOW_SECONDS, Http
from usherplay.broker import program

TOKEN = "token-of-the-backends-of-the-play"
KEPT = 1024
LONG_TEXT = '"' * 64  # of which JSON makes twice as much


def options(**more):
    handle, path = tempfile.mkstemp(prefix="usher-http-")
    os.write(handle, TOKEN.encode() + b"\n")
    os.close(handle)
    os.chmod(path, stat.S_IRUSR)
    return {
        "http.listen": "127.0.0.1:0",
        "http.token_file": path,
        **{key.replace("__", "."): value for key, value in more.items()},
    }


def ask_stream(door, after, small=False):
    """`small`: with as little as can be on its way. Segments are what the system of the other side
    measures its buffer by."""
    connection = socket.socket()
    if small:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    connection.settimeout(SLOW_SECONDS)
    connection.connect(door.address)
    connection.sendall(
        f"GET /v1/presence/stream?after={after} HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {TOKEN}\r\n\r\n".encode()
    )
    return connection


def read_stream(connection):
    """All of it, to its end: the events, their ids, and data by other names; whether it ended as a
    whole answer does."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    check_equal(response.status, 200, "status of the stream")
    events, ids, others, fields, whole = [], [], [], {}, True
    try:
        for line in response:
            key, _, value = line.decode().rstrip("\n").partition(":")
            if key:
                fields[key] = value.strip()
                continue
            if "event" in fields:
                others.append((fields["event"], json.loads(fields["data"])))
            elif "data" in fields:
                events.append(json.loads(fields["data"]))
                ids.append(int(fields["id"]))
            fields = {}
    except (http.client.IncompleteRead, ConnectionResetError):
        whole = False
    return events, ids, others, whole


def come_and_go(broker, until, number, door):
    """Until the stream of presence is there."""
    turn = 0
    while door.json("/v1/presence")["next"] < until:
        for _ in range(50):
            with Client(broker) as client:
                client.login(f"{number}.{turn}".ljust(64, "x"), client=LONG_TEXT)
                client.post("logout")
                client.read_to_end()
            turn += 1


def scene_reset_in_a_stream():
    """One that reads nothing for a while, until what it has not got is not kept any more: it gets what was
    on its way, in order, then `reset`, then the end; and 410 if it comes again where it was."""
    with Broker(options(store__events_kept=KEPT)) as broker:
        door = Http(broker, TOKEN, "http")
        with ask_stream(door, 0, small=True) as connection:
            crowds = [
                threading.Thread(target=come_and_go, args=(broker, 2 * KEPT, number, door))
                for number in range(4)
            ]
            for crowd in crowds:
                crowd.start()
            for crowd in crowds:
                crowd.join()
            last = door.json("/v1/presence")["next"]
            events, ids, others, whole = read_stream(connection)
        check_equal(ids, list(range(1, len(ids) + 1)), "in order, from the first one on")
        check_equal([event["seq"] for event in events], ids, "the seq is the id")
        check_equal([name for name, _ in others], ["reset"], "and then")
        check(len(ids) < last - KEPT, f"{len(ids)} of {last} events were told, {KEPT} are kept")
        check(others[0][1]["presence_last"] >= last, f"where the stream is: {others}")
        check(whole, "the answer ends as it should")
        door.error("GET", f"/v1/presence/stream?after={ids[-1]}", 410, "GONE")
        print(f"     {len(ids)} events, then reset, at {last}")


def drain(broker, seconds):
    done = subprocess.run(
        [program("usherctl"), "--url", broker.link_url, "drain", "--seconds", str(seconds)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    check_equal(done.returncode, 0, f"usherctl drain: {done.stderr}")


def long_polls(door, pages, faults):
    """One after the other, until the broker is gone."""
    after = 0
    while True:
        try:
            answer = door.ask("GET", f"/v1/presence?after={after}&wait_ms=60000")
        except (OSError, http.client.HTTPException) as fault:
            faults.append(fault)
            return
        if answer.status != 200:
            faults.append((answer.status, answer.json()["error"]))
            return
        page = answer.json()
        after = page["next"]
        pages.append(page["events"])


def scene_drain():
    """Both go on through a drain, tell who is sent away, and end with it; commands are done until then."""
    users = 40
    with Broker(options(session__resume_ms=60000)) as broker:
        clients = [Client(broker) for _ in range(users)]
        for number, client in enumerate(clients):
            client.login(f"user{number}")
        door = Http(broker, TOKEN, "http")
        stream, polled, faults, read = ask_stream(door, 0), [], [], []
        threads = [
            threading.Thread(target=lambda: read.append(read_stream(stream))),
            threading.Thread(target=long_polls, args=(door, polled, faults)),
        ]
        for thread in threads:
            thread.start()
        eventually(lambda: sum(map(len, polled)) == users, "the logins", 20)
        drain(broker, 3)
        broker.wait_log("draining")
        waiting = door.ask("GET", f"/v1/presence?after={users}&wait_ms=20000")
        check_equal(waiting.status, 200, "a long poll that begins in the drain")
        first = waiting.json()["events"][0]
        check_equal((first["kind"], first["seq"]), ("DETACHED", users + 1), "who is sent away")
        pushed = door.post("/v1/push", {"to": [f"user{users - 1}"], "payload_text": "still"})
        check_equal(pushed["accepted"], 1, "a push in the drain")
        check_equal(broker._wait_end(SLOW_SECONDS), 0, "exit code of the drain")
        for thread in threads:
            thread.join(SLOW_SECONDS)
            check(not thread.is_alive(), "a follower waits for a broker that is gone")
        stream.close()
        for client in clients:
            client.close()
        events, ids, others, whole = read[0]
        check(whole and not others, f"the stream ends as an answer does: {others}")
        told = [event["seq"] for page in polled for event in page]
        for seqs, what in ((ids, "the stream"), (told, "the long polls")):
            check_equal(seqs, list(range(1, len(seqs) + 1)), f"seqs of {what}")
            check(len(seqs) > users, f"{what}: nothing of the drain was told")
        end = faults[0]
        check(end == (503, "DRAINING") or isinstance(end, OSError), f"how long polls end: {end}")
        broker.restart()
        again = Http(broker, TOKEN, "http")
        rest = again.json(f"/v1/presence?after={ids[-1]}&limit=1000")["events"]
        kinds = [event["kind"] for event in events + rest]
        check_equal(kinds.count("ONLINE"), users, "logins in all")
        check_equal(kinds.count("DETACHED"), users, "each was told once that he is detached")
        print(f"     {len(ids)} events by the stream, {len(told)} by long polls, then {end}")


def rss_bytes(broker):
    with open(f"/proc/{broker.process.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def scene_what_connections_hold():
    """What a connection and a stream can hold of the HTTP server's own is in the book of memory, is not
    more than the book says, and comes back."""
    count, head, piece, step = 400, 16 * 1024, 16 * 1024, 256 * 1024
    given = options(http__connections=count + 20, http__waits=count, admin__listen="127.0.0.1:0")
    with Broker(given) as broker:
        door = Http(broker, TOKEN, "http")
        held = lambda: broker.numbers()["memory_held_bytes"]
        before, rss = held(), rss_bytes(broker)
        idle = [door.raw() for _ in range(count)]
        eventually(
            lambda: held() - before >= count * head - step, "connections are in the book", 20
        )
        check(held() - before < count * (head + 1024) + step, f"{held() - before} for {count}")
        for connection in idle:
            connection.close()
        eventually(lambda: abs(held() - before) <= step, "they come back", 20)
        streams = [ask_stream(door, 0) for _ in range(count)]
        for stream in streams:
            check(stream.recv(4096).startswith(b"HTTP/1.1 200"), "a stream")
        at = held() - before
        check(at >= count * (head + piece) - step, f"{at} bytes for {count} streams")
        grown = rss_bytes(broker) - rss
        if scaled(10) == 10:  # a sanitizer keeps what was freed
            check(grown < at + 4 * 1024 * 1024, f"{grown} bytes of memory, by the book {at}")
        for stream in streams:
            stream.close()
        eventually(lambda: abs(held() - before) <= step, "they come back", 20)
        print(
            f"     {count} streams: {at // count} bytes each by the book, {grown // count} by RSS"
        )


play(scene_reset_in_a_stream, scene_drain, scene_what_connections_hold)
