# SPDX-License-Identifier: Apache-2.0
"""Rules for what clients are shown of those they watch, over a History (history.py) that has, in the
order of one clock:

    granted   user, peer: from here on he may be shown that target; before it is asked for
    revoked   user, peer: no more, noted when the answer and all that was sent before it were read
    picture   connection, user: a snapshot begins, and what was shown before is forgotten
    shown     connection, user, peer, word: one state, ONLINE or OFFLINE; flag: of the snapshot
    event     user, word, epoch: the presence stream, as a backend saw it
    end       connection: it is read no more
    quiet     nothing disturbs any more, and everything has been read
"""

import collections

from usherplay.backend import kind_name
from usherplay.history import _broken


def note_friends(history, connection, user, friends):
    """A FriendStates, as it was read."""
    if friends.snapshot:
        history.add("picture", connection, user)
    for friend in friends.friends:
        history.add(
            "shown",
            connection,
            user,
            peer=friend.user,
            word=("OFFLINE", "ONLINE", "AWAY")[friend.state],
            flag=friends.snapshot,
        )


def note_events(history, events):
    for event in events:
        history.add("event", user=event.user, word=kind_name(event), epoch=event.epoch)


def _pictures(history):
    """Each entry, with {connection: {target: entry}} as it is before it."""
    pictures = {}
    for entry in history.numbered():
        yield entry, pictures
        if entry.kind == "picture":
            pictures[entry.connection] = {}
        elif entry.kind == "shown":
            pictures.setdefault(entry.connection, {})[entry.peer] = entry
        elif entry.kind == "end":
            pictures.pop(entry.connection, None)


def rule_f1(history):
    """When all is quiet every picture equals the stream, and has everybody who was granted and not
    revoked."""
    online, wanted, users = {}, collections.defaultdict(set), {}
    for entry, pictures in _pictures(history):
        users[entry.connection] = entry.user
        if entry.kind == "event":
            online[entry.user] = entry.word != "OFFLINE"
        elif entry.kind == "granted":
            wanted[entry.user].add(entry.peer)
        elif entry.kind == "revoked":
            wanted[entry.user].discard(entry.peer)
        elif entry.kind == "quiet":
            for connection, picture in pictures.items():
                _compare(entry, picture, online, wanted[users[connection]])
            return
    _broken("F1", "no quiet end", entry)


def _compare(quiet, picture, online, wanted):
    for target, shown in picture.items():
        if target not in wanted:
            _broken("F1", "somebody is in a picture whom nobody granted", shown, quiet)
        if (shown.word == "ONLINE") != online.get(target, False):
            _broken("F1", f"the picture is not the stream's: {target}", shown, quiet)
    if wanted - picture.keys():
        _broken("F1", f"{sorted(wanted - picture.keys())} are in no picture", quiet)


def rule_f2(history):
    """A change comes behind a first state of its target, and is one: states alternate."""
    filling = {}
    for entry, pictures in _pictures(history):
        if entry.kind == "picture":
            filling[entry.connection] = True
        if entry.kind != "shown" or entry.flag:
            continue
        before = pictures.get(entry.connection, {}).get(entry.peer)
        if before is None and not filling.get(entry.connection):
            _broken("F2", "a change of whom no snapshot has named", entry)
        if before is not None:
            filling[entry.connection] = False
            if before.word == entry.word:
                _broken("F2", "the same state twice", before, entry)


def rule_f3(history):
    """Nobody is shown whom he was not granted, or whom a service has taken away."""
    granted = {}
    for entry in history.numbered():
        if entry.kind in ("granted", "revoked"):
            granted[entry.user, entry.peer] = entry
        if entry.kind != "shown":
            continue
        last = granted.get((entry.user, entry.peer))
        if last is None or last.kind == "revoked":
            _broken("F3", "somebody is shown who may not be", last, entry)


FRIENDS_RULES = (rule_f1, rule_f2, rule_f3)


def check_friends(history):
    for rule in FRIENDS_RULES:
        rule(history)
