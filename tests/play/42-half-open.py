# SPDX-License-Identifier: Apache-2.0
"""A peer that is gone without a word: its link is down, and neither FIN nor RST ever comes.

The clients live in a network namespace behind a veth pair whose link is taken down. Where that is
not permitted, a relay that stops moving bytes takes its place, so that the check always runs."""

import ctypes
import os
import shutil
import signal
import subprocess
import threading
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    check,
    check_equal,
    check_presence,
    client_pb,
    eventually,
    free_port,
    logged_in,
    play,
    scaled,
)
from usherplay.backend import cause_name, kind_name
from usherplay.relay import Relay
from usherplay.stage import OVER, Failed

LARGE = bool(os.environ.get("USHER_PLAY_LARGE"))
HEARTBEAT = 1.0
EARLY = 0.02  # the clocks of two processes and the rounding to milliseconds
SLACK = 10.0  # for slow machines; what was measured is printed
CLONE_NEWNET = 0x40000000


def run(*command):
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=10
    )


class Namespace:
    """A network namespace joined to ours by a veth pair. Raises OSError, or what subprocess
    raises, where that is not permitted."""

    def __init__(self):
        number = os.getpid() % 16384
        self.ours, self.theirs = f"ush{number}a", f"ush{number}b"
        third, fourth = number // 64, number % 64 * 4
        self.host, self.guest = f"10.213.{third}.{fourth + 1}", f"10.213.{third}.{fourth + 2}"
        self.holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo in; cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.made = False
        try:
            self._join()
        except BaseException:
            self.close()
            raise

    def _join(self):
        if self.holder.stdout.readline() != b"in\n":
            raise OSError("unshare --net is not permitted")
        inside = ("nsenter", "--target", str(self.holder.pid), "--net")
        run(
            "ip",
            "link",
            "add",
            self.ours,
            "type",
            "veth",
            "peer",
            "name",
            self.theirs,
            "netns",
            str(self.holder.pid),
        )
        self.made = True
        run("ip", "address", "add", f"{self.host}/30", "dev", self.ours)
        run("ip", "link", "set", self.ours, "up")
        run(*inside, "ip", "address", "add", f"{self.guest}/30", "dev", self.theirs)
        run(*inside, "ip", "link", "set", self.theirs, "up")
        run(*inside, "ip", "link", "set", "lo", "up")

    def inside(self, work):
        """Runs it in a thread that lives in the namespace: sockets made there stay there."""
        result = []

        def enter():
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                with open(f"/proc/{self.holder.pid}/ns/net", "rb") as space:
                    if libc.setns(space.fileno(), CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                result.append((work(), None))
            except Exception as error:
                result.append((None, error))

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        value, error = result[0]
        if error is not None:
            raise error
        return value

    def link(self, state):
        run("ip", "link", "set", self.ours, state)

    def close(self):
        if self.made:
            subprocess.run(["ip", "link", "delete", self.ours], stderr=subprocess.DEVNULL)
        self.holder.stdin.close()
        self.holder.wait()


class ByLink:
    """Clients behind a veth pair."""

    def __init__(self):
        if shutil.which("ip") is None:
            raise OSError("there is no program ip")
        self.space = Namespace()
        self.options = {"auth.allow_open_network": "true"}
        self.host = self.space.host

    def connect(self, broker):
        return self.space.inside(lambda: Client(broker.address, timeout=20))

    def down(self):
        self.space.link("down")

    def up(self):
        self.space.link("up")

    def close(self):
        self.space.close()


class ByRelay:
    """Clients behind a relay that stops."""

    def __init__(self):
        self.options = {}
        self.host = "127.0.0.1"
        self.relay = None
        self.clients = []

    def connect(self, broker):
        self.relay = self.relay or Relay(broker)
        client = self.relay.connect(lambda: Client(self.relay, timeout=20))
        self.clients.append(client)
        return client

    def down(self):
        for client in self.clients:
            client.pipe.pause()
        eventually(lambda: all(client.pipe.paused for client in self.clients), "a silent relay")

    def up(self):
        for client in self.clients:
            client.pipe.go_on()

    def close(self):
        if self.relay:
            self.relay.close()


def start(network, options):
    """A broker where those clients can reach it."""
    port = free_port()
    broker = Broker({**network.options, **options, f"listen.{OVER}": f"{network.host}:{port}"})
    broker.address = (network.host, port)
    return broker


def last_words(clients, said):
    """Everybody talks for two heartbeats, so that nobody may be given up. `said` has when each
    said something last, and is kept up to date; gives the longest time of silence."""
    silence = 0
    for round in range(9):
        for client in clients:
            silence = max(silence, time.monotonic() - said[client.name])
            said[client.name] = time.monotonic()
            client.ping()
        time.sleep(HEARTBEAT / 4 if round < 8 else 0)
    return silence


def detached_after(backend, names, said, control, talk):
    """Seconds from each one's last word to his DETACHED event, which must have a cause that fits;
    the control goes on talking meanwhile."""
    found = {}
    deadline = time.monotonic() + 2 * HEARTBEAT + SLACK
    seen = len(backend.events)
    while len(found) < len(names):
        check(
            time.monotonic() < deadline,
            f"not noticed in two heartbeats and {SLACK} s: {sorted(set(names) - set(found))}",
        )
        backend.fetch(wait_ms=10)
        control.ping()
        for event in backend.events[seen:]:
            if event.user in names and kind_name(event) == "DETACHED":
                check(event.user not in found, f"{event.user} was detached twice")
                check(
                    cause_name(event) in ("HEARTBEAT", "SLOW_CONSUMER"),
                    f"{event.user} was detached for {cause_name(event)}",
                )
                found[event.user] = time.monotonic() - said[event.user]
                if cause_name(event) == "HEARTBEAT":
                    check(
                        found[event.user] >= 2 * HEARTBEAT - EARLY,
                        f"{event.user} was given up {found[event.user]:.3f} s after his word",
                    )
        seen = len(backend.events)
        talk()
    return found


class Stalled(Exception):
    """The machine was too slow for the heartbeat."""


class Talk:
    """A bystander who goes on sending to those whose link is down."""

    def __init__(self, broker, names):
        self.client = Client(broker)
        self.client.login("talker")
        self.names = names
        self.sent = 0

    def __call__(self):
        for name in self.names if self.sent < 100 else ():  # what waits must fit into the replay
            self.client.post("send", id=0, to=name, payload=b"%d" % self.sent + b" " * 2000)
        self.sent += 1
        self.client.ping()


def scene(network):
    count = 100 if LARGE else scaled(20, 6)
    options = {
        "session.heartbeat_ms": int(HEARTBEAT * 1000),
        "session.resume_ms": 600000,
        "limits.inbox_messages": 65536,
        "limits.inbox_bytes": 1 << 28,
    }
    with start(network, options) as broker:
        backend = Backend(broker, presence=True)
        control = Client(broker)
        control.login("control")
        names = [f"{kind}{number}" for number in range(count // 2) for kind in ("idle", "busy")]
        clients, said = {}, {"control": time.monotonic()}
        for name in names:
            clients[name] = network.connect(broker)
            said[name] = time.monotonic()
            clients[name].login(name, acks=True)
            control.ping()
        silence = last_words([control, *clients.values()], said)
        if any(kind_name(event) == "DETACHED" for event in backend.all_events()):
            check(silence > 2 * HEARTBEAT - EARLY, "somebody was given up while he talked")
            raise Stalled  # it was this side that fell silent
        network.down()
        talk = Talk(broker, [name for name in names if name.startswith("busy")])
        found = detached_after(backend, names, said, control, talk)
        report(found, backend)
        network.up()
        come_back(network, broker, clients, backend)
        control.ping()
        for client in [control, talk.client, *clients.values()]:
            client.close()
        backend.close()


def report(found, backend):
    for kind in ("idle", "busy"):
        waits = sorted(wait for name, wait in found.items() if name.startswith(kind))
        causes = {
            cause_name(event)
            for event in backend.events
            if event.user.startswith(kind) and kind_name(event) == "DETACHED"
        }
        print(
            f"     {len(waits)} {kind}: noticed {waits[0]:.2f} to {waits[-1]:.2f} s after the "
            f"last word (two heartbeats are {2 * HEARTBEAT:.1f} s), {' '.join(sorted(causes))}"
        )


def come_back(network, broker, clients, backend):
    """The link is up again: the old connection is over, the session goes on where it was, and
    nobody was detached a second time or called offline."""
    for name, client in clients.items():
        again = network.connect(broker)
        again.resume(client.welcome, 0, name=name)
        check_equal(again.welcome.replay, client_pb.Welcome.COMPLETE, f"{name}: replay")
        client.close()
        clients[name] = again
    for client in clients.values():
        client.ping()
    events = backend.all_events()
    check_presence(events, first_seq=1)
    for name in clients:
        kinds = [kind_name(event) for event in events if event.user == name]
        check_equal(kinds, ["ONLINE", "DETACHED", "RESUMED"], f"the events of {name}")


def in_time(network):
    """Anew when the machine has stalled."""
    for attempt in range(5):
        try:
            scene(network)
            return
        except Stalled:
            print("     the machine has stalled: anew")
    raise Failed("the machine stalls each time")


def scene_link_down():
    try:
        network = ByLink()
    except (OSError, subprocess.SubprocessError) as error:
        print(f"     no network namespace here ({error}): the relay takes its place")
        return
    try:
        in_time(network)
    finally:
        network.close()


def scene_relay_silent():
    network = ByRelay()
    try:
        in_time(network)
    finally:
        network.close()


# --- the broker itself stands still ---------------------------------------------------------------

PAUSE = 3.0


def scene_the_broker_stood_still():
    """SIGSTOP, longer than every deadline: what was said meanwhile waits in its sockets, and what
    nobody could do meanwhile nobody has missed."""
    options = {
        "session.heartbeat_ms": 500,
        "limits.login_deadline_ms": 1500,
        "session.resume_ms": 2500,
        "link.fetch_timeout_ms": 1500,
        "link.grace_ms": 1500,
        "limits.call_timeout_ms": 2000,
    }
    with Broker(options) as broker, Backend(broker, "chat") as backend:
        clients = logged_in(broker, [f"user{number}" for number in range(20)])
        away = Client(broker)
        welcome = away.login("away")
        away.drop()
        eventually(lambda: backend.numbers("stats")["sessions_detached"] == 1, "away is detached")
        called = clients[0].post("call", service="chat", method="m")
        call = backend.expect_call()
        backend.fetch(wait_ms=1)
        knocking = Client(broker)  # connected, its login not sent yet
        time.sleep(0.1)
        os.kill(broker.process.pid, signal.SIGSTOP)
        began = time.monotonic()
        try:
            knocking.post("login", username="knocking")
            while time.monotonic() - began < PAUSE:
                for client in clients:
                    client.post("ping", id=0, stamp=1)
                time.sleep(0.1)
        finally:
            os.kill(broker.process.pid, signal.SIGCONT)
        knocking.expect("welcome", id=1)
        backend.reply(call.call, 0, b"late")
        check_equal(clients[0].answer_to(called).reply.payload, b"late", "the call's answer")
        again = Client(broker)
        again.resume(welcome, 0, name="away")
        for number, client in enumerate(clients):
            client.ping()
        events = backend.all_events()
        check_presence(events, first_seq=1)
        causes = [
            (event.user, cause_name(event))
            for event in events
            if kind_name(event) in ("DETACHED", "OFFLINE")
        ]
        check_equal(causes, [("away", "LOST")], "who was lost")
        stats = backend.numbers("stats")
        check_equal(
            (stats["closed_heartbeat"], stats["closed_auth_timeout"], stats["calls_timed_out"]),
            (0, 0, 0),
            "deadlines that struck",
        )
        check(
            stats["stood_still_ms"] > 1000 * (PAUSE - 1), f"stood still: {stats['stood_still_ms']}"
        )
        broker.wait_log("stood_still")
        eventually(
            lambda: backend.numbers("stats")["closed_heartbeat"] > 0,
            "silence is noticed, when it is awake",
            timeout=SLACK,
        )
        for client in clients + [again, knocking]:
            client.close()


if __name__ == "__main__":
    play(scene_link_down, scene_relay_silent, scene_the_broker_stood_still)
