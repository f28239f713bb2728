# SPDX-License-Identifier: Apache-2.0
"""Asks why, and the table of docs/operations.md that says what the answers may be."""

import json
import os
import re
import subprocess

from usherplay.broker import program
from usherplay.stage import Failed, check, check_equal, eventually

SECONDS = 30
ROOT = os.path.dirname(
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
)
told_texts = set()  # all answers


def ctl(broker, *arguments):
    done = subprocess.run(
        [program("usherctl"), "--url", broker.link_url, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def why(broker, user, last=200):
    """The records, newest first."""
    code, out, errors = ctl(broker, "--json", "why", user, "--last", str(last))
    check(code in (0, 1), f"usherctl why: {errors}")
    records = [json.loads(line) for line in out.splitlines()]
    told_texts.update(record["text"] for record in records)
    return records


def words(broker, user):
    code, out, errors = ctl(broker, "why", user)
    check_equal(code, 0, f"usherctl why {user}: {errors}")
    return out


def wait_why(broker, user, *texts):
    """Waits until the newest record says all of that."""

    def told():
        newest = (why(broker, user) or [{"text": ""}])[0]
        return all(text in newest["text"] for text in texts) and newest

    try:
        return eventually(told, f"why {user} says {texts}", SECONDS)
    except Failed as failed:
        raise Failed(f"{failed}; it says {[r['text'] for r in why(broker, user)[:3]]}") from None


def where(client):
    """As the broker sees it."""
    return "%s:%s" % client.socket.getsockname()[:2]


def table():
    """[[words, ...] of a row, ...]: all of the words stand in one answer."""
    with open(os.path.join(ROOT, "docs", "operations.md"), encoding="utf-8") as file:
        section = file.read().split("### Why somebody was disconnected\n")[1].split("\n### ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [re.findall(r"`([^`]+)`", line.split(" | ")[0]) for line in lines]
