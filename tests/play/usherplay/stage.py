# SPDX-License-Identifier: Apache-2.0
"""Runs the scenes of a play, and the checks that scenes are made of."""

import os
import random
import sys
import time
import traceback


# How clients reach the broker where a play does not say it: "tcp", or "ws" for WebSocket.
OVER = os.environ.get("USHER_PLAY_OVER", "tcp")
if OVER not in ("tcp", "ws"):
    sys.exit(f"USHER_PLAY_OVER is {OVER!r}: neither tcp nor ws")


class Failed(AssertionError):
    """The broker did something else than the contract says; the text says what."""


def check(condition, text):
    if not condition:
        raise Failed(text)


def check_equal(got, expected, what):
    if got != expected:
        raise Failed(f"{what}:\n  expected {expected!r}\n  got      {got!r}")


def eventually(condition, what, timeout=30.0, pause=0.02):
    """Calls until the answer is true; gives it."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed(f"not within {timeout} s: {what}")
        time.sleep(pause)


def scaled(figure, least=1):
    """A big figure, smaller where the build is slow."""
    return max(least, figure // int(os.environ.get("USHER_PLAY_SCALE", "1")))


def seed():
    """A random generator whose seed is printed, so that a failure can be repeated."""
    number = int(os.environ.get("USHER_PLAY_SEED", random.SystemRandom().randrange(1 << 31)))
    print(f"     seed {number} (repeat with USHER_PLAY_SEED={number})")
    return random.Random(number)


def play(*scenes):
    """The main of a play: runs all scenes, or those named on the command line."""
    wanted = sys.argv[1:]
    known = {scene.__name__: scene for scene in scenes}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        sys.exit(f"no scene {unknown[0]}; there are: {', '.join(known)}")
    failures = 0
    for scene in [known[name] for name in wanted] or scenes:
        began = time.monotonic()
        try:
            scene()
        except Exception as error:  # whatever it is, the other scenes are worth their run
            failures += 1
            kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            print(f"FAIL {scene.__name__}: {kind}{error}")
            # Which line of the play: the frames of usherplay are noise for the reader.
            for entry in traceback.extract_tb(error.__traceback__):
                if entry.filename == os.path.abspath(sys.argv[0]):
                    print(f"     line {entry.lineno}: {entry.line}")
            continue
        print(f"ok   {scene.__name__} ({time.monotonic() - began:.1f} s)")
    sys.stdout.flush()
    sys.exit(1 if failures else 0)
