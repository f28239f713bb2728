#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The moving picture of README.md, from the real game: ./dev play --picture [FILE]

Alice's page is filmed while bob's line is cut, the instance that keeps the park is killed, and then the broker.
USHER_PICTURE_FRAMES=FOLDER keeps the single frames, to look at."""

import base64
import contextlib
import io
import os
import sys
import time

from PIL import Image

from usherplay.browser import Browser
from usherplay.game import SWITCHES, Game, Page
from usherplay.schema import REPOSITORY

PAGE = (1080, 720)  # what is filmed
SCALE = 0.75  # of what is kept
BYTES_MAX = 1_500_000
FRAME_SECONDS = 0.2
BOTS = 7
# Both walk by the clicks that a person would make: after the nearest when they are it, else about.
WALK = """
const canvas = document.getElementById("canvas");
setInterval(() => {
    const { it, me, people } = park.state(), { x, y, scale } = park.view;
    const far = (other) => Math.hypot(other.x - me.x, other.y - me.y);
    const others = Object.entries(people).filter(([name, { online }]) =>
        online && name !== me.name && !name.startsWith("park:"));
    const nearest = others.map(([, other]) => other).sort((a, b) => far(a) - far(b))[0];
    const goal = it === me.name ? nearest : { x: 480 + 500 * Math.random(), y: 540 + 260 * Math.random() };
    if (it === me.name || Math.random() < 0.3)
        canvas.dispatchEvent(new PointerEvent("pointerdown", { pointerType: "mouse",
            clientX: (goal.x - x) * scale, clientY: (goal.y - y) * scale }));
}, 300);
"""


class Film:
    """Frames of a page, each with the seconds for which it was shown."""

    def __init__(self, page):
        self.page = page
        self.frames, self.times = [], []

    def shoot(self):
        # What is shown is taken together with when: the machine need not keep up.
        self.times.append(time.monotonic())
        width, height = PAGE
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": SCALE}
        shot = self.page.browser.command(
            "Page.captureScreenshot", format="jpeg", quality=92, clip=clip
        )
        self.frames.append(Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB"))

    def frame(self):
        """One, and the pause until the next."""
        began = time.monotonic()
        self.shoot()
        time.sleep(max(0, began + FRAME_SECONDS - time.monotonic()))

    def roll(self, seconds):
        """Films for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.frame()

    def until(self, wanted, seconds=20):
        """Films until the page shows what is wanted, and a little longer."""
        end = time.monotonic() + seconds
        while not wanted(self.page.state()):
            if time.monotonic() > end:
                raise SystemExit("the game did not do what the film is about")
            self.frame()

    def write(self, path):
        ms = [round(1000 * (b - a)) for a, b in zip(self.times, self.times[1:])] + [1500]
        for quality in range(50, 9, -10):
            self.frames[0].save(
                path,
                save_all=True,
                append_images=self.frames[1:],
                duration=ms,
                loop=0,
                quality=quality,
                method=4,
                kmin=20,
                kmax=60,
            )
            size = os.path.getsize(path)
            print(
                f"{path}: {len(ms)} frames, {sum(ms) / 1000:.1f} s, quality {quality}, {size} bytes"
            )
            if size <= BYTES_MAX:
                return
        raise SystemExit("too large at any quality")

    def keep_frames(self, folder):
        os.makedirs(folder, exist_ok=True)
        for number, frame in enumerate(self.frames):
            frame.save(os.path.join(folder, f"{number:03}.png"))


def story(film, alice, bob):
    film.roll(1.5)
    bob.here().script("document.getElementById('say').value = 'come and get me!'")
    bob.here().script("document.getElementById('talk').requestSubmit()")
    alice.here()
    film.roll(2)
    bob.here().script("document.getElementById('cut').click()")
    alice.here()
    film.until(lambda state: not state["people"]["bob"]["online"])
    film.until(lambda state: state["people"]["bob"]["online"])
    film.roll(1.8)
    keeper = alice.state()["keeper"]
    alice.click(f'[data-instance="{keeper[5:]}"]')
    film.until(lambda state: state["keeper"] and state["keeper"] != keeper)
    film.roll(2)
    alice.click('[data-order="/kill/broker"]')
    film.until(lambda state: state["state"] != "online")
    film.until(
        lambda state: state["keeper"]
        and all(person["online"] for person in state["people"].values())
    )
    film.roll(2.5)


def main(path):
    browser = Browser(arguments=SWITCHES)
    with contextlib.closing(browser), Game(resume=20) as game:
        browser.size(*PAGE)
        browser.prefer(prefers_color_scheme="light")
        alice = Page.open(browser, game, "alice", first=True)
        alice.until(lambda state: state["keeper"], "the park")
        for _ in range(BOTS):
            alice.click('[data-order="/bots"][data-change="1"]')
        bob = Page.open(browser, game, "bob")
        bob.until(lambda state: len(state["people"]) == BOTS + 4, "all are there")
        bob.here().script(WALK)
        browser.size(360, 300)  # nobody looks at it
        alice.here().script(WALK)
        film = Film(alice)
        story(film, alice, bob)
    if os.environ.get("USHER_PICTURE_FRAMES"):
        film.keep_frames(os.environ["USHER_PICTURE_FRAMES"])
    film.write(path)


main(sys.argv[1] if sys.argv[1:] else os.path.join(REPOSITORY, "docs", "pictures", "park.webp"))
