#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The pictures of docs/console.md, from the real console before a real broker with company:
./dev docs --pictures [FOLDER]

USHER_PICTURE_SECONDS: how long it is filled before the first is taken, 150.
USHER_PICTURE_LOOK=FOLDER keeps every page at three widths, light and dark, to look at instead."""

import contextlib
import io
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time

from PIL import Image

from usherplay import Broker, Client, eventually, program
from usherplay.browser import Browser
from usherplay.schema import REPOSITORY

LOST = None if os.environ.get("USHER_PLAY_LOG") else subprocess.DEVNULL
WIDTH = 1240
WIDTHS = (360, 800, 1280)
SECONDS = float(os.environ.get("USHER_PICTURE_SECONDS", "150"))
OPTIONS = {
    "admin.listen": "127.0.0.1:0",
    "limits.users": 20000,
    "friends.mode": "open",
    "limits.memory_bytes": "512MiB",
    "limits.output_soft_bytes": 16384,
    "limits.output_soft_ms": 2000,
    "limits.frame_bytes": 16384,
    "limits.requests_per_second": 200,
    "rooms.classes": ",".join(
        f"{name}:* create=client join=any roster=list history=32/10m"
        for name in ("match", "party", "bench")
    ),
}
NAMES = ("ben", "carol", "dora", "eve", "faye", "gus", "hal", "ian", "jo", "kim", "lea", "max")
PAGES = {
    "": "Messages",
    "users": "ben",
    "user/alice": "slow consumer",
    "rooms": "match:7",
    "room/match:7": "carol",
    "friends": "pairs",
    "services": "echo",
    "presence": "Because",
    "recorder": "login",
    "numbers": "calls",
}


class Company:
    """Those who make the traffic; all of them end with it."""

    def __init__(self, broker):
        self.broker = broker
        self.programs = contextlib.ExitStack()
        self.over = threading.Event()

    def start(self, name, *arguments, say=None):
        process = subprocess.Popen(
            ("setpriv", "--pdeathsig", "TERM", program(name), *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=LOST,
            text=True,
        )
        self.programs.callback(process.wait)
        self.programs.callback(process.terminate)
        if say:
            process.stdin.write(say)
            process.stdin.flush()
        return process

    def player(self, name, say):
        return self.start(
            "usher", "--port", str(self.broker.port), "--user", name, "--acks", say=say
        )

    def bench(self, scenario, prefix, *arguments):
        self.start(
            *("usher-bench", scenario, "--port", str(self.broker.port)),
            *("--prefix", prefix, *arguments),
        )

    def ctl(self, *arguments):
        subprocess.run(
            (program("usherctl"), "--url", self.broker.link_url, *arguments),
            stdout=subprocess.DEVNULL,
            timeout=20,
        )

    def come(self):
        for service in ("echo", "matchmaker", "shop"):
            self.start("usher-echo", "--url", self.broker.link_url, "--service", service)
        for place, name in enumerate(NAMES):
            self.player(name, f"/join match:{7 + place // 4}\n/join party:carol\n")
        link, hour = ("--link", self.broker.link_url), ("--seconds", "3600")
        self.bench("forward", "player-", *hour, "--users", "400", "--rate", "900", "--acks")
        self.bench("call", "caller-", *hour, "--users", "60", "--rate", "250", *link)
        self.bench("room", "racer-", *hour, "--users", "60", "--rooms", "10", "--rate", "120")
        self.bench("friends", "friend-", "--settle", "3600", "--users", "50", "--watch", "8")

    def alices_day(self):
        """A phone that does not read, a tunnel, a second device."""
        with Client(self.broker) as ben, Client(self.broker, receive_buffer=4096) as phone:
            ben.login("shop-keeper")
            phone.login("alice", client="game/3.1 (ios)")
            while not self.broker.log_events("slow_consumer"):
                ben.ask("send", to="alice", payload=bytes(15000))
                time.sleep(0.01)
            welcome = phone.welcome
        time.sleep(1)
        with Client(self.broker) as phone:
            phone.name = "alice"
            phone.post(
                "resume",
                username="alice",
                epoch=welcome.epoch,
                secret=welcome.secret,
                last_seq=0,
            )
            eventually(lambda: self.broker.log_events("resumed"), "she is back")
            time.sleep(1)
            phone.drop()
        time.sleep(1)
        self.player("alice", "/join match:7\n/join party:carol\n#match:7 well played\n")

    def trouble(self):
        """What an ordinary evening has of it, until the end."""
        number = 0
        while not self.over.wait(1):
            number += 1
            with contextlib.suppress(Exception), Client(self.broker) as guest:
                guest.login(f"guest-{number:03}", client="game/3.0")
                if number % 3 == 0:
                    for _ in range(300):  # too much for limits.requests_per_second
                        guest.post("ping", stamp=1)
                if number % 5 == 0:
                    self.ctl("kick", guest.name, "--reason", "afk")
                time.sleep(0.3)
                guest.drop()
            if number % 25 == 5:
                wave = ("--seconds", "10", "--users", "150", "--rate", "700")
                self.bench("forward", f"evening-{number}-", *wave)
            with contextlib.suppress(Exception), Client(self.broker) as nobody:
                nobody.login("no body", timeout=2)


def save(browser, path):
    with Image.open(io.BytesIO(browser.driver.get_screenshot_as_png())) as picture:
        picture.convert("RGB").save(path, optimize=True)
    print(f"{path}: {os.path.getsize(path)} bytes")


def whole(browser, width):
    browser.size(width, 900)
    time.sleep(1.2)  # the page looks at its width once a second
    browser.size(width, browser.script("return document.documentElement.scrollHeight"))
    time.sleep(0.5)


def look(browser, folder):
    os.makedirs(folder, exist_ok=True)
    for scheme in ("light", "dark"):
        browser.prefer(prefers_color_scheme=scheme)
        for width in WIDTHS:
            for page, word in PAGES.items():
                browser.size(width, 900)
                browser.go(f"#/{page}")
                browser.until(".page", word)
                whole(browser, width)
                name = page.replace("/", "-").replace(":", "-") or "overview"
                save(browser, os.path.join(folder, f"{scheme}-{width}-{name}.png"))


def pictures(browser, folder):
    time.sleep(12)  # latencies are of ten seconds
    for name, page, height in (("overview", "", 935), ("user", "user/alice", None)):
        browser.go(f"#/{page}")
        browser.until(".page", PAGES[page])
        whole(browser, WIDTH)
        if height:
            browser.size(WIDTH, height)
            time.sleep(1)
        save(browser, os.path.join(folder, f"console-{name}.png"))


def open_console(browser, broker, token):
    port = next(line["port"] for line in broker.log_events("listening") if line["for"] == "admin")
    url = f"http://127.0.0.1:{port}/"
    browser.prefer(prefers_color_scheme="light")
    browser.size(WIDTH, 900)
    browser.open(url, "icon.svg")
    browser.script("sessionStorage.setItem('usher.token', arguments[0])", token)
    browser.driver.get(url)
    browser.until("#state", "ready")


def main(folder):
    browser = Browser()
    token = secrets.token_hex(32)
    with contextlib.closing(browser), tempfile.NamedTemporaryFile("w") as file:
        file.write(token)  # only its owner reads it, as the module makes it
        file.flush()
        with Broker({**OPTIONS, "admin.token_file": file.name}) as broker:
            film(browser, broker, token, folder)


def film(browser, broker, token, folder):
    company = Company(broker)
    with company.programs:
        company.come()
        for work in (company.alices_day, company.trouble):
            thread = threading.Thread(target=work)
            thread.start()
            company.programs.callback(thread.join)
        company.programs.callback(company.over.set)
        time.sleep(SECONDS)
        open_console(browser, broker, token)
        if os.environ.get("USHER_PICTURE_LOOK"):
            look(browser, os.environ["USHER_PICTURE_LOOK"])
        else:
            pictures(browser, folder)


main(sys.argv[1] if sys.argv[1:] else os.path.join(REPOSITORY, "docs", "pictures"))
