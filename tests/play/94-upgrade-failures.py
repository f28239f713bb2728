# SPDX-License-Identifier: Apache-2.0
"""Upgrades that come to nothing, at every step and in many ways, beside some hundred sessions and steady
traffic: the process that was there serves on, no byte is wrong, and nothing of the other one is left. And
what ends one of the two for good: never two serve, and what is in the store is there."""

import json
import os
import signal
import threading
import time

from usherplay import Client, check, check_equal, eventually, play, scaled
from usherplay.schema import BIN
from usherplay.successor import Loop, SucceededBroker, Successor
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

IDLE = scaled(300, least=10)
ROUNDS = scaled(4, least=1)
HEIR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "usherplay", "heir.py")

ENDED = "the other process has ended"
MUTE = "the other process has said nothing in time"
WRONG = "the other process has said something that cannot be"
HELLO, DESCRIPTORS, STATE, READY, GO, REFUSED = range(1, 7)

# What the successor does, what is said of it, and how often (0: as often as the others).
FAULTS = [
    ("ends before HELLO", {"at": "start", "does": "ends"}, ENDED, 0),
    ("crashes before HELLO", {"at": "start", "does": "crashes"}, ENDED, 0),
    ("lets go before HELLO", {"at": "hello", "does": "lets_go"}, ENDED, 0),
    ("hangs before HELLO", {"at": "hello", "does": "hangs"}, MUTE, 1),
    ("says READY for HELLO", {"at": "hello", "does": "says", "word": READY}, WRONG, 0),
    ("says GO for HELLO", {"at": "hello", "does": "says", "word": GO}, WRONG, 0),
    ("says a word that is none", {"at": "hello", "does": "says", "word": 77}, WRONG, 0),
    ("babbles for HELLO", {"at": "hello", "does": "babbles"}, WRONG, 0),
    ("overstates a HELLO", {"at": "hello", "does": "overstates", "word": HELLO}, WRONG, 0),
    ("gives with HELLO", {"at": "hello", "does": "gives", "word": HELLO}, WRONG, 0),
    (
        "refuses",
        {"at": "hello", "does": "says", "word": REFUSED, "body": "it is too late\n\x1b[2J"},
        "it is too late",
        0,
    ),
    (
        "says another HELLO",
        {"at": "hello", "does": "says", "word": HELLO, "body": "???"},
        "0 open files",
        0,
    ),
    ("ends at the freeze", {"at": "freeze", "does": "ends"}, ENDED, 0),
    ("reads nothing", {"at": "freeze", "does": "hangs"}, MUTE, 1),
    ("ends after descriptors", {"at": "descriptors", "does": "ends"}, ENDED, 0),
    ("hangs after descriptors", {"at": "descriptors", "does": "hangs"}, MUTE, 1),
    ("ends after the connections", {"at": "between", "does": "ends"}, ENDED, 0),
    ("hangs after the connections", {"at": "between", "does": "hangs"}, MUTE, 1),
    (
        "refuses the connections",
        {"at": "between", "does": "says", "word": REFUSED, "body": "not these"},
        "not these",
        0,
    ),
    ("says READY too soon", {"at": "between", "does": "says", "word": READY}, "", 0),
    ("crashes after the state", {"at": "ready", "does": "crashes"}, ENDED, 0),
    ("hangs after the state", {"at": "ready", "does": "hangs"}, MUTE, 1),
    ("lets go after the state", {"at": "ready", "does": "lets_go"}, ENDED, 0),
    ("says HELLO for READY", {"at": "ready", "does": "says", "word": HELLO}, WRONG, 0),
    ("refuses the state", {"at": "ready", "does": "says", "word": REFUSED, "body": "no"}, "no", 0),
    ("gives with READY", {"at": "ready", "does": "gives", "word": READY}, WRONG, 0),
    ("is READY with nothing", {"at": "go", "does": "hangs"}, "something else than it was given", 0),
    (
        "is READY with a wrong count",
        {"at": "ready", "does": "says", "word": READY, "body": "\x08\x01\x18\x01"},
        "something else than it was given",
        0,
    ),
    ("wrong configuration", {"arguments": ["--set", "limits.colour=red"]}, "its configuration", 0),
    ("another number of threads", {"arguments": ["--set", "threads.io=7"]}, "I/O threads", 0),
    ("no store", {"arguments": ["--set", "store.path=/dev/null/store"]}, "/dev/null", 0),
    ("too few files", {"limits": {"RLIMIT_NOFILE": 200}}, "open files", 0),
    ("too little memory", {"limits": {"RLIMIT_AS": 96 << 20}}, "", 0),
]


class InheritedBroker(SucceededBroker):
    """Its program is what the play says each time."""

    def __init__(self, options=None, **others):
        self.order = None
        super().__init__(
            {"process.upgrade_program": "", "link.grace_ms": 20000, **(options or {})}, **others
        )

    def command(self):
        self.order = os.path.join(self.folder, "order")
        path = write_program(
            self.folder,
            "heir",
            f'#!/bin/sh\nexec /usr/bin/python3 -E {HEIR} {self.order} {BIN}/usherd "$@"\n',
        )
        self.options["process.upgrade_program"] = path
        self.obey({})
        return super().command()

    def obey(self, order):
        with open(self.order, "w", encoding="utf-8") as file:
            json.dump(order, file)

    def processes(self):
        """Every usherd, and who stands before one, that has its folder in the command line."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    line = file.read()
                if self.folder.encode() in line and b"usherd\0" in line:
                    found.append(int(name))
            except OSError:
                pass
        return found


class Traffic:
    """Idle sessions, and some that are never idle; by plain TCP and WebSocket."""

    def __init__(self, broker):
        self.broker = broker
        self.idle = log_in(broker, [f"idle{number}" for number in range(IDLE)], "tcp")
        self.tcp = log_in(broker, ("anna", "bert", "cora"), "tcp")
        self.ws = log_in(broker, ("dora", "emil", "fred"), "ws")
        for client in (self.tcp[2], self.ws[2]):
            eventually(
                lambda it=client: it.ask("call", service="echo", method="echo").WhichOneof("body")
                == "reply",
                "a service",
                SLOW_SECONDS,
            )
        self.loops = [
            Loop(talk(self.tcp[0], self.ws[0])),
            Loop(talk(self.ws[1], self.tcp[1])),
            Loop(call(self.tcp[2])),
            Loop(call(self.ws[2])),
        ]

    def check(self):
        for loop in self.loops:
            if loop.fault is not None:
                raise loop.fault

    def end(self):
        """How often each; and nobody was lost meanwhile."""
        counts = [loop.end() for loop in self.loops]
        quiet(self.broker)
        for client in self.idle + self.tcp + self.ws:
            client.close()
        return counts


def quiet(broker):
    for name in ("detached", "resumed", "takeover", "stale_event", "service_down", "expired"):
        check_equal(broker.log_events(name, every_start=True), [], f"lines of {name}")


def scene_a_successor_that_fails():
    with InheritedBroker(ws=True) as broker, Echo(broker):
        traffic = Traffic(broker)
        pid, descriptors = broker.process.pid, broker.descriptors()
        for what, order, why, times in FAULTS:
            frozen = []
            for _ in range(min(times or ROUNDS, ROUNDS)):
                broker.obey(order)
                code, said = broker.ask()
                check_equal(code, 1, f"{what}: the exit code of usherctl, which said {said}")
                check("nothing is lost" in said and why in said, f"{what}: {said}")
                check("\x1b" not in said, f"{what}: {said!r}")
                same_as_before(broker, traffic.idle, pid, descriptors)
                traffic.check()
                frozen.append(broker.log_events("upgrade_failed")[-1]["frozen_ms"])
            print(
                f"     {what}: {said.strip().rpartition('lost: ')[2]} (stood still for {frozen} ms)"
            )
        broker.obey({})  # and after all of that
        line = broker.upgrade()
        print(
            f"     then one that does not: {line['frozen_ms']} ms; {traffic.end()} beside all that"
        )


# --- one of the two is killed -----------------------------------------------------------------


def gone_and_back(broker, clients, welcomes):
    """Nobody serves, nothing is left, and a start finds everybody."""
    for client in clients:
        client.ended or client.expect_eof()
    eventually(lambda: broker.processes() == [], "nobody is left", SLOW_SECONDS)
    broker.start()
    for client, welcome in zip(clients, welcomes):
        with Client(broker, over=client.over) as again:
            again.resume(welcome, 0, client.name)
            again.ping()


def scene_one_of_them_is_killed():
    """The old one before its last word: the new one ends by itself. The new one behind it: that is a crash."""
    steps = [("old", where) for where in ("gifts", "hello", "descriptors", "ready")]
    steps += [("new", "end")]
    for who, where in steps:
        with InheritedBroker(ws=True) as broker:
            clients = log_in(broker, [f"user{number}" for number in range(20)], "tcp")
            welcomes = [client.welcome for client in clients]
            broker.obey({"kill": who, "at": where})
            asks = threading.Thread(target=broker.ask, daemon=True)
            asks.start()
            broker.process.wait(SLOW_SECONDS)
            gone_and_back(broker, clients, welcomes)
            print(f"     the {who} one, at {where}")


def scene_the_new_one_is_killed_before_the_last_word():
    with InheritedBroker() as broker:
        clients = log_in(broker, ("anna", "bert"), "tcp")
        pid, descriptors = broker.process.pid, broker.descriptors()
        for where in ("gifts", "hello", "descriptors"):
            broker.obey({"kill": "new", "at": where})
            code, said = broker.ask()
            check_equal(code, 1, f"at {where}: {said}")
            same_as_before(broker, clients, pid, descriptors)
        for client in clients:
            client.close()


def scene_the_old_one_behind_its_last_word():
    """GO is on its way: it is heard."""
    with InheritedBroker() as broker:
        clients = log_in(broker, ("anna", "bert"), "tcp")
        broker.obey({"kill": "old", "at": "go"})
        threading.Thread(target=broker.ask, daemon=True).start()
        before = broker.process
        before.wait(SLOW_SECONDS)
        eventually(lambda: len(broker.processes()) == 1, "one serves", SLOW_SECONDS)
        broker.process = Successor(broker.processes()[0])
        for client in clients:
            client.ping()
            client.close()


def scene_a_release_that_says_more():
    """There and back again: who does not know a field passes over it, and loses nothing else."""
    with InheritedBroker(ws=True) as broker, Echo(broker):
        traffic = Traffic(broker)
        for number in range(2 * ROUNDS):
            broker.obey({"more": True} if number % 2 else {})
            before, (code, said) = broker.process, broker.ask()
            check_equal(code, 0, said)
            before.wait(SLOW_SECONDS)
            eventually(lambda: len(broker.processes()) == 1, "one serves", SLOW_SECONDS)
            broker.process = Successor(broker.processes()[0])
            for client in traffic.idle:
                client.ping()
            traffic.check()
        print(f"     {traffic.end()} beside {2 * ROUNDS} upgrades")


# --- at the wrong moment ------------------------------------------------------------------------


def scene_two_at_once():
    with InheritedBroker() as broker:
        clients = log_in(broker, ("anna", "bert"), "tcp")
        before, answers = broker.process, []
        asks = [
            threading.Thread(target=lambda: answers.append(broker.ask()), daemon=True)
            for _ in range(4)
        ]
        for thread in asks:
            thread.start()
        before.wait(SLOW_SECONDS)
        for thread in asks:
            thread.join(SLOW_SECONDS)
        lines = broker.log_events("upgraded", every_start=True)
        broker.process = Successor(lines[-1]["to"])
        check(any(code == 0 for code, _ in answers), answers)
        eventually(lambda: broker.processes() == [broker.process.pid], "one serves", SLOW_SECONDS)
        for client in clients:
            client.ping()
            client.close()


def scene_during_a_drain():
    with InheritedBroker({"process.drain_ms": 3000}) as broker:
        client = log_in(broker, ("anna",), "tcp")[0]
        broker.process.send_signal(signal.SIGUSR2)
        broker.wait_log("draining")
        code, said = broker.ask()
        check_equal(code, 1, said)
        check("on its way out" in said, said)
        client.expect_close("SHUTDOWN")
        check_equal(broker.process.wait(SLOW_SECONDS), 0, "its end")


def scene_a_drain_or_a_stop_meanwhile():
    """It is not lost, whoever serves then."""
    with InheritedBroker({"process.drain_ms": 100}) as broker:
        client = log_in(broker, ("anna",), "tcp")[0]
        broker.obey({"at": "hello", "does": "hangs"})
        threading.Thread(target=broker.ask, daemon=True).start()
        broker.wait_log("upgrading", SLOW_SECONDS)
        os.kill(broker.process.pid, signal.SIGUSR2)
        client.expect_close("SHUTDOWN")
        check_equal(broker.process.wait(SLOW_SECONDS), 0, "its end")
    with InheritedBroker() as broker:
        client = log_in(broker, ("anna",), "tcp")[0]
        threading.Thread(target=broker.ask, daemon=True).start()
        broker.wait_log("upgrading", SLOW_SECONDS)
        broker.process.send_signal(signal.SIGTERM)
        client.expect_close("SHUTDOWN")
        broker.process.wait(SLOW_SECONDS)
        eventually(lambda: broker.processes() == [], "nobody is left", SLOW_SECONDS)


def scene_during_reloads_and_a_storm_of_logins():
    with InheritedBroker(ws=True) as broker:
        clients = log_in(broker, [f"user{number}" for number in range(20)], "ws")
        loops = [Loop(come_and_go(broker, f"storm{number}-")) for number in range(8)]

        def reload(_):
            broker.process.send_signal(signal.SIGHUP)
            time.sleep(0.002)

        loops.append(Loop(reload))
        for number in range(2 * ROUNDS):
            if number % 2:
                broker.obey({"at": "ready", "does": "ends"})
                check_equal(broker.ask()[0], 1, "one that fails")
            else:
                broker.obey({})
                broker.upgrade()
            for client in clients:
                client.ping()
        print(
            f"     {[loop.end() for loop in loops]} beside {2 * ROUNDS} upgrades, half of which fail"
        )
        for client in clients:
            client.close()


def fill(broker):
    """Logs new names in, some at once, until one is refused; gives those who are in."""
    clients, count = [], 0
    while len(clients) == count:
        some = [Client(broker) for _ in range(100)]
        for client in some:
            client.name = f"a-player-with-a-long-name-{count:05}"
            client.post("login", username=client.name, acks=True)
            count += 1
        for client in some:
            if client.next_frame().WhichOneof("body") == "welcome":
                clients.append(client)
            else:
                client.close()
        check(count < 15000, "the map never gets full")
    return clients


def scene_a_full_store():
    """Nothing of it has to be written."""
    with InheritedBroker({"store.map_bytes": 1 << 20, "store.events_kept": 1024}) as broker:
        broker.ends_with = (0, 75)
        clients = fill(broker)
        for order in ({"at": "ready", "does": "ends"}, {}):
            broker.obey(order)
            if order:
                check_equal(broker.ask()[0], 1, "one that fails")
            else:
                broker.upgrade()
            for client in clients:
                client.ping()
        print(f"     {len(clients)} sessions fill it")
        for client in clients:
            client.close()


play(
    scene_a_successor_that_fails,
    scene_one_of_them_is_killed,
    scene_the_new_one_is_killed_before_the_last_word,
    scene_the_old_one_behind_its_last_word,
    scene_a_release_that_says_more,
    scene_two_at_once,
    scene_during_a_drain,
    scene_a_drain_or_a_stop_meanwhile,
    scene_during_reloads_and_a_storm_of_logins,
    scene_a_full_store,
)
