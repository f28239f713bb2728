# SPDX-License-Identifier: Apache-2.0
"""The story that ./dev demo tells is true: it is told without a terminal, what it offers to copy works
while it goes on, and its bill is the one that the promises say."""

import os
import re
import subprocess
import sys
import threading
import urllib.request

from usherplay import check, check_equal, eventually, play, program, scaled
from usherplay.schema import REPOSITORY

PLAYERS = scaled(500, 40)
SECONDS = 240


class Told:
    """The demo, and what it has printed so far."""

    def __init__(self, **variables):
        self.text = ""
        self.process = subprocess.Popen(
            [sys.executable, "-u", os.path.join(REPOSITORY, "tests", "play", "demo.py")],
            env={**os.environ, "USHER_DEMO_PLAYERS": str(PLAYERS), **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for row in self.process.stdout:
            self.text += row

    def until(self, pattern):
        def said():
            found = re.search(pattern, self.text)
            check(
                found or self.process.poll() is None,
                f"it ended without a word of {pattern!r}: {self.text}",
            )
            return found

        return eventually(said, f"it says {pattern!r}", SECONDS)

    def finish(self):
        code = self.process.wait(SECONDS)
        self.reader.join(10)
        check_equal(code, 0, f"its end; it said\n{self.text}")
        return self.text


def bill(text, what):
    return re.search(rf"^ +{re.escape(what)} +([\d,]+)", text, re.M)[1].replace(",", "")


def scene_story():
    told = Told(USHER_DEMO_PAUSE="0.2")
    link = told.until(r"export USHER_LINK=(\S+) PATH=(\S+):\$PATH")
    console = told.until(r"console at (http://\S+)")[1]
    told.until(r"are in after")
    with urllib.request.urlopen(console, timeout=20) as page:
        check_equal(page.status, 200, "the console")
    for row in re.findall(
        r"^    (usherctl [^\n]+)", told.until(r"(?s)meanwhile.*usherctl stats\n")[0], re.M
    ):
        row = row.replace("--follow", "")
        out = subprocess.run(
            ["bash", "-c", row],
            env={**os.environ, "USHER_LINK": link[1], "PATH": f"{link[2]}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        check(out.stdout, f"{row} says nothing: {out.stderr}")
    text = told.finish()
    check("\x1b" not in text, "colours, and no terminal")
    check(bill(text, "messages sent") != "0", "nobody has said anything")
    check_equal(
        bill(text, "received, as the receivers count"), bill(text, "messages sent"), "received"
    )
    for what in ("missing", "out of order", "sessions lost", "gaps in them"):
        check_equal(bill(text, what), "0", what)
    check(
        f"{PLAYERS} of them in the session of before" in text, f"who came back where he was: {text}"
    )
    check("REPLACED" in text and "nobody is hit" in text, "the double login and the late kick")


def scene_next():
    """What it says to try next is there."""
    with open(os.path.join(REPOSITORY, "tests", "play", "demo.py"), encoding="utf-8") as file:
        text = file.read()
    advice = re.search(r'NEXT = """(.*?)"""', text, re.S)[1]
    for name in re.findall(r"docs/\S+", advice):
        check(os.path.exists(os.path.join(REPOSITORY, name)), f"no {name}")
    with open(os.path.join(REPOSITORY, "dev"), encoding="utf-8") as file:
        dev = file.read()
    for name in re.findall(r"\./dev (\w+)", advice):
        check(f"command_{name}()" in dev, f"no ./dev {name}")
    program("usher")


play(scene_story, scene_next)
