# SPDX-License-Identifier: Apache-2.0
"""An orderly stop and a restart: who was here is told, waited for, and counted once."""

import signal
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
    logged_in,
    play,
)
from usherplay.backend import cause_name, kind_name, state_name


def scene_stop_says_so():
    with Broker() as broker:
        clients = logged_in(broker, [f"user{number}" for number in range(20)])
        stranger = Client(broker)  # connected, not logged in
        began = time.monotonic()
        check_equal(broker.stop(), 0, "exit code of the orderly stop")
        print(f"     stopped in {(time.monotonic() - began) * 1000:.0f} ms")
        for client in clients:
            client.expect_close("SHUTDOWN")
        stranger.read_to_end()
        check(
            broker.log_events("stopping") and broker.log_events("stopped"),
            "no stopping and stopped in the log",
        )
        check_equal(broker.raw_lines(), [], "lines that are not the log")


def scene_stop_under_load():
    """What was answered Done before the end has arrived, or waits in the inbox."""
    with Broker() as broker:
        alice, bob = Client(broker), Client(broker)
        alice.login("alice")
        bob.login("bob")
        for number in range(200):
            alice.post("send", to="bob", payload=b"%d" % number)
        check_equal(broker.stop(), 0, "exit code")
        done = sum(frame.WhichOneof("body") == "done" for frame in alice.read_to_end())
        got = [
            int(frame.message.payload)
            for frame in bob.read_to_end()
            if frame.WhichOneof("body") == "message"
        ]
        check_equal(got, list(range(len(got))), "the messages before the end")
        check(len(got) >= done, f"{done} answered Done, {len(got)} arrived")
        print(f"     {done} done, {len(got)} arrived")


def scene_restart():
    with Broker({"session.resume_ms": 2000}) as broker:
        names = [f"user{number}" for number in range(8)]
        clients = {name: Client(broker) for name in names}
        welcomes = {name: client.login(name) for name, client in clients.items()}
        clients["user7"].drop()  # detached before the stop
        backend = Backend(broker, presence=True)
        before = backend.all_events()
        boot = backend.node_boot
        check_equal(broker.stop(), 0, "exit code")
        backend.lose()
        broker.restart()
        print(f"     ready again in {broker.ready_seconds * 1000:.0f} ms")
        backend = Backend(broker, presence=True, presence_after=before[-1].seq)
        check(backend.node_boot != boot, "node_boot is the same after a restart")
        infos = {info.user: info for info in backend.list_all()[0]}
        check_equal(sorted(infos), names, "who is remembered")
        for name in names:
            check_equal(
                (state_name(infos[name]), infos[name].epoch),
                ("DETACHED", welcomes[name].epoch),
                f"{name} after the restart",
            )
        resumed = Client(broker)  # one resumes, one logs in, the others stay away
        again = resumed.resume(welcomes["user0"], 0, name="user0")
        check_equal(again.epoch, welcomes["user0"].epoch, "epoch of the resumed session")
        newer = Client(broker)
        epoch = newer.login("user1").epoch
        check(epoch > welcomes["user1"].epoch, "the epoch does not rise over a restart")
        event = backend.wait_event("user1", "ONLINE", "TAKEOVER", epoch)
        check_equal(event.previous_epoch, welcomes["user1"].epoch, "previous_epoch")
        for name in names[2:]:
            backend.wait_event(name, "OFFLINE", "EXPIRED", welcomes[name].epoch)
        events = backend.all_events()
        check_equal(events[: len(before)], before, "the stream of before the restart")
        living = check_presence(events, first_seq=1)
        check_equal(
            living,
            {"user0": ("ONLINE", welcomes["user0"].epoch), "user1": ("ONLINE", epoch)},
            "who lives",
        )
        for name in names:
            detached = [
                cause_name(event)
                for event in events
                if event.user == name and kind_name(event) == "DETACHED"
            ]
            wanted = ("LOST",) if name == "user7" else ("RESTART", "SHUTDOWN")
            check(len(detached) == 1 and detached[0] in wanted, f"{name} was detached {detached}")
        resumed.ping()
        newer.ping()
        for client in (resumed, newer):
            client.close()
        backend.lose()


def scene_window_is_fresh():
    """The window counts from the restart, not from the loss: being down is not the user's fault."""
    with Broker({"session.resume_ms": 1500}) as broker:
        alice = Client(broker)
        welcome = alice.login("alice")
        alice.drop()
        time.sleep(1.0)
        check_equal(broker.stop(), 0, "exit code")
        time.sleep(1.0)
        broker.restart()
        with Client(broker) as alice:
            check_equal(alice.resume(welcome, 0, name="alice").epoch, welcome.epoch, "epoch")


def scene_inbox_over_a_restart():
    """An orderly stop keeps what waits; a kill does not, and the resume says so. 79-stop does the
    same under load."""
    for how, expected in (("stop", ("COMPLETE", [b"0", b"1", b"2"])), ("kill", ("PARTIAL", []))):
        with Broker() as broker:
            backend = Backend(broker, presence=True)
            bob = Client(broker)
            bob.login("bob")
            alice = Client(broker)
            welcome = alice.login("alice", acks=True)
            alice.drop()
            backend.wait_event("alice", "DETACHED")
            for number in range(3):
                bob.send("alice", b"%d" % number)
            getattr(broker, how)()
            broker.restart()
            with Client(broker) as alice:
                again = alice.resume(welcome, 0, name="alice")
                word = client_pb.Welcome.Replay.Name(again.replay)
                alice.ping()  # what is kept comes before its answer
                got = [frame.message.payload for frame in alice.frames]
                check_equal((word, got), expected, f"the resume after {how}")
            bob.close()
            backend.lose()


def scene_backend_over_a_restart():
    with Broker() as broker:
        backend = Backend(broker, service="chat", presence=True)
        backend.fetch(wait_ms=1)
        broker.stop()
        broker.restart()
        backend.lose()
        try:
            backend.fetch(wait_ms=1)
            check(False, "a link of before the restart is still known")
        except AssertionError as error:
            check("STALE_LINK" in str(error), str(error))
        backend.presence_after = backend.presence_done
        backend.hello()
        with Client(broker) as alice:
            alice.login("alice")
            alice.post("call", service="chat", method="m")
            backend.reply(backend.expect_call())
            alice.expect("reply")
            backend.wait_event("alice", "ONLINE")
        backend.lose()


def scene_stop_at_any_time():
    """SIGTERM while it starts, twice, and right behind ready."""
    for delay in (0, 0.005, 0.02, 0.05):
        broker = Broker(wait=False)
        time.sleep(delay)
        broker.process.send_signal(signal.SIGTERM)
        code = broker.stop()
        # Before its handler is there, the signal simply ends the process.
        check(code in (0, -signal.SIGTERM), f"SIGTERM after {delay} s: exit {code}")
        broker.close()
    broker = Broker()
    broker.process.send_signal(signal.SIGTERM)
    broker.process.send_signal(signal.SIGTERM)
    check_equal(broker.stop(), 0, "exit code after two signals")
    broker.close()


def scene_stop_with_one_who_does_not_read():
    with Broker(
        {
            "limits.output_soft_ms": 600000,
            "limits.output_bytes": 64 << 20,
            "limits.output_soft_bytes": 64 << 20,
        }
    ) as broker:
        bob = Client(broker)
        bob.login("bob")
        slow = Client(broker, receive_buffer=4096)
        slow.login("slow")
        for _ in range(120):
            bob.ask("send", to="slow", payload=b"f" * 60000)
        began = time.monotonic()
        check_equal(broker.stop(), 0, "exit code")
        took = time.monotonic() - began
        print(f"     stopped in {took:.2f} s beside one who does not read")
        check(took < 8, f"the stop took {took:.1f} s")
        slow.drop()


def scene_kill_and_ghosts():
    """After kill -9 everybody who does not come back is reported offline, once."""
    with Broker({"session.resume_ms": 800}) as broker:
        clients = logged_in(broker, [f"user{number}" for number in range(10)])
        broker.kill()
        broker.restart()
        tool = Backend(broker, hello=False)
        eventually(lambda: not tool.list_all()[0], "an empty map")
        check_equal(check_presence(tool.all_events(), first_seq=1), {}, "who lives")
        tool.lose()


if __name__ == "__main__":
    play(
        scene_stop_says_so,
        scene_stop_under_load,
        scene_restart,
        scene_window_is_fresh,
        scene_inbox_over_a_restart,
        scene_backend_over_a_restart,
        scene_stop_at_any_time,
        scene_stop_with_one_who_does_not_read,
        scene_kill_and_ghosts,
    )
