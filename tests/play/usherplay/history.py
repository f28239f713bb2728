# SPDX-License-Identifier: Apache-2.0
"""The rules that every presence stream keeps, applied to what a backend saw."""

from usherplay.backend import cause_name, describe_event, kind_name
from usherplay.stage import Failed


class _User:
    def __init__(self):
        self.epoch = 0  # of the session that lives now; 0: none
        self.detached = False
        self.highest = 0  # of all sessions ever seen


def check_presence(events, first_seq=None, whole=True):
    """Checks that seq has no gap and no double and that each user's chain is one that can be:
    online(e) ... offline(e) alternate, epochs of online rise, a takeover names the epoch that it
    closes, detached and resumed lie between. whole: False when the stream begins in the middle,
    so that a user's first event may be any. Gives {user: (state, epoch)} of those who live."""
    users = {}
    previous = None
    for event in events:
        expected = first_seq if previous is None else previous.seq + 1
        if expected is not None and event.seq != expected:
            raise Failed(f"the stream jumps: expected seq {expected}, got {describe_event(event)}")
        previous = event
        first = event.user not in users
        user = users.setdefault(event.user, _User())
        if first and not whole and kind_name(event) != "ONLINE":
            user.epoch = user.highest = event.epoch
            user.detached = kind_name(event) in ("RESUMED", "OFFLINE")
        wrong = _step(user, event, first and not whole)
        if wrong:
            raise Failed(f"{describe_event(event)}: {wrong}; all of that user:\n  " + "\n  ".join(
                describe_event(other) for other in events if other.user == event.user))
    return {name: ("DETACHED" if user.detached else "ONLINE", user.epoch)
            for name, user in users.items() if user.epoch}


def _step(user, event, middle):
    kind = kind_name(event)
    if kind == "ONLINE":
        return _online(user, event, middle)
    if kind not in ("DETACHED", "RESUMED", "OFFLINE"):
        return f"a kind {kind}"
    if event.previous_epoch:
        return "a previous_epoch, which only a takeover has"
    if event.epoch != user.epoch:
        return f"it is about epoch {event.epoch} while {user.epoch or 'none'} lives"
    if kind == "OFFLINE":
        user.epoch, user.detached = 0, False
        return None
    if kind == "DETACHED":
        if user.detached:
            return "detached twice"
        if not event.until_ms:
            return "detached without until_ms"
    user.detached = kind == "DETACHED"
    return None


def _online(user, event, middle):
    takeover = cause_name(event) == "TAKEOVER"
    if event.epoch <= user.highest:
        return f"its epoch does not rise above {user.highest}"
    if takeover and not event.previous_epoch:
        return "a takeover that names no epoch"
    if not takeover and event.previous_epoch:
        return "a previous_epoch without a takeover"
    if not middle and event.previous_epoch != user.epoch:
        return f"it closes epoch {event.previous_epoch} while {user.epoch or 'none'} lives"
    user.epoch = user.highest = event.epoch
    user.detached = False
    return None
