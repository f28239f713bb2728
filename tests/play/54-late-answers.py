# SPDX-License-Identifier: Apache-2.0
"""Answers that come too late. Two logins of a user use the same request ids: an answer to a call of
one never reaches the other, whoever gives it, over whichever link, before or after a restart."""

import collections

from usherplay import Backend, Broker, Client, LinkRefused, check, check_equal, play, scaled, seed
from usherplay.backend import code_name, reply_to

QUICK = {"link.park_ms": 200, "link.grace_ms": 300, "link.fetch_timeout_ms": 800}
SLOW_SECONDS = 60


class Player(Client):
    """Remembers what it asked, by id."""

    def __init__(self, broker):
        super().__init__(broker, timeout=SLOW_SECONDS)
        self.asked = {}  # id -> number
        self.replies = 0


def new_client(broker):
    return Player(broker)


def call(client, payload=b"", timeout_ms=60000):
    return client.post("call", service="chat", method="m", payload=payload, timeout_ms=timeout_ms)


def answer_of(call):
    return b"%s %d %s" % (call.user.encode(), call.epoch, call.payload)


def take_over(broker, older):
    """Newest wins, and its ids begin at 1 again."""
    newer = new_client(broker)
    newer.login(older.name)
    older.read_to_end()
    older.close()
    return newer


def log_out_and_in(broker, older):
    older.post("logout")
    older.read_to_end()
    older.close()
    newer = new_client(broker)
    newer.login(older.name)
    return newer


def lose_and_log_in(broker, older):
    older.drop()
    newer = new_client(broker)
    newer.login(older.name)
    return newer


WAYS = (take_over, log_out_and_in, lose_and_log_in)


def scene_answer_after_another_login():
    """The old call is answered after the new login has made one with the same id: before the new
    one's answer, and after it."""
    with Broker() as broker, Backend(broker, service="chat", timeout=SLOW_SECONDS) as backend:
        for way in WAYS:
            for late_first in (True, False):
                client = new_client(broker)
                client.login("alice")
                id = call(client, b"old")
                old = backend.expect_call(SLOW_SECONDS)
                client = way(broker, client)
                check_equal(call(client, b"new"), id, "the id of the new login's call")
                new = backend.expect_call(SLOW_SECONDS)
                check(new.epoch > old.epoch and new.call != old.call, "two calls look the same")
                order = (old, new) if late_first else (new, old)
                for each in order:
                    backend.reply(each, 0, answer_of(each))
                client.ping()
                frame = client.expect("reply", id=id)
                check_equal(frame.reply.payload, answer_of(new), f"the reply after {way.__name__}")
                client.expect_nothing(0)
                client.close()


def scene_answer_while_nothing_waits():
    """The new login has called nothing: the late answer is dropped, and its id is free."""
    with Broker() as broker, Backend(broker, service="chat", timeout=SLOW_SECONDS) as backend:
        for way in WAYS:
            client = new_client(broker)
            client.login("alice")
            call(client, b"old")
            old = backend.expect_call(SLOW_SECONDS)
            client = way(broker, client)
            backend.reply(old, 0, answer_of(old))
            client.last_id = 10
            client.ping()
            client.expect_nothing(0)
            client.last_id = 0
            call(client, b"new")
            new = backend.expect_call(SLOW_SECONDS)
            backend.reply(new, 0, answer_of(new))
            client.expect("reply", id=1, payload=answer_of(new))
            client.close()


def scene_answer_to_a_resumed_session():
    """The same epoch: here the late answer is the right one, and comes once."""
    with Broker() as broker, Backend(broker, service="chat", presence=True) as backend:
        client = new_client(broker)
        welcome = client.login("alice")
        id = call(client, b"old")
        old = backend.expect_call(SLOW_SECONDS)
        client.drop()
        backend.wait_event("alice", "DETACHED", timeout=SLOW_SECONDS)
        check_equal(code_name(backend.reply(old, 0, answer_of(old))), "OK", "the reply")
        client = new_client(broker)
        client.resume(welcome, 0, name="alice")
        client.expect("reply", id=id, payload=answer_of(old))
        check_equal(code_name(backend.reply(old, 0, b"again")), "GONE", "a second reply")
        client.ping()
        client.expect_nothing(0)
        client.close()


def scene_answer_after_a_restart():
    """The broker forgot the call. The backend answers it over its new link, as none should, while a
    call with the same id waits: the numbers of calls are not given again."""
    for how in ("stop", "kill"):
        with Broker() as broker:
            backend = Backend(broker, service="chat", timeout=SLOW_SECONDS)
            client = new_client(broker)
            welcome = client.login("alice")
            ids = [call(client, b"old") for _ in range(20)]
            old = [backend.expect_call(SLOW_SECONDS) for _ in ids]
            old_link = backend.link
            getattr(broker, how)()
            client.close()
            backend.lose()
            broker.restart()
            refused(backend, old)
            backend.hello()
            check(backend.link != old_link, "a link's number was given again")
            for again in ("resume", "login"):
                client = new_client(broker)
                if again == "resume":
                    client.resume(welcome, 0, name="alice")
                else:
                    client.login("alice")
                client.last_id = ids[0] - 1  # the ids of the old calls
                for _ in ids:
                    call(client, b"new")
                new = [backend.expect_call(SLOW_SECONDS) for _ in ids]
                check_late_answers(backend, client, old, new)
                client.close()
            backend.lose()


def refused(backend, calls):
    try:
        backend.submit(*[reply_to(each, 0, b"stale") for each in calls])
    except LinkRefused as refusal:
        check_equal(refusal.code, "STALE_LINK", "the refusal of a stale link")
        backend.lose()
        return
    check(False, "an answer over a link of before the restart was taken")


def check_late_answers(backend, client, old, new):
    """Answers to the old ones change nothing, and each new one gets its own."""
    check(
        not {each.call for each in old} & {each.call for each in new},
        "the number of a call was given again",
    )
    codes = {
        code_name(result)
        for result in backend.submit(*[reply_to(each, 0, b"stale") for each in old])
    }
    check_equal(codes, {"GONE"}, "results of answers to calls of before")
    client.ping()
    client.expect_nothing(0)
    backend.submit(*[reply_to(each, 0, b"%d" % each.call) for each in new])
    got = [client.expect("reply").reply.payload for _ in new]
    check_equal(sorted(got), sorted(b"%d" % each.call for each in new), "the replies")


def scene_links_are_not_given_again():
    """Nor are the numbers of links: what was meant for the node of before is refused."""
    links = set()
    with Broker() as broker:
        for _ in range(3):
            backend = Backend(broker, service="chat", timeout=SLOW_SECONDS)
            check(backend.link not in links, f"link {backend.link} was given again")
            links.add(backend.link)
            backend.fetch(wait_ms=1)
            broker.kill()
            backend.lose()
            broker.restart()


def scene_id_used_again():
    """A call that timed out leaves its id free: its late answer is not that of the next."""
    with Broker() as broker, Backend(broker, service="chat", timeout=SLOW_SECONDS) as backend:
        client = new_client(broker)
        client.login("alice")
        for _ in range(5):
            client.last_id = 0
            id = call(client, b"old", timeout_ms=50)
            old = backend.expect_call(SLOW_SECONDS)
            client.expect_error("TIMEOUT", id=id)
            client.last_id = 0
            check_equal(call(client, b"new"), id, "the id of the next call")
            new = backend.expect_call(SLOW_SECONDS)
            check_equal(code_name(backend.reply(old, 0, b"late")), "GONE", "a late reply")
            backend.reply(new, 0, b"right")
            client.expect("reply", id=id, payload=b"right")
        client.close()


def scene_answer_of_the_wrong_instance():
    """Who does not have the call, or has it no longer, cannot answer it."""
    with Broker(QUICK) as broker:
        one = Backend(broker, service="chat", instance="one", timeout=SLOW_SECONDS)
        other = Backend(broker, service="shop", instance="other", timeout=SLOW_SECONDS)
        client = new_client(broker)
        client.login("alice")
        id = call(client, b"for one")
        mine = one.fetch(wait_ms=SLOW_SECONDS * 1000).mail[0].call
        check_equal(code_name(other.reply(mine, 0, b"not mine")), "GONE", "a stranger's reply")
        two = Backend(broker, service="chat", instance="two", timeout=SLOW_SECONDS)
        one.lose()  # without a word; nothing was acknowledged
        moved = two.expect_call(SLOW_SECONDS)
        check_equal((moved.payload, moved.redelivered), (b"for one", True), "the call that moved")
        refused(one, [mine])
        one.hello()
        check_equal(code_name(one.reply(mine, 0, b"no longer mine")), "GONE", "the loser's reply")
        client.ping()
        client.expect_nothing(0)
        two.reply(moved, 0, b"two")
        client.expect("reply", id=id, payload=b"two")
        client.close()
        for backend in (one, two, other):
            backend.close()


def scene_answers_in_any_order():
    """Many users call and log in again at random, answers come at random, some after their login
    has ended: each answer that comes is the caller's own."""
    random = seed()
    count = scaled(4000, 400)
    codes, held, replies = collections.Counter(), [], 0
    with Broker({"link.mail_items": 100000}) as broker, Backend(
        broker, service="chat", timeout=SLOW_SECONDS
    ) as backend:
        clients = [new_client(broker) for _ in range(12)]
        for number, client in enumerate(clients):
            client.login(f"user{number}")
        for number in range(count):
            at = random.randrange(len(clients))
            client = clients[at]
            if random.random() < 0.03:
                take_replies(client, 0)
                replies += client.replies
                clients[at] = new_login(broker, client, random)
            elif len(client.asked) < 30:
                client.asked[call(client, b"%d" % number)] = number
            if number % 20 == 0:
                backend.fetch(wait_ms=1)
                held += [mail.call for mail in backend.mail]
                backend.mail.clear()
                answer_some(backend, held, random, codes)
            take_replies(client, 0)
        while any(client.asked for client in clients):
            backend.fetch(wait_ms=10)
            held += [mail.call for mail in backend.mail]
            backend.mail.clear()
            answer_some(backend, held, random, codes)
            for client in clients:
                take_replies(client, 0)
        for client in clients:
            client.ping()
            client.expect_nothing(0)
            replies += client.replies
            client.close()
        answers = sum(codes.values())
        print(
            f"     {answers} answers: {replies} reached their caller, the others came too late; "
            f"ReplyTo was told {dict(codes)}"
        )
        check(replies < answers, "no answer came too late")


def new_login(broker, older, random):
    return random.choice((log_out_and_in_unread, lose_and_log_in))(broker, older)


def log_out_and_in_unread(broker, older):
    """What still arrives is checked like everything else."""
    older.post("logout")
    for frame in older.read_to_end():
        check_own(older, frame)
    older.close()
    newer = new_client(broker)
    newer.login(older.name)
    return newer


def answer_some(backend, held, random, codes):
    random.shuffle(held)
    now = [held.pop() for _ in range(random.randrange(min(len(held), 60) + 1))]
    if now:
        for result in backend.submit(*[reply_to(each, 0, answer_of(each)) for each in now]):
            codes[code_name(result)] += 1


def take_replies(client, timeout):
    client.receive_more(timeout)
    while client.frames:
        check_own(client, client.frames.popleft())


def check_own(client, frame):
    if frame.WhichOneof("body") != "reply":
        check(frame.WhichOneof("body") in ("done", "close"), f"{client.name} got {frame}")
        return
    check(frame.id in client.asked, f"{client.name}: a reply to {frame.id}, which nobody asked")
    number = client.asked.pop(frame.id)
    check_equal(
        frame.reply.payload.decode(),
        f"{client.name} {client.welcome.epoch} {number}",
        f"the reply to {client.name}",
    )
    client.replies += 1


if __name__ == "__main__":
    play(
        scene_answer_after_another_login,
        scene_answer_while_nothing_waits,
        scene_answer_to_a_resumed_session,
        scene_answer_after_a_restart,
        scene_links_are_not_given_again,
        scene_id_used_again,
        scene_answer_of_the_wrong_instance,
        scene_answers_in_any_order,
    )
