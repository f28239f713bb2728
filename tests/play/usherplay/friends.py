# SPDX-License-Identifier: Apache-2.0
"""Clients that watch, as plays see them: what a user is shown of his friends, and by which frames."""

import time

from usherplay.client import Client, describe
from usherplay.friends_history import note_friends
from usherplay.schema import backend_pb, client_pb
from usherplay.stage import Failed

OFFLINE, ONLINE, AWAY = range(3)


class Watcher(Client):
    """Keeps the picture that the FriendStates make: `shown`, {user: (state, status)}. A snapshot begins
    it anew. That a change comes before its target's first state, or says what is known already, is a
    failure at once; so is a frame of more than 8 KiB. A History, where there is one, has the
    rest: friends_history.py."""

    def __init__(self, where, history=None, after=None, **options):
        self.shown = {}
        self.since = {}
        self.snapshots = self.frames_seen = self.states_seen = 0
        self.changes = []  # (user, state) of those behind a snapshot, in order
        self.history = history
        self.connection = history.connect() if history else 0
        self._filling = False
        super().__init__(where, **options)
        if after is not None:
            self.last_id, self.name, self.welcome = after.last_id, after.name, after.welcome

    def saw(self, frame):
        if frame.WhichOneof("body") == "friends":
            self._take(frame.friends)

    def _take(self, friends):
        if friends.ByteSize() > 8192:
            raise Failed(f"{self.name}: a frame of {friends.ByteSize()} bytes of states")
        self.frames_seen += 1
        if friends.snapshot:
            self.shown = {}
            self.snapshots += 1
            self._filling = True
        if self.history:
            note_friends(self.history, self.connection, self.name, friends)
        for friend in friends.friends:
            self._take_one(friend, friends.snapshot)

    def _take_one(self, friend, snapshot):
        self.states_seen += 1
        what = friend.state, bytes(friend.status)
        if friend.state == OFFLINE and friend.status:
            raise Failed(f"{self.name}: {friend.user} is offline and has a status")
        if not snapshot and not self._filling and friend.user not in self.shown:
            raise Failed(f"{self.name}: a change of {friend.user} before a snapshot with him")
        if not snapshot and self.shown.get(friend.user) == what:
            raise Failed(f"{self.name}: told twice in a row that {friend.user} is {what}")
        if friend.user in self.shown:
            self.changes.append((friend.user, friend.state))
        self.shown[friend.user] = what
        self.since[friend.user] = friend.since_ms

    def watch_frame(self, add=(), remove=(), id=None):
        frame = self.request("watch", id)
        frame.watch.add.extend(add)
        frame.watch.remove.extend(remove)
        return frame

    def watch(self, add=(), remove=()):
        """Gives the answer's word: "done", or the error's code."""
        frame = self.watch_frame(add, remove)
        self.send_frame(frame)
        return self.word(frame.id)

    def word(self, id):
        answer = self.answer_to(id)
        kind = answer.WhichOneof("body")
        word = client_pb.Error.Code.Name(answer.error.code) if kind == "error" else kind
        return word

    def say(self, status=b"", invisible=False):
        return self.word(self.post("set_status", status=status, invisible=invisible))

    def until(self, condition, what, timeout=25.0):
        """Reads until condition() is true. Frames of friends are looked at and dropped."""
        deadline = time.monotonic() + timeout
        while not condition():
            if self.ended:
                raise Failed(f"{self.name}: ended while waiting: {what}")
            if time.monotonic() > deadline:
                raise Failed(f"{self.name}: not within {timeout} s: {what}; shown: {self.shown}")
            self.receive_more(0.05)
            self.drop_friends()

    def drop_friends(self):
        kept = [frame for frame in self.frames if frame.WhichOneof("body") != "friends"]
        self.frames.clear()
        self.frames.extend(kept)

    def until_shown(self, user, state, status=None, timeout=25.0):
        def there():
            seen = self.shown.get(user)
            return seen is not None and seen[0] == state and status in (None, seen[1])

        self.until(there, f"{user} in state {state} {status!r}", timeout)

    def drop(self):
        super().drop()
        if self.history:
            self.history.add("end", self.connection, self.name)

    def settle(self):
        """All that the broker has done for this client before now has been read."""
        self.answer_to(self.post("ping", stamp=1))
        self.drop_friends()

    def quiet(self, seconds):
        """Reads for so long; gives how many states came."""
        before = self.states_seen
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.ended:
            self.receive_more(0.05)
            self.drop_friends()
        return self.states_seen - before

    def rest(self):
        """What has come that is not about friends."""
        self.drop_friends()
        return [describe(frame) for frame in self.frames]


def watcher(where, name, **options):
    client = Watcher(where, **options)
    client.login(name)
    return client


SET, ADD, REMOVE = range(3)


def watch_list(user, targets=(), mode=SET, epoch=0):
    return backend_pb.Command(
        watch_list=backend_pb.WatchList(user=user, epoch=epoch, mode=mode, targets=targets)
    )


def code_of(result):
    return backend_pb.Result.Code.Name(result.code)


def give_list(backend, user, targets=(), mode=SET, epoch=0):
    """(the code, how many were accepted, {name: code} of those that were not)"""
    result = backend.submit(watch_list(user, targets, mode, epoch))[0]
    failures = {row.user: backend_pb.Result.Code.Name(row.code) for row in result.push.failures}
    return code_of(result), result.push.accepted, failures
