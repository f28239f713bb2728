# SPDX-License-Identifier: Apache-2.0
"""An inbox is shared: whoever spams a player keeps neither his services nor his friends from him."""

from usherplay import Backend, Broker, Client, check, check_equal, client_pb, play
from usherplay.backend import code_name

LIMIT = 32
OPTIONS = {
    "limits.inbox_messages": LIMIT,
    "limits.requests_per_second": 0,
    "limits.requests_per_second_per_source": 0,
}
FULL = client_pb.Error.INBOX_FULL


def outcome(client, **fields):
    frame = client.ask("send", to="victim", **fields)
    if frame.WhichOneof("body") == "error":
        check_equal(frame.error.code, FULL, "the code of a refusal")
        check(frame.error.retry_after_ms > 0, "INBOX_FULL without a time to wait")
        return False
    return True


def spam(clients, rounds, **fields):
    """Each sends as often as that, in turn; gives how many of each were taken."""
    taken = [0] * len(clients)
    for _ in range(rounds):
        for number, client in enumerate(clients):
            taken[number] += outcome(client, **fields)
    return taken


class Scene:
    """A victim who is there, or was, and does not acknowledge; people who send to him; a service."""

    def __init__(self, senders, online, options=None):
        self.broker = Broker({**OPTIONS, **(options or {})})
        self.victim = Client(self.broker)
        self.welcome = self.victim.login("victim", acks=True)
        if not online:
            self.victim.drop()
            self.broker.wait_log("detached")
        self.senders = [Client(self.broker) for _ in range(senders)]
        for number, client in enumerate(self.senders):
            client.login(f"sender{number}")
        self.friend = Client(self.broker)
        self.friend.login("friend")
        self.service = Backend(self.broker, service="svc")

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        for one in [self.service, self.friend, self.victim, *self.senders]:
            one.close()
        self.broker.__exit__(kind, value, trace)


def scene_one_sender():
    """Alone he has what the option says, and not one more."""
    for online in (True, False):
        with Scene(1, online) as scene:
            check_equal(spam(scene.senders, LIMIT + 3), [LIMIT], "taken")
            check(outcome(scene.friend), "a friend was refused")


def scene_four_spammers():
    """They have a fifth each; friends and services get through all the time, also by bytes."""
    for fields, options in (
        ({"payload": b"x"}, {}),
        ({"payload": b"x" * 1000}, {"limits.inbox_messages": 4096, "limits.inbox_bytes": 40000}),
    ):
        for online in (True, False):
            with Scene(4, online, options) as scene:
                spam(scene.senders, 3 * LIMIT, **fields)
                for _ in range(4):
                    check(outcome(scene.friend, **fields), "a friend was refused")
                    spam(scene.senders, LIMIT, **fields)
                    code = code_name(scene.service.push(["victim"], **fields))
                    check_equal(code, "OK", "a push")
                numbers = scene.service.numbers("stats")
                check(numbers["inbox_share_full"] > 0, "nobody was told that his share is full")


def scene_more_spammers_than_places():
    """Names cost nothing where nobody checks them: then it is full for players, not for services."""
    with Scene(2 * LIMIT + 4, True) as scene:
        taken = spam(scene.senders, 2)
        check_equal(sum(taken), 2 * LIMIT, "taken of all players")
        check_equal(outcome(scene.friend), False, "a friend, when it is full")
        for _ in range(LIMIT):
            check_equal(code_name(scene.service.push(["victim"], b"x")), "OK", "a push")
        check_equal(code_name(scene.service.push(["victim"], b"x")), "INBOX_FULL", "one push more")


def scene_given_back():
    """Whatever he acknowledges is room again."""
    with Scene(1, True) as scene:
        spam(scene.senders, LIMIT + 1)
        for _ in range(LIMIT):
            seq = scene.victim.expect("message").message.seq
        scene.victim.ask("ack", seq=seq)
        check_equal(spam(scene.senders, LIMIT + 3), [LIMIT], "taken")


if __name__ == "__main__":
    play(scene_one_sender, scene_four_spammers, scene_more_spammers_than_places, scene_given_back)
