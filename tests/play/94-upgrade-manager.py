# SPDX-License-Identifier: Apache-2.0
"""What the system sees of an upgrade: the descriptors of the new process, each by its name; what a service
manager is told, and the sockets that it has passed."""

import collections
import os
import subprocess

from usherplay import Client, check, check_equal, eventually, play, program, scaled
from usherplay.manager import Manager, PassingBroker, activated, listening
from usherplay.successor import SucceededBroker
from usherplay.upgrading import SLOW_SECONDS, log_in, write_program

CLIENTS = scaled(40, least=4)


# --- descriptors --------------------------------------------------------------------------------


def sockets():
    """By inode: what a socket is."""
    found = {}
    with open("/proc/net/tcp", encoding="ascii") as file:
        for line in list(file)[1:]:
            fields = line.split()
            port, state = int(fields[1].rpartition(":")[2], 16), fields[3]
            found[fields[9]] = ("listens at" if state == "0A" else "client of", port)
    with open("/proc/net/unix", encoding="ascii") as file:
        for line in list(file)[1:]:
            fields = line.split()
            path = os.path.basename(fields[7]) if len(fields) > 7 else "without a name"
            found[fields[6]] = ("unix", path)
    return found


def named(broker):
    """How many descriptors of each name its process has."""
    names, known = collections.Counter(), sockets()
    ports = {broker.port: "listen.tcp", broker.ws_port: "listen.ws"}
    for event in broker.log_events("listening", every_start=True):
        if event.get("port") and event["for"] in ("admin", "backends by HTTP"):
            ports[event["port"]] = event["for"]
    folder = f"/proc/{broker.process.pid}/fd"
    for number in os.listdir(folder):
        try:
            path = os.readlink(os.path.join(folder, number))
        except OSError:
            continue
        if path.startswith("socket:"):
            kind, what = known.get(path[8:-1], ("socket", "of no kind that is known"))
            path = f"{kind} {ports.get(what, what)}"
        elif path.startswith("pipe:"):
            path = "the log" if number == "2" else "a pipe"
        names[path.replace(broker.store, "the store")] += 1
    return names


def scene_it_has_what_it_needs():
    """Name by name what a process has that was started by hand, and no more; and so after ten of them."""
    with SucceededBroker({"admin.listen": "127.0.0.1:0"}, ws=True) as broker:
        clients = log_in(broker, [f"tcp{number}" for number in range(CLIENTS)], "tcp")
        clients += log_in(broker, [f"ws{number}" for number in range(CLIENTS)], "ws")
        first = named(broker)
        for name, count in sorted(first.items()):
            print(f"     {count:4} {name}")
        check_equal(first["client of listen.tcp"], CLIENTS, "by TCP")
        check_equal(first["client of listen.ws"], CLIENTS, "by WebSocket")
        for _ in range(scaled(10, least=2)):
            broker.upgrade()
        eventually(
            lambda: named(broker) == first,
            f"more: {named(broker) - first}, fewer: {first - named(broker)}",
            SLOW_SECONDS,
        )
        for client in clients:
            client.ping()
            client.close()


# --- the manager --------------------------------------------------------------------------------


class PassingSucceededBroker(PassingBroker, SucceededBroker):
    pass


def restart(broker):
    subprocess.run(
        [program("usherctl"), "--url", broker.link_url, "drain", "--restart"],
        check=True,
        timeout=SLOW_SECONDS,
    )


def scene_sockets_that_were_passed():
    """They are the manager's still: a restart of the process that follows finds them, and nobody else could
    have listened there meanwhile."""
    manager = Manager()
    with listening() as plain, listening() as web:
        ports = [stream.getsockname()[1] for stream in (plain, web)]
        with activated(
            [web, plain],
            ["listen.ws", "x" * 255],
            {"listen.tcp": "127.0.0.1:1"},
            manager=manager,
            kind=PassingSucceededBroker,
        ) as broker:
            manager.wait("READY")
            broker.address = broker.tcp_address = ("127.0.0.1", ports[0])
            broker.ws_address = ("127.0.0.1", ports[1])
            for _ in range(2):
                with Client(broker, over="tcp") as alice, Client(broker, over="ws") as bob:
                    welcome = alice.login("alice")
                    bob.login("bob")
                    came = len(manager.came)
                    broker.upgrade()
                    alice.ping()
                    bob.ping()
                    told = manager.wait("MAINPID", str(broker.process.pid), after=came)
                    ready = manager.wait("READY", after=told)
                    restart(broker)
                    alice.expect_close("SHUTDOWN")
                manager.wait("READY", after=manager.wait("RELOADING", after=ready))
                with Client(broker, over="tcp") as alice:
                    alice.resume(welcome, 0, name="alice")
                with Client(broker, over="ws") as bob:
                    bob.login("bob")
            check(not any("STOPPING" in message for message in manager.came), manager.came)


def scene_signs_of_life_and_a_failure():
    """The process that follows gives signs of life; of one that does not come nothing is said."""
    manager = Manager()
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "2000000"}
    with SucceededBroker(environment=environment) as broker:
        path = write_program(broker.folder, "ends", "#!/bin/sh\nexit 3\n")
        manager.wait("WATCHDOG")
        broker.upgrade()
        manager.wait("WATCHDOG", after=manager.wait("MAINPID", str(broker.process.pid)))
    with SucceededBroker({"process.upgrade_program": path}, environment=environment) as broker:
        came = len(manager.came)
        check_equal(broker.ask()[0], 1, "one that fails")
        manager.wait("WATCHDOG", after=len(manager.came))
        check(not any("MAINPID" in message for message in manager.came[came:]), manager.came)


play(
    scene_it_has_what_it_needs,
    scene_sockets_that_were_passed,
    scene_signs_of_life_and_a_failure,
)
