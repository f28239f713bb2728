# SPDX-License-Identifier: Apache-2.0
"""The disk answers EIO, to syncs, to writes of pages and of the meta page, once and for a while:
nobody is welcomed whose login was not synced, talk goes on, and it recovers by itself."""

from usherplay import Broker, check, check_equal, eventually, play, scaled
from usherplay.faults import OPTIONS, SECONDS, People
from usherplay.gifts import NAMES, Gifts
from usherplay.shim import (
    ALWAYS,
    DONE_AND_DENIED,
    DONE_THEN_DEAD,
    HALF,
    REFUSED,
    SYNCED_WRITES,
    SYNCS,
    WRITES,
    Shim,
)

AT_ONCE = 6

# What fails, in which manner, and how often before the disk is sound again by itself.
CASES = (
    ("a sync, once", SYNCS, REFUSED, 1),
    ("syncs, for a while", SYNCS, REFUSED, ALWAYS),
    ("a sync that worked", SYNCS, DONE_AND_DENIED, 1),
    ("the meta page, once", SYNCED_WRITES, REFUSED, 1),
    ("the meta page, for a while", SYNCED_WRITES, REFUSED, ALWAYS),
    ("the meta page, written and denied", SYNCED_WRITES, DONE_AND_DENIED, 1),
    ("a page, once", WRITES, REFUSED, 1),
    ("half a page, once", WRITES, HALF, 1),
    ("pages, for a while", WRITES, REFUSED, ALWAYS),
    ("everything, for a while", SYNCS | WRITES | SYNCED_WRITES, REFUSED, ALWAYS),
)


def broker_on(shim):
    return Broker({"store.path": shim.store, **OPTIONS}, environment=shim.environment())


def suffer(people, shim, case, rounds):
    """One case; gives the seconds until logins were taken again."""
    what, calls, manner, count = case
    people.talk(5)
    shim.fail(calls, manner=manner, count=count)
    before = people.outcomes["UNAVAILABLE"]
    for number in range(rounds):
        people.logins(
            [f"{what.split(',')[0].replace(' ', '-')}{number}.{user}" for user in range(AT_ONCE)]
        )
        people.talk(5)
    check(shim["failed"] >= 1, f"{what}: no call failed, so nothing was tried")
    refused = people.outcomes["UNAVAILABLE"] - before
    check(refused > 0, f"{what}: nobody was refused")
    if count == ALWAYS:
        check_equal(refused, rounds * AT_ONCE, f"{what}: refused while the disk failed")
    shim.heal()
    return people.recover("again")


def scene_cases():
    rounds = max(2, scaled(8))
    for case in CASES:
        with Shim() as shim, broker_on(shim) as broker, People(broker) as people:
            seconds = suffer(people, shim, case, rounds)
            people.talk()
            stream = people.check_after_kill()
            print(
                f"     {case[0]}: {people.summary()}; recovered in {seconds * 1000:.0f} ms; "
                f"{len(stream)} events"
            )


def scene_many_in_a_row():
    """All cases in one life of the broker."""
    with Shim() as shim, broker_on(shim) as broker, People(broker) as people:
        for case in CASES:
            suffer(people, shim, case, 2)
        stream = people.check_after_kill()
        print(f"     {len(CASES)} cases: {people.summary()}; {len(stream)} events")


def scene_welcome_waits_for_the_sync():
    """A sync, and then the write of the meta page, is held: no Welcome before it ends. When it then
    fails, none at all. Those who are here talk all the while."""
    with Shim() as shim, broker_on(shim) as broker, People(broker) as people:
        people.talk()
        for calls in (SYNCS, SYNCED_WRITES):
            shim.hold(calls)
            client, id = people.post_login(f"patient{calls}")
            eventually(lambda: shim["held"] > 0, "a held call", SECONDS)
            people.talk()
            client.expect_nothing(0.2)
            shim.release()
            check_equal(people.login_answer(client, id), "welcome", "after the release")

            shim.hold(calls)
            client, id = people.post_login(f"refused{calls}")
            eventually(lambda: shim["held"] > 0, "a held call", SECONDS)
            shim.fail(calls, count=1)
            client.expect_nothing(0.2)
            shim.release()
            check_equal(people.login_answer(client, id), "UNAVAILABLE", "after the failure")
            check_equal(people.login(f"refused{calls}", client)[1], "welcome", "the second try")
        people.check_after_kill()


def scene_kill_while_a_sync_is_held():
    """Killed before the commit has ended: nobody was welcomed, so both ends are right, but the
    stream must be whole and the epoch must not come back."""
    for calls in (SYNCS, SYNCED_WRITES):
        with Shim() as shim, broker_on(shim) as broker, People(broker) as people:
            people.must_login("alice")
            shim.hold(calls)
            people.post_login("bob")
            eventually(lambda: shim["held"] > 0, "a held call", SECONDS)
            broker.kill()
            shim.release()
            people.close()
            broker.restart()
            people.must_login("bob")
            people.check_after_kill()


def scene_contradiction():
    """The meta page was written, that was denied, and what should repair it was refused: the file
    says more than was answered. Nobody may be welcomed on top of a wrong answer."""
    with Shim() as shim, broker_on(shim) as broker, People(broker) as people:
        people.talk()
        shim.fail(SYNCED_WRITES, manner=DONE_THEN_DEAD)
        check_equal(people.login("bob")[1], "UNAVAILABLE", "the login whose commit failed")
        people.talk()
        shim.heal()
        seconds = people.recover("carol")
        people.check_after_kill()
        print(f"     recovered in {seconds * 1000:.0f} ms")


def scene_stored():
    """What a service was told is stored is there, once, and nothing that was refused, whatever the disk has
    done of it: also when it goes again under the same tag, after kill -9, and when its receiver comes.
    """
    for case in CASES:
        what, calls, manner, count = case
        with Shim() as shim, broker_on(shim) as broker, People(broker) as people:
            gifts = Gifts(broker)
            people.talk(5)
            check_equal(gifts.push(AT_ONCE), [], f"{what}: before it")
            shim.fail(calls, manner=manner, count=count)
            codes = [code for _ in range(3) for code in gifts.push(AT_ONCE)]
            check(codes, f"{what}: nothing was refused")
            check_equal(set(codes), {"UNAVAILABLE"}, f"{what}: what was said")
            people.talk(5)
            shim.heal()
            gifts.link()
            eventually(lambda: not gifts.push(1), f"{what}: it recovers", SECONDS)
            gifts.check()
            check_equal(gifts.push_again(), [], f"{what}: what was refused, again")
            gifts.crash()
            gifts.fetch(people, NAMES)
            gifts.lose()
            print(f"     {what}: {gifts.made} messages, {len(codes)} were refused at first")


if __name__ == "__main__":
    play(
        scene_cases,
        scene_many_in_a_row,
        scene_welcome_waits_for_the_sync,
        scene_kill_while_a_sync_is_held,
        scene_contradiction,
        scene_stored,
    )
