# SPDX-License-Identifier: Apache-2.0
"""A broker's name that has several addresses, the first of which leads nowhere: usher, usherctl,
usher-echo and usher-bench find the broker at the other one. The name stands in a hosts file that the
programs alone see, in a mount namespace of their own."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

from usherplay import Broker, check, check_equal, eventually, play, program
from usherplay.broker import free_port

# The resolver puts the nearest one first, and that is 127.0.0.1: nothing good is there.
DEAD = MUTE = "127.0.0.1"
HOME = "127.0.0.2"
PACE_SECONDS = 0.25


class Swallower:
    """Takes no connection and says nothing: its queue is full, and what comes is dropped."""

    def __init__(self, port, host=DEAD):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((host, port))
        self.listener.listen(0)
        self.fillers = [socket.socket() for _ in range(4)]
        for filler in self.fillers:
            filler.setblocking(False)
            filler.connect_ex((host, port))
        time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        for filler in self.fillers:
            filler.close()
        self.listener.close()


class Mute:
    """Takes each connection, reads, and never says a word."""

    def __init__(self, port):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((MUTE, port))
        self.listener.listen(8)
        self.taken = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self):
        try:
            while True:
                self.taken.append(self.listener.accept()[0])
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Hosts:
    """What the name game.test means to programs that are started with `wrapper`."""

    def __init__(self, *addresses):
        self.folder = tempfile.mkdtemp(prefix="usher-play-")
        self.path = os.path.join(self.folder, "hosts")
        with open(self.path, "w", encoding="ascii") as file:
            file.writelines(f"{address} game.test\n" for address in addresses)
        script = f'mount --bind {self.path} /etc/hosts && exec "$@"'
        self.wrapper = ["unshare", "-m", "sh", "-c", script, "sh"]

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        shutil.rmtree(self.folder)

    def run(self, name, *arguments, expect=0, timeout=30):
        began = time.monotonic()
        done = subprocess.run(
            [*self.wrapper, program(name), *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        check_equal(
            done.returncode,
            expect,
            f"{name} {' '.join(arguments)}: {done.stdout} " f"{done.stderr}",
        )
        return done.stdout, time.monotonic() - began


def possible():
    if (
        shutil.which("unshare")
        and subprocess.run(
            ["unshare", "-m", "sh", "-c", "mount --bind /etc/hosts /etc/hosts"],
            capture_output=True,
            check=False,
        ).returncode
        == 0
    ):
        return True
    print("     (skipped: no mount namespaces here)")
    sys.exit(77)


def broker_at_home():
    port = free_port(HOME)
    broker = Broker({"listen.tcp": f"{HOME}:{port}"}, wait=False)
    broker.port = port
    broker.wait_log("ready")
    return broker


def send(hosts, broker, **named):
    return hosts.run(
        "usher",
        "send",
        "--host",
        "game.test",
        "--port",
        str(broker.port),
        "--user",
        "alice",
        "--to",
        "alice",
        "hello",
        **named,
    )


def scene_the_first_address_swallows_everything():
    with broker_at_home() as broker, Swallower(broker.port), Hosts(DEAD, HOME) as hosts:
        _, seconds = send(hosts, broker)
        check(seconds >= PACE_SECONDS, f"{seconds:.2f} s: the dead address was not even tried")
        check(seconds < 4, f"{seconds:.2f} s: that is the whole patience of a connection")


def scene_the_first_address_takes_the_connection_and_is_mute():
    with broker_at_home() as broker, Mute(broker.port) as mute, Hosts(MUTE, HOME) as hosts:
        out, seconds = send(hosts, broker)
        check("done" in out, f"usher said {out}")
        check_equal(len(mute.taken), 1, "connections to the mute host")
        check(seconds < 9, f"{seconds:.2f} s")


def scene_a_client_that_comes_back_begins_where_the_broker_was():
    with broker_at_home() as broker, Swallower(broker.port), Hosts(DEAD, HOME) as hosts:
        listener = subprocess.Popen(
            [
                *hosts.wrapper,
                program("usher"),
                "listen",
                "--host",
                "game.test",
                "--port",
                str(broker.port),
                "--user",
                "bob",
                "--json",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            check("WELCOME" in listener.stdout.readline(), "no WELCOME")
            broker.kill()
            broker.restart()
            broker.wait_log("resumed", 20)
        finally:
            listener.kill()
            listener.communicate()


def scene_the_link():
    """nng by itself would go to the first address for ever."""
    port = free_port(HOME)
    with Broker({"link.urls": f"tcp://{HOME}:{port}"}) as broker, Swallower(port), Hosts(
        DEAD, HOME
    ) as hosts:
        url = f"tcp://game.test:{port}"
        out, seconds = hosts.run("usherctl", "--url", url, "count")
        check("sessions" in out, f"usherctl said {out}")
        print(f"     usherctl had its answer after {seconds:.2f} s")
        echo = subprocess.Popen(
            [*hosts.wrapper, program("usher-echo"), "--url", url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            eventually(lambda: broker.log_events("link_hello"), "usher-echo linked", 15)
        finally:
            echo.terminate()
            echo.wait(10)


def scene_the_bench():
    with broker_at_home() as broker, Swallower(broker.port), Hosts(DEAD, HOME) as hosts:
        out, _ = hosts.run(
            "usher-bench",
            "login",
            "-u",
            "20",
            "--host",
            "game.test",
            "--port",
            str(broker.port),
            "--json",
        )
        check('"ok":true' in out, f"usher-bench said {out}")


def scene_nobody_at_any_address():
    with broker_at_home() as broker, Swallower(broker.port), Hosts(DEAD, "127.0.0.4") as hosts:
        _, seconds = send(hosts, broker, expect=2)
        check(seconds < 9, f"{seconds:.2f} s until usher gave up")
        hosts.run(
            "usher-bench",
            "login",
            "-u",
            "2",
            "--host",
            "game.test",
            "--port",
            str(broker.port),
            "--quiet",
            expect=2,
        )


if __name__ == "__main__" and possible():
    play(
        scene_the_first_address_swallows_everything,
        scene_the_first_address_takes_the_connection_and_is_mute,
        scene_a_client_that_comes_back_begins_where_the_broker_was,
        scene_the_link,
        scene_the_bench,
        scene_nobody_at_any_address,
    )
