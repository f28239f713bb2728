# SPDX-License-Identifier: Apache-2.0
"""An address to listen on that is not there yet, or still somebody else's: the start waits for it,
says so, and comes up by itself; or ends after listen.wait_ms with 69."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time

from usherplay import Broker, Client, check, check_equal, free_port, play
from usherplay.tls import TlsBroker

IN_USE = 69
PATIENCE = 30.0
SLACK = 3.0  # seconds, on a loud machine
NOBODYS = "192.0.2.123"  # for documentation: no machine has it


@contextlib.contextmanager
def taken(port):
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", port))
        holder.listen()
        yield


def comes_up(broker, port, named, release):
    """It waits for that port, says which option it is, and is ready once `release` was called."""
    said = broker.wait_log("address_awaited", PATIENCE)
    check(named in said["error"] and str(port) in said["error"], said)
    check(not broker.log_events("ready"), "ready without its address")
    check(broker.alive(), "it does not wait")
    release()
    broker.wait_log("ready", PATIENCE)
    for event in ("address_awaited", "fewer_connections"):
        check(len(broker.log_events(event)) <= 1, f"{event} is told again with each try")
    with Client(broker) as alice:
        alice.login("alice")


def scene_a_port_that_is_held_for_a_while():
    """Any of the addresses: clients, TLS, operators, backends, feed."""
    names = ("listen.tcp", "listen.tls", "admin.listen", "http.listen", "link.urls", "feed.url")
    for option in names:
        port, kind = free_port(), TlsBroker if option == "listen.tls" else Broker
        url = f"tcp://127.0.0.1:{port}"
        options = {option: url if "url" in option else f"127.0.0.1:{port}", "listen.wait_ms": 20000}
        if option == "http.listen":  # the other address of the same server is there by then
            options["admin.listen"] = f"127.0.0.1:{free_port()}"
        with contextlib.ExitStack() as stack:
            stack.enter_context(taken(port))
            broker = kind(options, wait=False)
            with broker:
                if option == "listen.tcp":
                    broker.address = ("127.0.0.1", port)
                comes_up(broker, port, url if "url" in option else option, stack.close)


def scene_a_path_that_is_held_for_a_while():
    """The link of a broker that is about to end."""
    with Broker() as first:
        options = {"link.urls": first.link_url, "listen.wait_ms": 20000}
        with Broker(options, wait=False) as second:
            comes_up(second, first.link_path, "link.sock", first.stop)


def separated():
    """A command that starts another with a network of its own, or None where that is not allowed."""
    for command in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        probe = [*command, "sh", "-c", "ip link set lo up && ip address add 192.0.2.1/32 dev lo"]
        with contextlib.suppress(FileNotFoundError):
            if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
                return command
    return None


def scene_an_address_that_comes_later():
    command = separated()
    if command is None:
        print("     not tried: no network of our own here")
        return
    for option, value, open_network in (
        ("listen.tcp", f"{NOBODYS}:7400", "true"),
        ("link.urls", f"tcp://{NOBODYS}:7500", "false"),
    ):
        bringing = f'ip link set lo up; (sleep 1; ip address add {NOBODYS}/32 dev lo) & exec "$@"'
        options = {option: value, "auth.allow_open_network": open_network, "listen.wait_ms": 20000}
        with Broker(options, wait=False, wrapper=[*command, "sh", "-c", bringing, "sh"]) as broker:
            said = broker.wait_log("address_awaited", PATIENCE)
            check(value in said["error"] and os.strerror(99) in said["error"], said)
            check(not broker.log_events("ready"), "ready without its address")
            broker.wait_log("ready", PATIENCE)


def ends(wait_ms, **options):
    """Gives the exit code and after how many seconds it came."""
    began = time.monotonic()
    broker = Broker(
        {"listen.wait_ms": wait_ms, "auth.allow_open_network": "true", **options}, wait=False
    )
    try:
        code = broker._wait_end(PATIENCE)
        check(any(NOBODYS in line for line in broker.raw_lines()), broker.raw_lines())
        return code, time.monotonic() - began, len(broker.log_events("address_awaited"))
    finally:
        broker.close()


def scene_an_address_that_never_comes():
    never = {"listen.tcp": f"{NOBODYS}:7400"}
    code, took, lines = ends(0, **never)
    check_equal((code, lines), (IN_USE, 0), "without patience")
    at_once = took
    check(at_once < SLACK, f"without patience it took {at_once:.1f} s")
    code, took, lines = ends(2000, **never)
    check_equal((code, lines), (IN_USE, 1), "with two seconds of it")
    check(2.0 <= took < at_once + 2.0 + SLACK, f"it took {took:.1f} s")
    # The time is one for all addresses: who has waited for one does not begin anew with the next.
    port = free_port()
    with contextlib.ExitStack() as stack:
        stack.enter_context(taken(port))
        release = threading.Timer(4, stack.close)
        release.start()
        code, took, lines = ends(
            6000, **{"admin.listen": f"127.0.0.1:{port}", "link.urls": f"tcp://{NOBODYS}:1"}
        )
        release.join()
    check_equal((code, lines), (IN_USE, 2), "two of them")
    check(took < at_once + 6.0 + SLACK, f"two of them took {took:.1f} s")


def scene_stopped_while_it_waits():
    for number in (signal.SIGTERM, signal.SIGINT):
        broker = Broker(
            {
                "listen.tcp": f"{NOBODYS}:7400",
                "auth.allow_open_network": "true",
                "listen.wait_ms": 3600000,
            },
            wait=False,
        )
        broker.wait_log("address_awaited", PATIENCE)
        broker.process.send_signal(number)
        check_equal(broker._wait_end(PATIENCE), 0, "the exit code")
        broker.close()


play(
    scene_a_port_that_is_held_for_a_while,
    scene_a_path_that_is_held_for_a_while,
    scene_an_address_that_comes_later,
    scene_an_address_that_never_comes,
    scene_stopped_while_it_waits,
)
