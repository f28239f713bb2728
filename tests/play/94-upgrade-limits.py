# SPDX-License-Identifier: Apache-2.0
"""What somebody has spent of a limit is spent after an upgrade too: takeovers and logins, by user and by
address; and what he has not spent is there."""

from usherplay import Client, check_equal, client_pb, play
from usherplay.successor import SucceededBroker

ELSEWHERE = "127.0.0.2"
COUNT = 4
CLIENTS = []


def outcome(broker, name, source=None):
    """Of a login. Its connection stays until somebody takes its place."""
    client = Client(broker, source=source)
    CLIENTS.append(client)
    client.name = name
    frame = client.answer_to(client.post("login", username=name))
    kind = frame.WhichOneof("body")
    return client_pb.Error.Code.Name(frame.error.code) if kind == "error" else kind


def check_goes_on(broker, good, name, **others):
    """All but one are spent; two upgrades; that one; one too many; another upgrade; still."""
    for number in range(COUNT - 1):
        check_equal(outcome(broker, name(number), **others), good, f"number {number + 1}")
    broker.upgrade()
    broker.upgrade()
    check_equal(outcome(broker, name(COUNT), **others), good, "the last one")
    check_equal(outcome(broker, name(COUNT + 1), **others), "RATE_LIMITED", "one too many")
    broker.upgrade()
    check_equal(outcome(broker, name(COUNT + 2), **others), "RATE_LIMITED", "after an upgrade")


def scene_logins_of_a_user():
    with SucceededBroker({"limits.logins_per_minute_per_user": COUNT}) as broker:
        check_goes_on(broker, "welcome", lambda number: "alice")
        check_equal(outcome(broker, "bob"), "welcome", "somebody else")
        check_equal(outcome(broker, "alice", source=ELSEWHERE), "welcome", "from elsewhere")


def scene_logins_of_an_address():
    with SucceededBroker({"limits.logins_per_minute_per_source": COUNT}) as broker:
        check_goes_on(broker, "welcome", lambda number: f"user{number}")
        check_equal(outcome(broker, "bob", source=ELSEWHERE), "welcome", "from elsewhere")


def scene_fights():
    with SucceededBroker(
        {"limits.takeovers_per_minute": COUNT, "limits.logins_per_minute_per_user": 0}
    ) as broker, Client(broker, source=ELSEWHERE) as owner:
        owner.login("alice")
        check_goes_on(broker, "welcome", lambda number: "alice")
        check_equal(outcome(broker, "alice", source=ELSEWHERE), "welcome", "from elsewhere")


play(
    scene_logins_of_a_user,
    scene_logins_of_an_address,
    scene_fights,
)
