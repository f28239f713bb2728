# SPDX-License-Identifier: Apache-2.0
"""Fights: devices that take one name from each other in a loop are slowed down, each by its own
address, and whoever comes from elsewhere is not hindered."""

import threading
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    ConnectionEnded,
    check,
    check_equal,
    check_presence,
    client_pb,
    eventually,
    play,
    scaled,
)
from usherplay.backend import cause_name, state_name

SLOW_SECONDS = 60
HOME, ELSEWHERE = "127.0.0.1", "127.0.0.2"
OWNER_PAUSE_SECONDS = 0.1  # so that he stays within an allowance of his own


def options(per_minute, **more):
    """A connection that was refused may stay for long, so that only the answer counts."""
    return {"limits.takeovers_per_minute": per_minute, "limits.login_deadline_ms": 60000, **more}


class Device(Client):
    """A client that connects from an address of its own."""

    def __init__(self, broker, source=HOME):
        self.source = source
        super().__init__(broker, timeout=SLOW_SECONDS)

    @property
    def socket(self):
        return self._stream

    @socket.setter
    def socket(self, stream):
        """The address must be chosen before Client connects."""
        stream.bind((self.source, 0))
        self._stream = stream

    def try_login(self, name="alice"):
        """None when welcomed, else the Error, which must be RATE_LIMITED."""
        frame = self.ask("login", username=name)
        return self._outcome(frame)

    def try_resume(self, welcome, last_seq=0, name="alice"):
        return self._outcome(
            self.ask(
                "resume",
                username=name,
                epoch=welcome.epoch,
                secret=welcome.secret,
                last_seq=last_seq,
            )
        )

    def _outcome(self, frame):
        if frame.WhichOneof("body") == "welcome":
            self.welcome = frame.welcome
            return None
        check_equal(frame.WhichOneof("body"), "error", "the answer to a takeover")
        check_equal(client_pb.Error.Code.Name(frame.error.code), "RATE_LIMITED", "its code")
        check(frame.error.retry_after_ms > 0, "RATE_LIMITED without retry_after_ms")
        return frame.error


def take_over(broker, older, source=HOME):
    """Must succeed; gives the new holder."""
    newer = Device(broker, source)
    error = newer.try_login()
    check(error is None, f"a takeover from {source} was refused: {error}")
    older.expect_close("REPLACED", do_not_return=True)
    older.close()
    return newer


def takeovers(broker):
    tool = Backend(broker, hello=False, timeout=SLOW_SECONDS)
    events = tool.all_events()
    check_presence(events, first_seq=1)
    tool.close()
    return sum(cause_name(event) == "TAKEOVER" for event in events)


def stats(broker):
    tool = Backend(broker, hello=False, timeout=SLOW_SECONDS)
    numbers = tool.numbers("stats")
    tool.close()
    return numbers


def scene_n_and_one_more():
    """Four are allowed, the fifth is not; it costs neither the holder nor the newcomer anything."""
    with Broker(options(4)) as broker, Client(broker) as bob:
        bob.login("bob")
        holder = Device(broker)
        check(holder.try_login() is None, "the first login was refused")
        for _ in range(4):
            holder = take_over(broker, holder)
        refused = Device(broker)
        first = refused.try_login()
        check(first is not None, "the fifth takeover in a minute was allowed")
        check(first.retry_after_ms <= 15000, f"four a minute: retry {first.retry_after_ms} ms")
        waits = [refused.try_login().retry_after_ms for _ in range(20)]
        check(max(waits) <= first.retry_after_ms, f"trying made it worse: {waits}")
        bob.send("alice", b"still here")
        holder.expect("message", payload=b"still here")
        holder.ping()
        check_equal(takeovers(broker), 4, "takeovers that presence tells of")
        numbers = stats(broker)
        check_equal((numbers["takeovers"], numbers["takeovers_damped"]), (4, 21), "in the numbers")
        broker.wait_log("takeover_damped")
        print(f"     4 allowed, 21 refused; retry after {first.retry_after_ms} ms")
        check(refused.try_login("carol") is None, "the connection is good for another name")
        refused.ping()
        for client in (holder, refused):
            client.close()


def scene_resume_counts():
    """A Resume throws a living connection out as a Login does, and counts the same; one with a
    wrong secret throws nobody out, and costs nothing."""
    with Broker(options(4)) as broker:
        holder = Device(broker)
        holder.login("alice")
        welcome = holder.welcome
        wrong = client_pb.Welcome(epoch=welcome.epoch, secret=b"x" * 16)
        for _ in range(10):
            with Device(broker) as guess:
                guess.post("resume", username="alice", epoch=wrong.epoch, secret=wrong.secret)
                guess.expect_error("RESUME_REJECTED")
        for _ in range(4):
            newer = Device(broker)
            check(newer.try_resume(welcome) is None, "a resume was refused")
            holder.expect_close("STALE_SESSION", do_not_return=True)
            holder.close()
            holder = newer
        with Device(broker) as newer:
            check(newer.try_resume(welcome) is not None, "the fifth resume was allowed")
            check(newer.try_login() is not None, "a login behind four resumes was allowed")
        holder.ping()
        holder.close()


def lose(backend, client):
    client.drop()
    eventually(
        lambda: state_name(backend.lookup("alice").sessions[0]) == "DETACHED",
        "alice detached",
        SLOW_SECONDS,
    )


def scene_only_the_living_are_fought_over():
    """A session without a connection may be taken as often as one likes."""
    with Broker(options(1)) as broker:
        backend = Backend(broker, hello=False, timeout=SLOW_SECONDS)
        for _ in range(10):
            client = Device(broker)
            check(client.try_login() is None, "a login over a detached session was refused")
            for _ in range(3):
                lose(backend, client)
                again = Device(broker)
                check(again.try_resume(client.welcome) is None, "a resume was refused")
                client = again
            lose(backend, client)
        for _ in range(10):
            client = Device(broker)
            check(client.try_login() is None, "a login of one who had logged out was refused")
            client.post("logout")
            client.read_to_end()
            client.close()
        check_equal(stats(broker)["takeovers_damped"], 0, "takeovers_damped")
        backend.close()


def scene_switched_off():
    with Broker(options(0)) as broker:
        holder = Device(broker)
        holder.login("alice")
        count = scaled(200, 60)
        for _ in range(count):
            holder = take_over(broker, holder)
        check_equal(takeovers(broker), count, "takeovers")
        holder.close()


def scene_given_back():
    """The allowance comes back evenly: after retry_after_ms the same connection gets in."""
    with Broker(options(60)) as broker:
        holder = Device(broker)
        holder.login("alice")
        began = time.monotonic()
        done = 0
        for _ in range(3):
            newer = Device(broker)
            while (error := newer.try_login()) is None:
                done += 1
                holder.close()
                holder, newer = newer, Device(broker)
            check(error.retry_after_ms <= 1000, f"60 a minute: retry {error.retry_after_ms} ms")
            holder.ping()
            time.sleep(error.retry_after_ms / 1000)
            error = newer.try_login()
            check(error is None, f"after retry_after_ms it is refused again: {error}")
            done += 1
            holder.expect_close("REPLACED")
            holder = newer
        took = time.monotonic() - began
        check(done >= 60, f"only {done} takeovers of 60 were allowed")
        check(done <= 60 + took + 1, f"{done} takeovers in {took:.1f} s")
        print(f"     {done} takeovers in {took:.1f} s at 60 a minute")
        holder.close()


class Fighter:
    """A client as bad ones are: it ignores do_not_return and retry_after_ms and tries at once."""

    def __init__(self, broker, source, until):
        self.broker, self.source, self.until = broker, source, until
        self.won = self.refused = 0
        self.problem = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            device = Device(self.broker, self.source)
            while time.monotonic() < self.until:
                try:
                    error = device.try_login()
                except ConnectionEnded:  # limits.prelogin_bytes are spent on trying
                    device.close()
                    device = Device(self.broker, self.source)
                    continue
                if error is not None:
                    self.refused += 1
                    continue
                self.won += 1
                device = self._hold(device)
            device.close()
        except BaseException as error:  # raised by join()
            self.problem = error

    def _hold(self, device):
        """Until thrown out, or the end; gives the next connection."""
        while time.monotonic() < self.until and not device.ended:
            device.receive_more(0.05)
        device.close()
        return Device(self.broker, self.source)

    def join(self):
        self.thread.join(SLOW_SECONDS)
        check(not self.thread.is_alive(), "a fighter does not end")
        if self.problem is not None:
            raise self.problem


def scene_fight():
    """Two devices of one address fight; everybody sees the damped rate, and the owner, who comes
    from elsewhere, gets in at the first try, whenever he was thrown out."""
    per_minute, seconds = 60, 4
    with Broker(options(per_minute)) as broker:
        began = time.monotonic()
        fighters = [Fighter(broker, HOME, began + seconds) for _ in range(2)]
        entries = 0
        while time.monotonic() < began + seconds:
            owner = Device(broker, ELSEWHERE)
            error = owner.try_login()
            check(error is None, f"the owner was kept out: {error}")
            entries += 1
            while not owner.ended and time.monotonic() < began + seconds:
                owner.receive_more(0.1)
            time.sleep(OWNER_PAUSE_SECONDS)
            owner.close()
        for fighter in fighters:
            fighter.join()
        took = time.monotonic() - began
        seen, refused = takeovers(broker), sum(fighter.refused for fighter in fighters)
        print(
            f"     {seen} takeovers in {took:.1f} s, {refused} refused; the owner got in "
            f"{entries} times of {entries}"
        )
        check(refused > 0, "nobody was refused")
        # When the last of them left, another login met a session without a connection.
        bound = per_minute * (1 + took / 60) + entries + 3
        check(seen <= bound, f"{seen} takeovers in {took:.1f} s, {entries} of them the owner's")


def scene_many_attackers():
    """However many addresses have spent what they had, the owner's next login goes through."""
    with Broker(options(2)) as broker:
        holder = Device(broker, ELSEWHERE)
        check(holder.try_login() is None, "the first login was refused")
        for number in range(3, 11):
            source = f"127.0.0.{number}"
            for _ in range(2):
                holder = take_over(broker, holder, source)
            if number % 4 == 2:
                holder = take_over(broker, holder, f"127.0.1.{number}")
        owner = take_over(broker, holder, ELSEWHERE)
        owner.ping()
        owner.close()


if __name__ == "__main__":
    play(
        scene_n_and_one_more,
        scene_resume_counts,
        scene_only_the_living_are_fought_over,
        scene_switched_off,
        scene_given_back,
        scene_fight,
        scene_many_attackers,
    )
