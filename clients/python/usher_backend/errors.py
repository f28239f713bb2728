# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, and whether it was done all the same.

Each Error says in `done` what a program must know before it tries again: "no", it has certainly had
no effect; "unknown", the link broke between the command and its answer, and it was done once or not
at all. Status is no error of the library's: it is how a handler answers a call with another status."""

import operator
from typing import Literal

Done = Literal["no", "unknown"]

STATUS_NO_METHOD = 404  # nobody handles that method
STATUS_TOO_LARGE = 413  # the handler's answer fits no frame
STATUS_FAILED = 500  # the handler raised, or gave something that is no answer
STATUS_MAX = 2**32 - 1


class Status(Exception):
    """Raised in a handler: the call is answered with this status instead of 0."""

    def __init__(self, status: int, payload: bytes | str = b"") -> None:
        if not 0 <= operator.index(status) <= STATUS_MAX:
            raise ValueError(f"a status is a number of 32 bits, not {status}")
        super().__init__(status, payload)
        self.status = status
        self.payload = payload.encode() if isinstance(payload, str) else bytes(payload)


class Error(Exception):
    """Anything that the library raises."""

    done: Done = "no"


class CommandFailed(Error):
    """The node looked at it and did not do it. `code` is a name of protocol.md 2.4: NOT_ONLINE,
    STALE_EPOCH, GONE, INBOX_FULL, TOO_LARGE, MALFORMED, UNAVAILABLE, FORBIDDEN, NO_ROOM, ROOM_FULL,
    NOT_MEMBER, RATE_LIMITED, FULL."""

    def __init__(self, code: str, what: str) -> None:
        super().__init__(f"{what}: {code}")
        self.code = code


class TooLarge(Error):
    """It fits no frame of the link."""


class QueueFull(Error):
    """As many commands wait for the node as may. `await service.room()`, or drop what can be dropped."""


class NotSent(Error):
    """It was given up before it was sent: a transient push that was too old, or the service ended."""


class Lost(Error):
    """The link broke before the answer: it was done once, or not at all."""

    done: Done = "unknown"


class NotStored(Error):
    """The node is older than stored messages, and took it for a push like any other: who is there has it, and
    it is on no disk."""

    done: Done = "unknown"


class NoAnswer(Error):
    """A question had no answer within its time."""


class Refused(Error):
    """The node will have nothing to do with this instance: wrong token, or a newer one runs under its
    name (BANNED); or it does not take its Hello (MALFORMED). The service has ended."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
