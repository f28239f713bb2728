# SPDX-License-Identifier: Apache-2.0
"""A service behind usher, in Python: docs/backend-python.md.

    async with usher_backend.service("arena") as arena:

        @arena.on("move")
        async def move(call):
            return b"done"

        await arena.run_forever()
"""

from usher_backend.addresses import default_url
from usher_backend.errors import (
    STATUS_FAILED,
    STATUS_NO_METHOD,
    STATUS_TOO_LARGE,
    CommandFailed,
    Error,
    Lost,
    NoAnswer,
    NotSent,
    NotStored,
    QueueFull,
    Refused,
    Status,
    TooLarge,
)
from usher_backend.records import (
    Admit,
    Call,
    Event,
    Failure,
    InboxPage,
    Login,
    Presence,
    PushReport,
    RoomAsk,
    RoomInfo,
    RoomMember,
    RoomMembersPage,
    RoomNews,
    Session,
    StoredMessage,
    StoredNotice,
    WatchAsk,
)
from usher_backend.service import Service, service

__all__ = [
    "STATUS_FAILED",
    "STATUS_NO_METHOD",
    "STATUS_TOO_LARGE",
    "Admit",
    "Call",
    "CommandFailed",
    "Error",
    "Event",
    "Failure",
    "InboxPage",
    "Login",
    "Lost",
    "NoAnswer",
    "NotSent",
    "NotStored",
    "Presence",
    "PushReport",
    "QueueFull",
    "Refused",
    "RoomAsk",
    "RoomInfo",
    "RoomMember",
    "RoomMembersPage",
    "RoomNews",
    "Service",
    "Session",
    "Status",
    "StoredMessage",
    "StoredNotice",
    "TooLarge",
    "WatchAsk",
    "default_url",
    "service",
]
