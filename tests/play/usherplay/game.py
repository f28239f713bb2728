# SPDX-License-Identifier: Apache-2.0
"""The game of `./dev play`, as it is started, and its players in Chromium."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading

from usherplay.schema import BIN
from usherplay.stage import check, check_equal, eventually

PATIENCE = 30
PARK = os.path.join(os.path.dirname(os.path.abspath(BIN)), "clients", "park")
RESUME_SECONDS = 60  # on a slow machine, too, everybody comes back in time
# Timers of pages that nobody looks at go on as if somebody did: all play at once.
SWITCHES = (
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-background-timer-throttling",
)


class Game:
    """All of play.mjs, at a free port."""

    def __init__(self, listen="127.0.0.1:0", resume=RESUME_SECONDS):
        node = os.environ.get("USHER_NODE", "node")
        self.process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "TERM"),  # also when the play is killed
                node,
                f"{PARK}/play.mjs",
                "--bin",
                BIN,
                "--listen",
                listen,
                "--resume",
                str(resume),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        try:
            up = r"link is\s+ipc://(\S+)/link.sock"
            said = eventually(
                lambda: self.said(up) or not self.reader.is_alive(), "it is up", PATIENCE
            )
            check(said is not True, f"it has ended: {self.lines[-20:]}")
            self.folder = said[1]
            self.url = self.said(r"is at\s+(http://\S+/)")[1]
            self.host, _, port = self.url[len("http://") : -1].rpartition(":")
            self.port = int(port)
            eventually(self.ready, "the broker is ready", PATIENCE)
        except BaseException:
            self.process.terminate()
            raise

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            if os.environ.get("USHER_PLAY_LOG"):
                print(f"     | {line}", end="", file=sys.stderr)

    def ready(self):
        return self.ask("GET", "/console/readyz")[0] == 200

    def said(self, pattern):
        return re.search(pattern, "".join(self.lines))

    def ask(self, method, path, body=None, to="127.0.0.1", source=None, **headers):
        """Status and JSON of a request to the pages' server."""
        at = http.client.HTTPConnection(
            to, self.port, timeout=PATIENCE, source_address=source and (source, 0)
        )
        with contextlib.closing(at):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            at.request(
                method,
                path,
                None if body is None else json.dumps(body),
                {"Host": f"{to}:{self.port}", **named},
            )
            answer = at.getresponse()
            text = answer.read()
            is_json = answer.headers["Content-Type"] == "application/json"
            return answer.status, json.loads(text) if is_json else text

    def post(self, path, body=None, to="127.0.0.1", **headers):
        headers.setdefault("Origin", f"http://{to}:{self.port}")
        return self.ask("POST", path, body or {}, to, **headers)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            print("".join(f"     | {line}" for line in self.lines[-40:]), end="")
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)
            return
        self.process.send_signal(signal.SIGTERM)
        check_equal(self.process.wait(PATIENCE), 0, "how the game ends")
        check(not os.path.exists(self.folder), "its folder is gone")
        self.reader.join(PATIENCE)
        check(not self.reader.is_alive(), "nobody is left who could write where it writes")


class Page:
    """One window or tab of the browser, as one player."""

    def __init__(self, browser, handle, name):
        self.browser, self.handle, self.name = browser, handle, name

    @classmethod
    def open(cls, browser, game, name, first=False):
        if not first:
            browser.driver.switch_to.new_window("window")
            browser.size(1100, 800)
        browser.driver.get(f"{game.url}?name={name}")
        return cls(browser, browser.driver.current_window_handle, name)

    def here(self):
        if self.browser.driver.current_window_handle != self.handle:
            self.browser.driver.switch_to.window(self.handle)
        return self.browser

    def state(self):
        return self.here().script("return window.park?.state()")

    def until(self, wanted, what):
        """Waits until wanted(state) is true; gives that state."""

        def shown():
            state = self.state()
            return state if state and wanted(state) else None

        try:
            return eventually(shown, what, PATIENCE)
        except AssertionError as error:
            raise AssertionError(f"{self.name}: {error}; it shows {self.state()}") from None

    def person(self, name):
        return self.state()["people"].get(name)

    def click(self, selector):
        self.here().one(selector).click()

    def key(self, code, down):
        """A key of the keyboard, which stays down until it is let go."""
        self.here().command(
            "Input.dispatchKeyEvent",
            type="keyDown" if down else "keyUp",
            code=code,
            key=code[-1].lower(),
        )

    def walk_to(self, x, y):
        """A click with the mouse, where that is on the screen."""
        there = self.here().script(
            "const [x, y] = arguments, {view} = park;"
            "const wide = document.getElementById('canvas').getBoundingClientRect();"
            "return [Math.min(Math.max((x - view.x) * view.scale, 5), wide.width - 5),"
            "        Math.min(Math.max((y - view.y) * view.scale, 5), wide.height - 90)]",
            x,
            y,
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.browser.command(
                "Input.dispatchMouseEvent",
                type=kind,
                x=there[0],
                y=there[1],
                button="left",
                clickCount=1,
            )
