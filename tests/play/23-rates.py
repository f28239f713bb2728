# SPDX-License-Identifier: Apache-2.0
"""What a user or an address has spent of its requests is spent, whatever becomes of the session."""

import time

from usherplay import Backend, Broker, Client, backend_pb, check, client_pb, eventually, play

GONE = backend_pb.SessionInfo.GONE
HOME, ELSEWHERE = "127.0.0.1", "127.0.0.2"


def burst(client, count):
    """So many pings at once; gives how many were answered by Pong."""
    for number in range(count):
        client.post("ping", stamp=number)
    return sum(client.next_frame().WhichOneof("body") == "pong" for _ in range(count))


def cycle(broker, name, count, end, source=HOME):
    """One session from its login to its end; gives how many of its requests passed."""
    client = Client(broker, source=source)
    client.login(name)
    passed = burst(client, count)
    end(client)
    return passed


def logout(client):
    client.ask("logout")
    client.expect_close("LOGGED_OUT")
    client.close()


def rate_of(round, seconds=2.0):
    """What passes in a second while sessions come and go, beside what may at once."""
    began = time.monotonic()
    passed = rounds = 0
    while time.monotonic() - began < seconds:
        passed += round(rounds)
        rounds += 1
    return passed, rounds, time.monotonic() - began


def scene_logout_and_login():
    """100 a second, and 100 at once: so it stays, with a new session each few milliseconds."""
    with Broker(
        {"limits.requests_per_second": 100, "limits.logins_per_minute_per_user": 0}
    ) as broker:
        passed, rounds, took = rate_of(lambda _: cycle(broker, "mallory", 50, logout))
        most = 100 * (took + 1)
        print(f"     {passed} requests in {rounds} sessions and {took:.1f} s, {most:.0f} allowed")
        check(rounds > 5, f"only {rounds} sessions")
        check(passed <= most * 1.02, f"{passed} requests passed, {most:.0f} are allowed")
        check(passed >= most * 0.5, f"only {passed} of {most:.0f} passed")


def scene_kicked_and_expired():
    """The same when others end the session, or its window is over."""
    options = {
        "limits.requests_per_second": 100,
        "session.resume_ms": 1,
        "limits.logins_per_minute_per_user": 0,
    }
    with Broker(options) as broker, Backend(broker, service="svc") as backend:

        def kick(client):
            backend.kick(client.name)
            client.expect_close("KICKED")
            client.close()

        def vanish(client):
            client.drop()
            eventually(
                lambda: backend.lookup(client.name).sessions[0].state == GONE,
                "its window is over",
                pause=0.002,
            )

        for name, end in (("kicked", kick), ("expired", vanish)):
            passed, rounds, took = rate_of(lambda _: cycle(broker, name, 50, end))
            most = 100 * (took + 1)
            check(rounds > 5 and passed <= most * 1.02, f"{name}: {passed} passed of {most:.0f}")


def scene_address():
    """Of an address as well: many names, each of them new. Another address is not touched."""
    options = {"limits.requests_per_second": 0, "limits.requests_per_second_per_source": 100}
    with Broker(options) as broker:
        passed, rounds, took = rate_of(
            lambda number: cycle(broker, f"user{number}", 50, logout, source=ELSEWHERE)
        )
        most = 100 * (took + 1)
        check(rounds > 5 and passed <= most * 1.02, f"{passed} passed of {most:.0f}")
        check(cycle(broker, "bystander", 50, logout) == 50, "another address was refused")


def scene_fight():
    """Who throws the owner out and logs out again has thrown him out."""
    with Broker({"limits.takeovers_per_minute": 3, "limits.login_deadline_ms": 60000}) as broker:
        taken = 0
        for _ in range(6):
            owner = Client(broker, source=ELSEWHERE)
            owner.login("alice")
            thief = Client(broker)
            frame = thief.ask("login", username="alice")
            if frame.WhichOneof("body") == "welcome":
                taken += 1
                thief.ask("logout")
                thief.expect_close("LOGGED_OUT")
                owner.close()
            else:
                check(frame.error.code == client_pb.Error.RATE_LIMITED, "the answer")
                owner.ping()
                logout(owner)
            thief.close()
        check(taken == 3, f"{taken} takeovers where 3 are allowed")


if __name__ == "__main__":
    play(scene_logout_and_login, scene_kicked_and_expired, scene_address, scene_fight)
