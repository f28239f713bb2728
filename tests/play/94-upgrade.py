# SPDX-License-Identifier: Apache-2.0
"""Another process in the place of the one that serves: plain clients, of both transports, with what they
have on its way, notice nothing; whatever goes wrong before the last word leaves everything as it was."""

import os
import socket
import stat
import tempfile
import time

from usherplay import (
    Backend,
    Client,
    check,
    check_equal,
    client_pb,
    eventually,
    play,
    scaled,
)
from usherplay.client import frame_bytes
from usherplay.successor import Loop, SucceededBroker
from usherplay.upgrading import (
    SLOW_SECONDS,
    Echo,
    call,
    come_and_go,
    log_in,
    same_as_before,
    talk,
    write_program,
)

UPGRADES = scaled(10, least=3)


def scene_nobody_notices():
    with SucceededBroker(ws=True) as broker, Echo(broker):
        tcp = log_in(broker, ("anna", "bert", "cora"), "tcp")
        ws = log_in(broker, ("dora", "emil", "fred"), "ws")
        eventually(
            lambda: tcp[2].ask("call", service="echo", method="echo").WhichOneof("body") == "reply",
            "a service",
            SLOW_SECONDS,
        )
        loops = [
            Loop(talk(tcp[0], ws[0])),
            Loop(talk(ws[1], tcp[1])),
            Loop(call(tcp[2])),
            Loop(call(ws[2])),
            Loop(come_and_go(broker)),
        ]
        frozen = []
        for _ in range(UPGRADES):
            time.sleep(0.2)
            line = broker.upgrade()
            check_equal(line["left"] <= 1, True, f"connections that were left: {line}")
            frozen.append(line["frozen_ms"])
        counts = [loop.end() for loop in loops]
        for name in ("detached", "resumed", "takeover", "stale_event", "service_down"):
            check_equal(broker.log_events(name, every_start=True), [], f"lines of {name}")
        print(f"     {counts} beside {UPGRADES} upgrades; nobody was served for {frozen} ms")
        for client in tcp + ws:
            client.close()


def scene_what_is_on_its_way():
    """Half a frame that was sent, a message that waits for an ack, one that waits for a connection, and a
    Send whose answer is its delivery."""
    with SucceededBroker() as broker:
        anna, bert, cora = log_in(broker, ("anna", "bert", "cora"), "tcp")
        welcome = cora.welcome
        cora.close()
        broker.wait_log("detached")
        anna.send("cora", b"for later")
        anna.send("bert", b"unacknowledged")
        check_equal(bert.expect("message").message.seq, 1, "seq")
        waits = anna.request("send", to="bert", payload=b"tell me", until=client_pb.Send.DELIVERED)
        anna.send_frame(waits)
        check_equal(bert.expect("message").message.payload, b"tell me", "the payload")
        half = frame_bytes(anna.request("send", to="bert", payload=b"y" * 3000))
        anna.send_bytes(half[:1000])
        time.sleep(0.1)
        for _ in range(3):
            broker.upgrade()
        anna.send_bytes(half[1000:])
        check_equal(bert.expect("message").message.payload, b"y" * 3000, "the payload")
        anna.expect("done", id=waits.id + 1)
        bert.post("ack", id=0, seq=3)
        anna.expect("done", id=waits.id)
        with Client(broker) as back:
            back.name = "cora"
            answer = back.resume(welcome, 0, "cora")
            check_equal(answer.replay, client_pb.Welcome.COMPLETE, "what the resume says")
            check_equal(back.expect("message").message.payload, b"for later", "the payload")
        with Client(broker) as again:
            epoch = again.login("bert").epoch
            check(epoch > bert.welcome.epoch, "epochs go on")
            bert.expect_close("REPLACED")
        anna.close()


def read_all(sock, size):
    got = b""
    while len(got) < size:
        more = sock.recv(size - len(got))
        if not more:
            break
        got += more
    return got


REQ, REP, PUB, SUB = 0x30, 0x31, 0x20, 0x21


def hello_of(protocol):
    return b"\0SP\0\0" + bytes([protocol]) + b"\0\0"


def come_back(path, own, others, thrown_out):
    """A peer that is back as soon as it can be: it says what nng says first, and waits for the end."""

    def once(_):
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(path)
            except (FileNotFoundError, ConnectionRefusedError):
                return
            try:
                sock.sendall(hello_of(own))
                hello = read_all(sock, 8)
            except ConnectionError as error:
                hello = error
            if hello != hello_of(others):
                thrown_out.append(hello)
                return
            sock.settimeout(0.5)
            try:
                sock.recv(1)
            except TimeoutError:
                pass

    return once


def scene_peers_come_to_one_that_serves():
    """A dialer of nng 1.5 that is thrown out in the middle of its handshake never comes back by itself, and a
    service was away for as long as its requests may take: two seconds, and then it was lost."""
    with tempfile.TemporaryDirectory() as folder, SucceededBroker(
        {"feed.url": f"ipc://{folder}/feed.sock"}
    ) as broker:
        thrown_out = []
        peers = 4 * [(broker.link_path, REQ, REP)] + 4 * [(f"{folder}/feed.sock", SUB, PUB)]
        loops = [Loop(come_back(*peer, thrown_out)) for peer in peers]
        for _ in range(UPGRADES):
            time.sleep(0.1)
            broker.upgrade()
        counts = [loop.end() for loop in loops]
        print(f"     {counts} connections beside {UPGRADES} upgrades")
        check_equal(thrown_out, [], "who came, and was thrown out before he was greeted")


def scene_the_store_goes_on():
    """What was written before and after is one stream, also after a kill."""
    with SucceededBroker() as broker:
        before = log_in(broker, ("anna",), "tcp")[0]
        broker.upgrade()
        after = log_in(broker, ("bert",), "tcp")[0]
        broker.kill()
        broker.start()
        with Backend(broker) as backend:
            events = backend.all_events()
        check_equal([event.seq for event in events], list(range(1, len(events) + 1)), "its numbers")
        check_equal([event.user for event in events[:2]], ["anna", "bert"], "who came")
        for client in (before, after):
            client.close()


def scene_stored_messages():
    """What is stored before and after, for who is there and who is not, comes once and under rising
    numbers."""
    with SucceededBroker() as broker:
        anna, bert = log_in(broker, ("anna", "bert"), "tcp")
        mids = []
        for number in range(3):
            done = anna.ask("send", to="bert", payload=b"%d" % number, keep_s=600)
            check_equal(done.WhichOneof("body"), "done", f"the answer: {done}")
            mids.append(done.done.mid)
            broker.upgrade()
        check_equal(mids, sorted(set(mids)), "mids rise")
        got = [bert.expect("message").message for _ in range(3)]
        check_equal([message.mid for message in got], mids, "what came")
        bert.post("ack", id=0, seq=got[1].seq)
        bert.ping()
        broker.upgrade()
        bert.close()
        broker.wait_log("detached")
        with Client(broker) as again:
            again.login("bert", acks=True)
            message = again.expect("message").message
            check_equal(
                (message.mid, message.payload), (mids[2], b"2"), "what was not acknowledged"
            )
            again.expect_nothing(0.2)
        anna.close()


# --- what cannot be, or goes wrong ---------------------------------------------------------------


def scene_programs_that_do_not():
    """Whatever is started instead of a broker: this one goes on, and nothing of the other is left."""
    with SucceededBroker() as nobody:
        folder = nobody.folder
        programs = [
            ("not there", os.path.join(folder, "nowhere")),
            ("no program", write_program(folder, "text", "this is no program\n")),
            ("ends", write_program(folder, "ends", "#!/bin/sh\nexit 3\n")),
            ("hangs", write_program(folder, "hangs", "#!/bin/sh\nexec sleep 100\n")),
            ("babbles", write_program(folder, "babbles", "#!/bin/sh\necho hello >&3\nsleep 1\n")),
        ]
        for what, path in programs:
            with SucceededBroker({"process.upgrade_program": path}) as broker:
                clients = log_in(broker, ("anna", "bert"), "tcp")
                pid, descriptors = broker.process.pid, broker.descriptors()
                for _ in range(1 if what == "hangs" else 3):
                    code, said = broker.ask()
                    check_equal(code, 1, f"{what}: the exit code of usherctl, which said {said}")
                    same_as_before(broker, clients, pid, descriptors)
                print(f"     {what}: {said.strip()}")
                for client in clients:
                    client.close()


def scene_who_may_ask():
    with SucceededBroker() as plain:
        token = os.path.join(plain.folder, "token")
        with open(token, "w", encoding="ascii") as file:
            file.write("a-token-of-the-play\n")
        os.chmod(token, stat.S_IRUSR)
        with SucceededBroker({"link.token_file": token}) as broker:
            code, said = broker.ask()
            check_equal(code, 1, f"without a token: {said}")
            check("FORBIDDEN" in said.upper(), said)
            check_equal(broker.log_events("upgrading"), [], "tries")


play(
    scene_nobody_notices,
    scene_what_is_on_its_way,
    scene_peers_come_to_one_that_serves,
    scene_the_store_goes_on,
    scene_stored_messages,
    scene_programs_that_do_not,
    scene_who_may_ask,
)
