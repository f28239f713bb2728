# SPDX-License-Identifier: Apache-2.0
"""The web console in a real browser, before an endpoint that answers what docs/admin.md says.

One Chromium for all scenes. Time in the page and in the endpoint runs ten times faster; nothing
here waits for a length of time but scene_hidden, which looks that nothing happens.
USHER_PLAY_PICTURES=FOLDER keeps pictures of the pages."""

import base64
import contextlib
import hashlib
import importlib.util
import io
import json
import os
import re
import tarfile
import tempfile
import time

from usherplay import Backend, Broker, Client, check, check_equal, eventually, play
from usherplay.browser import PATIENCE, Browser, Keys, skip_without
from usherplay.fakeadmin import UPLOT, FakeAdmin, populated
from usherplay.rooms import Member
from usherplay.schema import REPOSITORY

SPEED = 10
PAGES = (
    "",
    "users",
    "user/alice",
    "rooms",
    "room/match:7",
    "friends",
    "services",
    "presence",
    "recorder",
    "numbers",
)
CHARTS = 8 if os.path.exists(os.path.join(UPLOT, "uPlot.iife.min.js")) else 0
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PICTURE = '<img src=x onerror="window.pwned=1">'
TURNED = "eve\u202egnp.exe\u200b\u0007"


@contextlib.contextmanager
def console(page="", token="secret-of-the-console", **changes):
    """The console, open at a page, and the world behind it."""
    world = populated(SPEED)
    world.token = token
    for name, value in changes.items():
        setattr(world, name, value)
    admin.show(world)
    browser.open(admin.url, "icon.svg")
    if token:
        browser.script("sessionStorage.setItem('usher.token', arguments[0])", token)
    browser.driver.get(f"{admin.url}#/{page}")
    yield world
    browser.driver.get("about:blank")


def tile(name):
    return browser.script(
        "return [...document.querySelectorAll('.tile')]"
        ".find((tile) => tile.querySelector('dt').textContent === arguments[0])"
        "?.querySelector('dd').textContent",
        name,
    )


def until_tile(name, condition):
    return eventually(
        lambda: (value := tile(name)) and condition(value) and value,
        f"the tile {name} (it shows {tile(name)!r})",
        PATIENCE,
    )


def per_second(low, high):
    def fits(text):
        text = text.replace(",", "")
        return re.fullmatch(r"[0-9.]+", text) and low <= float(text) <= high

    return fits


def scene_overview():
    with console() as world:
        until_tile("Online", lambda text: text == "108")
        check_equal(
            (tile("Detached"), tile("Not logged in"), tile("Memory")),
            ("13", "3", "212 MiB"),
            "the tiles",
        )
        # Rates follow from what the endpoint counted and its own clock, however slow the page is.
        until_tile("Messages", per_second(4190, 4210))
        until_tile("Calls", per_second(635, 645))
        until_tile("CPU", lambda text: text.startswith("42"))
        until_tile("Delivery p99", lambda text: text == "9.00 ms")
        until_tile("Login p99", lambda text: text == "75.0 ms")
        check_equal(len(browser.all(".plot canvas")), CHARTS, "charts")
        browser.until(".chart", "accepted 4,", "p50 1.00 ms", "p99 9.00 ms", "online 108")
        browser.until(
            ".tables",
            "matchmaker",
            "draining",
            "no instance",
            "player-000",
            "684 KiB",
            "silent for too long",
            "connection refused: source",
            "store file bytes",
            "41.0 MiB",
            "tcp\t109",
            "wss\t2",
        )
        browser.script(
            "const box = document.querySelector('.chart select');"
            "box.value = 'call_latency'; box.dispatchEvent(new Event('change'))"
        )
        browser.until(".chart", "p50 2.75 ms", "p99 50.0 ms")
        world.rates["messages_accepted"] = 77
        until_tile("Messages", per_second(76, 78))
        browser.until(".foot", "usher 0.1.0", "may change", "tls 0.0.0.0:7443")
        browser.shoot("overview", whole=True)
        browser.size(1360, 900)
        browser.check_quiet()


def scene_history():
    """What is computed from the numbers, at the edges: a restart, a gap, the bound, the buckets."""
    with console():
        got = browser.wait_script(
            """
            const {History, quantileOf} = await import("/history.js");
            const stats = (now_ms, a, buckets = []) => ({now_ms, counters: {a}, gauges: {g: a % 7},
                histograms: {h: {unit: "seconds", count: a, buckets}}});
            const history = new History();
            for (const [now_ms, a] of [[0, 10], [1000, 30], [3000, 40], [4000, 5], [5000, 9],
                                       [60000, 1000], [61000, 1003], [60500, 1004]]) {
                history.add(stats(now_ms, a), history.samples.length);
            }
            const rates = history.series((place) => history.rate(place, "a"));
            const rise = history.rise("a");
            const bounds = [1, 2, 4, null];
            const cumulative = (...counts) => ({buckets: bounds.map((le, place) =>
                ({le, count: counts[place]}))});
            const now = cumulative(10, 30, 40, 50), old = cumulative(10, 10, 10, 10);
            const quantiles = [0.25, 0.5, 0.75, 1].map((q) => quantileOf(now, old, q));
            const nothing = [quantileOf(old, old, 0.5), quantileOf(undefined, old, 0.5)];
            for (let place = 0; place < 2000; place++) {
                history.add(stats(70000 + place, 2000 + place), 100 + place);
            }
            return {rates, rise, quantiles, nothing, kept: history.samples.length,
                base: history.base(599, 100)};"""
        )
        check_equal(
            got,
            {
                # the second is over two seconds; nothing over the restart, the gap, the clock's step
                "rates": [None, 20, 5, None, 4, None, 3, None],
                "rise": 30 + 4 + 991 + 3 + 1,
                "quantiles": [1.5, 2, 4, 4],
                "nothing": [None, None],
                "kept": 604,
                "base": 499,
            },
            "what follows from the samples",
        )


def scene_an_hour():
    """A console that is opened now shows the last hour, and what it sees itself goes on behind that."""
    with console() as world:
        until_tile("Online", lambda text: text == "108")
        eventually(lambda: world.asked("GET", "/api/samples"), "the hour is asked for", PATIENCE)
        span = "const box = document.querySelector('.span select'); return [box.value, box.length]"
        check_equal(browser.script(span), ["3600", 2], "the span of the charts")
        got = browser.wait_script(
            """
            const {History} = await import("/history.js");
            const history = new History();
            const stats = (now_ms, a) => ({now_ms, counters: {a, b: 7 * a}, gauges: {g: 5}, histograms: {}});
            history.add(stats(3605000, 5000), 100);
            history.add(stats(3606000, 5010), 101);
            const times_ms = Array.from({length: 720}, (_, place) => 5000 * (place + 1));
            const counters = {a: times_ms.map((time) => time / 1000)};
            const quantiles = {h: {p50: times_ms.map(() => 0.5)}};
            const gauges = {g: times_ms.map((_, place) => place)};
            history.seed({times_ms, counters, gauges, quantiles}, (ms) => 100 - (3605000 - ms) / 1000);
            const last = history.samples.length - 1;
            const first = history.since(3600);
            const before = [history.samples.length, first, history.rate(5, "a"), history.rate(5, "b"),
                history.rate(720, "a"), history.rate(720, "a", "b"), history.rate(721, "b"),
                history.gauge(3, "g"), history.quantile(3, "h", 0.5), history.quantile(3, "h", 0.9),
                history.rise("a"), history.rise("b"), history.peak("g")];
            for (let second = 1; second <= 5000; second++) {
                history.add(stats(3606000 + 1000 * second, 5010 + second), 101 + second);
            }
            const spans = history.samples.map((sample) => sample.at_s);
            return [before, history.samples.length, spans[spans.length - 1] - spans[0],
                history.rate(100, "a"), history.since(600)];"""
        )
        before, count, span_s, rate, ten = got
        check_equal(
            before,
            # the counter that the hour does not have is not known at its edge, and not 0 before it
            [722, 1, 1, None, (5000 - 3600) / 5, None, 70, 3, 0.5, None, 10, 70, 5],
            "what follows from the hour and from what was seen",
        )
        check(600 + 590 <= count <= 600 + 610 and 3590 <= span_s <= 3600, f"{count}, {span_s} s")
        check_equal(rate, 1, "the rate between two of five seconds")
        check(count - 602 <= ten <= count - 599, f"ten minutes begin at {ten} of {count}")
        browser.script(
            "const box = document.querySelector('.span select');"
            "box.value = '600'; box.dispatchEvent(new Event('change'))"
        )
        browser.check_quiet()


def scene_degraded():
    with console() as world:
        until_tile("Online", lambda text: text == "108")
        browser.until("#state", "ready")
        check_equal(browser.text("#banner"), "", "the banner of a broker that is ready")
        world.mode = "degraded"
        browser.until(
            "#banner",
            "does not serve everybody well",
            "store",
            "no space left on device",
            "link",
            "no listener works",
        )
        check("accept" not in browser.text("#banner"), "a check that holds is in the banner")
        browser.until("#state", "degraded")
        check_equal(spoken(), "The broker is degraded: store, link.", "what is spoken")
        browser.shoot("degraded")
        world.mode = "draining"
        browser.until("#banner", "draining", "12 of 40")
        world.mode = "unreachable"
        browser.until("#banner", "does not answer", "was true", "s ago")
        browser.until("#state", "unreachable")
        check_equal(spoken(), "The broker does not answer.", "what is spoken")
        check_equal(tile("Online"), "108", "the last known value")
        check(browser.one("main").get_attribute("class") == "old", "old values are not greyed")
        browser.script(HOLD)
        first = browser.text("#banner")
        eventually(lambda: browser.text("#banner") != first, "the age rises", PATIENCE)
        browser.shoot("unreachable")
        world.mode = "normal"
        browser.script(LET_GO)
        browser.until("#state", "ready")
        eventually(
            lambda: browser.one("main").get_attribute("class") == "", "colours are back", PATIENCE
        )
        check_equal(
            (browser.text("#banner"), spoken()), ("", "The broker is ready."), "after it came back"
        )


def scene_certificate():
    """It is due: the console says so while all is well, and beside what is not."""
    with console() as world:
        until_tile("Online", lambda text: text == "108")
        now_s = time.time()
        for ends_s, words, ending in (
            (now_s + 5.5 * 86400, ("ends in 5 d 1",), 1),
            (now_s - 60, ("expired on", "clients refuse it"), 1),
            (now_s + 90 * 86400, ("not valid yet",), 1),
        ):
            world.gauges = {
                "certificate_not_after_timestamp_seconds": ends_s,
                "certificate_ending": ending,
            }
            browser.until("#banner", "A certificate is due", *words)
        check_equal(browser.text("#state"), "ready", "the state beside it")
        check("is ready; the TLS certificate" in spoken(), f"what is spoken: {spoken()}")
        browser.shoot("certificate")
        world.mode = "degraded"
        browser.until("#banner", "does not serve everybody well", "store", "not valid yet")
        world.mode = "normal"
        world.gauges = {"certificate_not_after_timestamp_seconds": now_s, "certificate_ending": 0}
        eventually(lambda: browser.text("#banner") == "", "the banner goes", PATIENCE)


# A broker that takes requests and is silent: what is asked stays without an answer.
HOLD = """window.real_fetch = window.fetch; window.held = [];
    window.fetch = () => new Promise((_, refuse) => window.held.push(refuse))"""
LET_GO = "window.fetch = window.real_fetch; window.held.forEach((refuse) => refuse(new Error()))"


def spoken():
    return browser.script("return document.getElementById('announce').textContent")


def scene_first_answer_missing():
    with console(mode="normal") as world:
        browser.until("#state", "ready")
        world.mode = "unreachable"
        browser.until("#state", "unreachable")
        browser.driver.execute_script("location.hash = '#/services'")
        browser.until("#banner", "does not answer")
        world.mode = "normal"
        browser.until(".page", "matchmaker")  # a page that was opened meanwhile fills itself


# Answers arrive when they are released, and others overtake them.
DELAY = """window.real_fetch = window.fetch; window.late = 0;
    const gate = new Promise((release) => { window.release = release; });
    window.fetch = async (...rest) => {
        const answer = await window.real_fetch(...rest);
        window.late += answer.status === 401;
        await gate;
        return answer;
    }"""


def enter_token(text):
    browser.one("dialog input").send_keys(text, Keys.ENTER)


def scene_token():
    with console("user/alice", token=None) as world:
        browser.until(".page", "online")
        browser.until(".page", "Without a token one may look and not change")
        check_equal(browser.text(".card .buttons"), "", "buttons for who may look alone")
        world.token, world.view_token = "change-me", "look-at-me"
        browser.until("dialog", "shows nothing without its token")
        browser.shoot("token")
        enter_token("wrong")
        browser.until("dialog", "did not accept this token")
        browser.script(DELAY)
        eventually(lambda: browser.script("return window.late > 0"), "a late refusal", PATIENCE)
        browser.script("window.fetch = window.real_fetch")
        enter_token("look-at-me")
        browser.until("#state", "ready")
        browser.script("window.release()")  # of the wrong token, behind the right one
        asked = len(world.requests)
        eventually(lambda: len(world.requests) > asked + 10, "it goes on", PATIENCE)
        eventually(lambda: not browser.all("dialog"), "the dialog goes", PATIENCE)
        browser.until(".page", "may look and not change")
        browser.button("Token").click()
        enter_token("change-me")
        browser.until(".card .buttons", "Push", "Kick")
        check_equal(browser.text(".page .hint").count("may look and not"), 0, "the hint")
        kept = browser.script(
            "return [JSON.stringify(sessionStorage),"
            "JSON.stringify(localStorage), location.href, document.cookie]"
        )
        check(
            "change-me" in kept[0] and "change-me" not in "".join(kept[1:]),
            f"where the token is: {kept}",
        )
        check(
            all(
                "me" not in path.split("/")[-1].split("?")[0].split("-")
                for _, path, _ in world.requests
            ),
            "the token is in an address",
        )
        browser.driver.refresh()
        browser.until(".card .buttons", "Kick")  # the tab keeps it
        browser.button("Token").click()
        browser.button("Forget it", "dialog").click()
        browser.until("dialog", "shows nothing without its token")
        check(
            "change-me" not in browser.script("return JSON.stringify(sessionStorage)"),
            "the token is forgotten",
        )


def all_asked(world, quiet=1.0):
    """How many requests there were, when what a page that is gone still asked has come."""
    asked, since = -1, time.monotonic()
    while time.monotonic() < since + quiet:
        if len(world.requests) != asked:
            asked, since = len(world.requests), time.monotonic()
        time.sleep(0.02)
    return asked


def scene_a_token_is_asked_for_in_silence():
    """Nothing is asked that will be refused, so the browser has nothing to complain of before a token is
    given; once it is, all of it is there."""
    with console(token=None) as world:
        browser.until("#state", "ready")
        world.token = "change-me"
        browser.driver.get("about:blank")
        browser.driver.get_log("browser")
        asked = all_asked(world)
        browser.driver.get(f"{admin.url}#/")
        browser.until("dialog", "shows nothing without its token")
        eventually(lambda: len(world.requests) >= asked + 3, "health is asked on", PATIENCE)
        check_equal({path for _, path, _ in world.requests[asked:]}, {"/readyz"}, "what was asked")
        refused = [
            line["message"]
            for line in browser.driver.get_log("browser")
            if "uPlot" not in line["message"]
        ]
        check_equal(refused, [], "what the browser logs before a token is given")
        enter_token("change-me")
        until_tile("Online", lambda text: text == "108")


def plant_hostile(world):
    for name in (PICTURE, TURNED, "a/b?c#d%2f", "..", "__proto__", "constructor"):
        world.login(name, 42, client=PICTURE, address=PICTURE, transport=PICTURE)
        world.happen(name, "detached", cause=PICTURE, detail=TURNED, **{PICTURE: PICTURE})
        world.slowest.insert(
            0, {"user": name, "output_bytes": 1, "inbox_messages": 1, "since_ms": 1}
        )
    world.happen(PICTURE, PICTURE, level=PICTURE)
    for name in (PICTURE, TURNED, "a/b?c#d%2f", "..", "__proto__"):
        world.open_room(name, [(PICTURE, False), (TURNED, True)], 9, PICTURE, PICTURE)
    world.services.insert(
        0,
        {
            "name": PICTURE,
            "instances": [
                {
                    "instance": PICTURE,
                    "state": PICTURE,
                    "mail_waiting": 1,
                    "calls_open": 1,
                    "last_fetch_ms": 1,
                    "presence": True,
                }
            ],
        },
    )
    world.counted[PICTURE] = 1


def scene_hostile():
    """Whatever clients and backends call themselves is text, and the whole of it is seen."""
    with console() as world:
        plant_hostile(world)
        real_ready = world.ready
        world.ready = lambda: (
            503,
            {
                "ready": False,
                "state": "serving",
                "checks": [{"name": PICTURE, "ok": False, "detail": PICTURE}],
            },
        )
        browser.until("#banner", PICTURE)
        for page, shown in (
            ("", PICTURE),
            ("users", "eve\\u{202e}gnp.exe\\u{200b}\\u{7}"),
            ("rooms", PICTURE),
            ("services", PICTURE),
            ("presence", PICTURE),
            ("recorder", PICTURE),
            ("numbers", PICTURE),
        ):
            browser.go(f"#/{page}")
            browser.until(".page", shown)
            check_unharmed(page)
        for name in (PICTURE, TURNED, "a/b?c#d%2f", "__proto__", ".."):
            browser.go("#/user/" + browser.script("return encodeURIComponent(arguments[0])", name))
            browser.until(".page", "42", "connection was lost")
            check_unharmed(name)
        for name in (PICTURE, TURNED, "a/b?c#d%2f", "__proto__", ".."):
            browser.go("#/room/" + browser.script("return encodeURIComponent(arguments[0])", name))
            browser.until(".page", "2, 1 of them away", PICTURE, "eve\\u{202e}gnp.exe")
            check_unharmed(name)
        for page in ("constructor", "__proto__", "toString"):  # no pages
            browser.go(f"#/{page}")
            browser.until(".tiles", "Online")
        browser.go("#/user/%E0%A4%A")  # no valid encoding
        browser.until("h1", "%E0%A4%A")
        world.ready = real_ready
        browser.check_quiet()


def check_unharmed(where):
    found = browser.script(
        "return [document.querySelectorAll('img, [onerror], [style*=url]')"
        ".length, window.pwned ?? null]"
    )
    check_equal(found, [0, None], f"markup of others on {where}")


def scene_user():
    with console("user/alice") as world:
        browser.until(".facts", "online", "4 messages", "198.51.100.23:51544", "1836031541254")
        browser.until(".facts", "Stored", "3 messages, 1.50 KiB")
        told = browser.text(".timeline .event-text").splitlines()
        check_equal(told[0], "a takeover was put off: too many from there", "the newest event")
        check_equal(told[-1], "logged in", "the oldest event")
        browser.until(".timeline", "slow_consumer", "previous_epoch 1836031541190", "last_seq 912")
        browser.until(".why", "Disconnected 3 h", "ago: kicked by service match/m1")
        browser.until(".past", "logged in from 198.51.100.23:51544", "17 records before this one")
        browser.until("[aria-label='Rooms of this user']", "match:7", "40", "42")
        browser.shoot("user", whole=True)
        browser.size(1360, 900)
        push, kick = "/api/sessions/alice/push", "/api/sessions/alice/kick"
        browser.button("Push…").click()
        browser.one("dialog textarea").send_keys("be nice <b>")
        browser.button("Push", "dialog").click()
        browser.until(".done", "Pushed.")
        check_equal(
            world.asked("POST", push), [{"text": "be nice <b>", "epoch": 1836031541254}], "the push"
        )
        browser.button("Kick…").click()
        browser.shoot("kick")
        browser.button("Cancel", "dialog").click()
        browser.button("Kick…").click()
        browser.keys(Keys.ESCAPE)
        eventually(lambda: not browser.all("dialog"), "Escape closes the dialog", PATIENCE)
        check_equal(world.asked("POST", kick), [], "kicks before anything was confirmed")
        # Who logged in again meanwhile is not hit by what was decided about the session before.
        browser.button("Kick…").click()
        world.login("alice", 1836031541300)
        browser.button("Kick", "dialog").click()
        browser.until("dialog", "has logged in again")
        browser.button("Cancel", "dialog").click()
        browser.until(".facts", "1836031541300")
        browser.button("Kick…").click()
        browser.one("dialog input").send_keys("enough")
        browser.one("dialog input[type=checkbox]").click()
        browser.button("Kick", "dialog").click()
        browser.until(".facts", "no session")
        check_equal(
            world.asked("POST", kick)[-1],
            {"epoch": 1836031541300, "detail": "enough", "do_not_return": True},
            "the kick",
        )
        browser.until(".timeline", "was kicked", "detail enough")
        check_equal(browser.text(".card .buttons"), "", "what can be done to nobody")
        browser.check_quiet()


def scene_trace():
    with console("user/alice") as world:
        browser.until(".page", "Not recording")
        check_equal(world.asked("POST", "/api/trace"), [], "traces that nobody started")
        browser.script("document.querySelectorAll('.wide select')[1].value = '10'")
        browser.button("Follow").click()
        browser.until(
            ".wide",
            "Recording",
            "left",
            "3 records found no room",
            "arrived",
            "184 µs",
            "2.31 ms",
            "bob",
        )
        check_equal(
            world.asked("POST", "/api/trace"),
            [{"user": "alice", "seconds": 60, "one_in": 10}],
            "what was asked for",
        )
        check(TRACE_ID not in browser.text(".wide tbody"), "a trace id that nobody gave")
        world.traces["alice"]["trace_id"] = TRACE_ID
        browser.until(".wide", TRACE_ID)
        world.traces["alice"]["peer"] = world.traces["alice"]["trace_id"] = PICTURE
        browser.until(".wide", PICTURE)
        check_unharmed("the trace")
        seen = browser.script(
            "return [...document.querySelectorAll('.wide tbody tr')]"
            ".map((row) => row.cells[0].textContent)"
        )
        check_equal(len(set(seen)), len(seen), "a record is shown twice")
        browser.shoot("trace")
        browser.button("Stop").click()
        browser.until(".wide", "Not recording")
        browser.go("#/user/player-001")
        browser.until(".page", "Not recording", "Nothing is recorded.")


def turn(name):
    """A page is turned when the answer to the last question is there; until then nothing can be."""
    eventually(lambda: browser.button(name).is_enabled(), f"{name} is enabled", PATIENCE)
    browser.button(name).click()


def scene_users():
    with console("users") as world:
        for number in range(60):
            world.login(f"zoe-{number:02}", 9000 + number)
        browser.until(".page", "alice", "player-048")
        check("player-049" not in browser.text("tbody"), "a page has 50 rows")
        turn("Next")
        browser.until("tbody", "player-049", "player-098")
        turn("Next")
        browser.until("tbody", "player-119", "zoe-28")
        turn("Back")
        browser.until("tbody", "player-049")
        browser.one(".filters input").send_keys("zoe-5")
        eventually(lambda: len(browser.text("tbody").splitlines()) == 10, "ten rows", PATIENCE)
        browser.script(
            "const box = document.querySelector('.filters select'); box.value ="
            "'detached'; box.dispatchEvent(new Event('change'))"
        )
        browser.until("tbody", "No session matches.")
        browser.one(".filters input").send_keys(Keys.BACKSPACE * 5 + "a")
        browser.until("tbody", "No session matches.")
        with world.lock:
            world.login("b-last", 1, state="detached")
            for number in range(50):
                world.login(f"b-{number:02}", 1)
        browser.one(".filters input").send_keys(Keys.BACKSPACE + "b")
        browser.until("tbody", "None here; go on with Next.")
        eventually(lambda: browser.button("Next").is_enabled(), "Next is enabled", PATIENCE)
        with world.lock:  # no answer yet
            browser.one(".filters input").send_keys(Keys.BACKSPACE)
            check(not browser.button("Next").is_enabled(), "one can turn an older answer's page")
            browser.one(".filters input").send_keys("b")
        turn("Next")
        browser.until("tbody", "b-last")


def rows_of(label):
    return browser.script(
        "return [...document.querySelectorAll(`[aria-label='${arguments[0]}'] tbody tr`)]"
        ".map((row) => [...row.cells].map((cell) => cell.textContent))",
        label,
    )


def choose(value):
    browser.script(
        "const box = document.querySelector('.filters select'); box.value = arguments[0];"
        "box.dispatchEvent(new Event('change'))",
        value,
    )


def until_rows(label, *firsts):
    """The first rows of a table begin so."""
    eventually(
        lambda: [row[0] for row in rows_of(label)][: len(firsts)] == list(firsts),
        f"{label}: {firsts}, and not {[row[0] for row in rows_of(label)][:5]}",
        PATIENCE,
    )


def scene_rooms():
    """By size, by rate, by name page by page; and what all of them do."""
    with console("rooms"):
        until_rows("Rooms", "lobby", "match:7", "team:00")
        check_equal(
            rows_of("Rooms")[0][1:6],
            ["120", "13", "5", "600", "6.25 KiB"],
            "the row of the lobby",
        )
        browser.until(".page", "The first 50; there are more.")
        check_equal(len(browser.all(".plot canvas")), 2 if CHARTS else 0, "charts")
        browser.until(".chart", "messages 9", "deliveries 36,", "mailboxes full 7")
        choose("messages")
        until_rows("Rooms", "match:7", "lobby")
        choose("deliveries")
        until_rows("Rooms", "lobby", "match:7")
        browser.shoot("rooms", whole=True)
        browser.size(1360, 900)
        choose("name")
        until_rows("Rooms", "lobby", "match:7", "team:00")
        turn("Next")
        until_rows("Rooms", "team:48")
        turn("Back")
        until_rows("Rooms", "lobby")
        browser.one(".filters input").send_keys("team:5")
        until_rows("Rooms", "team:50")
        check_equal(len(rows_of("Rooms")), 5, "rows of that beginning")
        browser.one(".filters input").send_keys("x")
        browser.until("tbody", "No room matches.")
        browser.go("#/friends")
        browser.until(".page", "pairs of watcher and watched", "4,242", "friends.watchers")
        browser.until(".chart", "states sent to watchers 800")
        browser.check_quiet()


def scene_room():
    with console("room/lobby") as world:
        browser.until(".facts", "120, 13 of them away", "64 messages, 6.25 KiB", "talk:*")
        until_rows("Members of the room", "player-000")
        check_equal(len(rows_of("Members of the room")), 50, "rows of a page")
        check_equal(rows_of("Members of the room")[4][1], "away", "who is away")
        turn("Next")
        until_rows("Members of the room", "player-050")
        # Rates are between what this page has asked, by the broker's clock.
        browser.until(".chart", "messages 5", "deliveries 6")
        world.rooms["lobby"]["messages_per_s"] = 0
        world.rooms["lobby"]["incarnation"] += 1  # another life; nothing is computed over that edge
        browser.until(".chart", "messages 0", "deliveries 0")
        check("-" not in browser.text(".chart .legend"), "a rate below 0")
        browser.shoot("room", whole=True)
        browser.size(1360, 900)
        close = "/api/rooms/lobby/close"
        browser.button("Close…").click()
        browser.keys(Keys.ESCAPE)
        eventually(lambda: not browser.all("dialog"), "Escape closes the dialog", PATIENCE)
        check_equal(world.asked("POST", close), [], "what was closed before anything was confirmed")
        browser.button("Close…").click()
        world.rooms["lobby"]["incarnation"] += 1
        browser.button("Close", "dialog").click()
        browser.until("dialog", "was opened anew")
        browser.button("Cancel", "dialog").click()
        incarnation = world.rooms["lobby"]["incarnation"]
        browser.until(".facts", str(incarnation))
        browser.button("Close…").click()
        browser.one("dialog input").send_keys("enough")
        browser.button("Close", "dialog").click()
        browser.until(".facts", "not open")
        check_equal(
            world.asked("POST", close)[-1],
            {"incarnation": incarnation, "detail": "enough"},
            "the end",
        )
        check_equal(browser.text(".card .buttons button.danger"), "", "what can be closed")
        browser.go("#/room/match:7")
        browser.until(".facts", "matchmaker", "2, 1 of them away")
        browser.click("[aria-label='Members of the room'] a")
        browser.until("h1", "alice")
        browser.check_quiet()
    with console("room/match:7", token=None):
        browser.until(".page", "may look and not change")
        check_equal(browser.text(".card .buttons button.danger"), "", "for who may look alone")


def scene_streams():
    with console("presence") as world:
        browser.until("tbody", "alice", "online", "login")
        for number in range(520):
            world.login("flood", number)
        browser.until("tbody", str(world.presence_last()))
        check(len(browser.all("tbody tr")) <= 500, "rows of the stream")
        for first in (1 << 20, 1):  # what the page saw last is forgotten; another stream
            with world.lock:
                world.presence_first, world.presence = first, []
                world.login(f"after-{first}", 7)
            browser.until("tbody", f"after-{first}")
            eventually(lambda: len(browser.all("tbody tr")) == 1, "one row after a reset", PATIENCE)
            world.login("next", 8)
            browser.until("tbody", "next", f"after-{first}")
        browser.go("#/recorder")
        browser.until("tbody", "store_failed", "no space left on device", "takeover")
        browser.script(
            "const box = document.querySelector('.filters select'); box.value ="
            "'error'; box.dispatchEvent(new Event('change'))"
        )
        check_equal(len(browser.all("tbody tr")), 1, "errors in the recorder")
        browser.go("#/numbers")
        browser.until("tbody", "calls_timed_out")
        check("kicked" not in browser.text("tbody"), "what is 0 is not asked for")
        browser.one(".filters input[type=checkbox]").click()
        browser.until("tbody", "kicked")
        browser.one(".filters input").send_keys("timed")
        eventually(
            lambda: "calls_timed_out" in browser.text("tbody")
            and "detached" not in browser.text("tbody"),
            "the filter",
            PATIENCE,
        )


def scene_parts_missing():
    """One part that fails leaves the others alone; charts may not have been built."""
    browser.command("Network.clearBrowserCache")
    with console(uplot=False, unavailable={"/api/slowest"}):
        browser.until(".chart", "left out of this build", "accepted 4,")
        until_tile("Messages", per_second(4190, 4210))
        browser.until(".faulty", "Slowest users", "cannot answer this now", "not in this build")
        check_equal(len(browser.all(".faulty")), 1, "parts that fail")
        browser.until(".tables", "matchmaker")


def scene_keyboard():
    with console() as world:
        until_tile("Online", lambda text: text == "108")
        browser.keys(Keys.TAB)
        check_equal(browser.focused_text(), "Skip to the content", "the first thing that Tab finds")
        browser.keys(Keys.ENTER)
        check_equal(browser.focused().get_attribute("id"), "main", "where the skip link goes")
        browser.keys("/")
        check_equal(browser.focused().get_attribute("id"), "search-input", "where / goes")
        browser.keys("player-01")
        browser.until("#search-list", "player-010", "player-017")
        browser.keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
        chosen = browser.one("#search-list [aria-selected=true]")
        check_equal(
            (chosen.text.split()[0], browser.focused().get_attribute("aria-activedescendant")),
            ("player-011", chosen.get_attribute("id")),
            "the choice",
        )
        browser.keys(Keys.ENTER)
        browser.until("h1", "player-011")
        browser.keys("/", "/no-such user/", Keys.ENTER)
        browser.until("h1", "/no-such user/")
        browser.until(".page", "no session", "holds nothing of this user")
        browser.go("#/user/alice")
        browser.until(".facts", "online")
        browser.button("Kick…").send_keys(Keys.ENTER)
        outside = 0
        for _ in range(12):
            browser.keys(Keys.TAB)
            outside += browser.script(
                "return document.activeElement !== document.body &&"
                "!document.activeElement.closest('dialog')"
            )
        check_equal(outside, 0, "times that Tab left the dialog")
        browser.keys(Keys.ESCAPE)
        eventually(lambda: browser.focused_text() == "Kick…", "the focus is back", PATIENCE)
        check_equal(world.asked("POST", "/api/sessions/alice/kick"), [], "kicks")
        browser.go("#/users")
        browser.until("tbody", "player-000")
        browser.keys_to("tbody a", Keys.ARROW_DOWN, Keys.ARROW_DOWN)
        check_equal(browser.focused_text(), "player-001", "where arrow keys go in a list")
        world.login("aaron", 1)
        browser.until("tbody", "aaron")  # the list was drawn anew
        check_equal(browser.focused_text(), "player-001", "the focus after a refresh")
        browser.go("#/rooms")
        browser.until("tbody", "lobby")
        browser.keys_to("tbody a", Keys.ARROW_DOWN)
        check_equal(browser.focused_text(), "match:7", "where arrow keys go in the list of rooms")
        world.open_room("huge", [(f"u{n}", False) for n in range(200)])
        browser.until("tbody", "huge")
        check_equal(browser.focused_text(), "match:7", "the focus after a refresh")
        browser.keys(Keys.ENTER)
        browser.until("h1", "match:7")


# Tables that are wider than their card and have no shadow where they go on, at either end.
CUT = """
    const shows = (box, side) => box.classList.contains(`more-${side}`) &&
        getComputedStyle(box).boxShadow !== 'none';
    return [...document.querySelectorAll('.scroll')]
        .filter((box) => box.checkVisibility() && (box.scrollWidth > box.clientWidth + 1) !==
            (shows(box, 'right') && !shows(box, 'left')))
        .map((box) => box.getAttribute('aria-label'));"""


def scene_a_table_says_where_it_goes_on():
    with console("users"):
        browser.size(390, 844)
        browser.until(".page", "player-000")
        box = browser.one(".scroll")
        sides = lambda: box.get_attribute("class").split()[1:]
        eventually(lambda: sides() == ["more-right"], "more on the right", PATIENCE)
        browser.script("arguments[0].scrollLeft = 40", box)
        eventually(lambda: sorted(sides()) == ["more-left", "more-right"], "more on both", PATIENCE)
        browser.script("arguments[0].scrollLeft = 4000", box)
        eventually(lambda: sides() == ["more-left"], "more on the left", PATIENCE)
        browser.size(1360, 900)
        eventually(lambda: sides() == [], "all of it is there", PATIENCE)


def scene_axes():
    """Of a broker where nothing happens: 0 and 1, and times that are whole."""
    with console(rates={}):
        eventually(lambda: len(browser.all(".u-wrap")) == CHARTS, "charts", PATIENCE)
        labels, widest, room = browser.script(DRAWN)
        rates = [text for text in labels if re.fullmatch(r"[\d.]+", text)]
        check(set(rates) >= {"0", "1"}, f"values at the axes: {rates}")
        check(not [text for text in rates if "." in text], f"fractions at the axes: {rates}")
        check(
            0 < widest / 2 <= room,
            f"a time at the end is {widest} wide, with room for {room} of it",
        )
        browser.shoot("idle")


# The words that the axes draw, how wide the widest time is, and how much room a time in the middle of
# which the picture ends has behind it.
DRAWN = """
    const labels = [], widths = [0];
    const draw = CanvasRenderingContext2D.prototype.fillText;
    CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
        labels.push(text);
        if (/^\\d\\d:\\d\\d/.test(text))
            widths.push(this.measureText(text).width);
        return draw.apply(this, arguments);
    };
    document.dispatchEvent(new Event('themechange'));
    return new Promise((done) => setTimeout(() => {
        CanvasRenderingContext2D.prototype.fillText = draw;
        const rooms = [...document.querySelectorAll('.u-wrap')].map((wrap) =>
            wrap.getBoundingClientRect().right -
            wrap.querySelector('.u-over').getBoundingClientRect().right);
        done([labels, Math.max(...widths), Math.min(...rooms)]);
    }, 500));"""


# A word of each page that is there when it is whole.
SHOWN = {
    "": "212 MiB",
    "users": "player-000",
    "user/alice": "logged in",
    "rooms": "match:7",
    "room/match:7": "alice",
    "friends": "4,242",
    "services": "mm-1",
    "presence": "alice",
    "recorder": "store_failed",
    "numbers": "calls",
}


# Tables whose heads do not stand over their columns, as when one of the two is hidden.
ASKEW = """
    return [...document.querySelectorAll('table')].filter((table) => {
        const [head, row] = [table.tHead.rows[0], table.tBodies[0].rows[0]].map((row) =>
            [...(row?.cells ?? [])].map((cell) => cell.getBoundingClientRect())
                .filter((box) => box.width > 0).map((box) => Math.round(box.left)).join());
        return row && !table.querySelector('.empty') && head !== row;
    }).map((table) => table.closest('.scroll').ariaLabel);"""
TAB_SHOWN = """
    const box = document.querySelector('nav [aria-current]').getBoundingClientRect();
    return box.left >= -1 && box.right <= innerWidth + 1 || [box.left, box.right];"""
# Figures to the right of what a table shows; lists of many columns may go on there.
UNSEEN = """
    const short = ['Ends and refusals by reason', 'Memory budget by kind', 'Queues and levels',
        'Figures of friends'];
    return [...document.querySelectorAll('.scroll')].filter((box) => short.includes(box.ariaLabel)
        && box.scrollWidth > box.clientWidth + 1).map((box) => box.ariaLabel);"""
# Links that do not stand on the line of what is beside them.
HIGH = """
    return [...document.querySelectorAll('td a')].filter((link) => {
        const [text, cell] = [link.firstChild, link.closest('td')].map((part) =>
            part.getBoundingClientRect());
        return Math.abs(text.top + text.bottom - cell.top - cell.bottom) > 12;
    }).map((link) => link.textContent);"""


def scene_narrow():
    with console():
        browser.size(360, 740)
        for page in PAGES:
            browser.go(f"#/{page}")
            browser.until(
                ".page",
                SHOWN[page],
            )
            width = browser.script("return document.documentElement.scrollWidth")
            check(width <= 360, f"#/{page} is {width} wide on a screen of 360")
            # The hint comes with the frame behind the one in which the table was drawn.
            eventually(
                lambda: browser.script(CUT) == [],
                f"no table of #/{page} is cut without a hint",
            )
            check_equal(
                browser.script(ASKEW), [], f"columns of #/{page} that stand beside their heads"
            )
            check_equal(browser.script(TAB_SHOWN), True, f"the tab of #/{page} is on the screen")
            unseen = browser.script(UNSEEN) if page in ("", "friends") else []
            check_equal(unseen, [], f"figures of #/{page} that nobody sees without scrolling")
            browser.shoot("narrow-" + page.replace("/", "-"), whole=True)
            browser.size(360, 740)
        browser.size(1360, 900)


# What can be touched and is smaller than a fingertip; links inside of running text may be.
SMALL = """
    const wanted = "button, input, select, textarea, a, [role=option]";
    return [...document.querySelectorAll(wanted)].filter((element) => {
        const box = element.getBoundingClientRect();
        const shown = box.width > 0 && getComputedStyle(element).visibility !== "hidden";
        const inText = element.matches("p a, .skip");
        const label = element.closest("label.check");
        const size = label ? label.getBoundingClientRect() : box;
        return shown && !inText && (size.height < 43.5 || (!label && size.width < 43.5));
    }).map((element) => `${element.tagName} ${element.className} ${element.textContent.trim()}`);"""


def scene_thumb():
    """At three widths nothing goes sideways, and on the two that are held in a hand everything that can be
    touched is as large as a thumb."""
    with console():
        for width, height in ((360, 740), (768, 1024), (1280, 800)):
            browser.size(width, height)
            for page in PAGES:
                browser.go(f"#/{page}")
                browser.until(".page", SHOWN[page])
                wide = browser.script("return document.documentElement.scrollWidth")
                check(wide <= width, f"#/{page} is {wide} wide on a screen of {width}")
                check_equal(browser.script(HIGH), [], f"links of #/{page} above their line")
                if width <= 768:
                    check_equal(
                        browser.script(SMALL), [], f"too small a target of #/{page} at {width}"
                    )
                if page in ("", "user/alice"):
                    browser.shoot(f"thumb-{width}-" + page.replace("/", "-"), whole=True)
                    browser.size(width, height)
        browser.size(1360, 900)


# The least contrast of text and what it stands on, over pairs of the theme's colours.
CONTRAST = """
    const style = getComputedStyle(document.documentElement);
    const light = (name) => {
        const hex = style.getPropertyValue(name).trim().slice(1);
        const [r, g, b] = [0, 2, 4].map((place) => parseInt(hex.slice(place, place + 2), 16) / 255)
            .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    return arguments[0].map(([text, back]) => {
        const [a, b] = [light(text), light(back)].sort();
        return [text, back, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
    }).filter(([, , contrast]) => !(contrast >= 4.5));"""
PAIRS = (
    [
        [f"--{text}", f"--{back}"]
        for text in ("text", "muted", "accent", "warn", "good", "bad")
        for back in ("card", "back")
    ]
    + [[f"--{kind}", f"--{kind}-back"] for kind in ("good", "warn", "bad", "news")]
    + [["--text", f"--{kind}-back"] for kind in ("good", "warn", "bad", "news", "none")]
    + [["--muted", "--none-back"], ["--accent-text", "--accent"]]
)


def theme():
    return browser.script("return document.documentElement.dataset.theme")


def scene_themes():
    with console():
        browser.prefer(prefers_color_scheme="dark", prefers_reduced_motion="reduce")
        eventually(lambda: theme() == "dark", "dark, as the system says", PATIENCE)
        check_equal(browser.script(CONTRAST, PAIRS), [], "colours that are hard to read when dark")
        moving = browser.script(
            "return getComputedStyle(document.querySelector('.page'))" ".transitionDuration"
        )
        check_equal(moving, "0s", "motion where none is wanted")
        until_tile("Delivery p99", lambda text: text == "9.00 ms")
        browser.shoot("dark")
        button = browser.one("#theme-button")
        button.click()
        check_equal((theme(), button.text), ("light", "Theme: light"), "the switch")
        check_equal(browser.script(CONTRAST, PAIRS), [], "colours that are hard to read when light")
        browser.driver.refresh()
        check_equal(theme(), "light", "the choice, after the page was loaded again")
        browser.prefer(prefers_color_scheme="light", prefers_reduced_motion="no-preference")


HIDE = """Object.defineProperty(document, "hidden", {configurable: true, value: arguments[0]});
    document.dispatchEvent(new Event("visibilitychange"))"""


def scene_hidden():
    with console() as world:
        until_tile("Messages", per_second(4190, 4210))
        browser.script(HIDE, True)

        def quiet():
            before = len(world.requests)
            time.sleep(0.5)  # five periods
            return len(world.requests) == before

        eventually(quiet, "nothing is asked for while the tab is hidden", PATIENCE)
        browser.script(HIDE, False)
        asked = len(world.requests)
        eventually(lambda: len(world.requests) > asked + 4, "it goes on", PATIENCE)


def scene_uplot_is_checked():
    """What the build fetches is taken when its sum is that of the lock, and else not at all."""
    spec = importlib.util.spec_from_file_location(
        "fetch", os.path.join(REPOSITORY, "cmake", "npm", "fetch.py")
    )
    fetch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fetch)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name in (*fetch.WANTED["uplot"], "package/more.js"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    data = archive.getvalue()
    digest = base64.b64encode(hashlib.sha512(data).digest()).decode()
    fetch.by_npm = fetch.by_http = lambda name, version, folder: data
    with tempfile.TemporaryDirectory() as folder:
        fetch.HERE, target = folder, os.path.join(folder, "uplot")
        for integrity, status, files in (
            ("sha512-" + digest[::-1], 1, None),
            ("sha512-" + digest, 0, sorted(fetch.WANTED["uplot"].values())),
        ):
            with open(os.path.join(folder, "package-lock.json"), "w") as file:
                json.dump(
                    {
                        "packages": {
                            "node_modules/uplot": {"version": "1.6.32", "integrity": integrity}
                        }
                    },
                    file,
                )
            with contextlib.redirect_stderr(io.StringIO()):
                check_equal(fetch.main("uplot", target), status, "the exit code")
            check_equal(
                sorted(os.listdir(target)) if os.path.exists(target) else None, files, "the files"
            )


def scene_real():
    """The same pages before usherd itself, which serves them."""
    token = "a-token-of-the-console-s-play"
    with tempfile.TemporaryDirectory() as folder, open(os.path.join(folder, "token"), "w") as file:
        file.write(token + "\n")
        file.flush()
        os.chmod(file.name, 0o600)
        with Broker(
            {
                "admin.listen": "127.0.0.1:0",
                "admin.token_file": file.name,
                "link.fetch_timeout_ms": 600000,
                "rooms.classes": "talk:* create=client join=any history=8/60s",
            }
        ) as broker:
            look_at(broker, token)


def follow(alice):
    """A trace of alice, who is on the page, from its start to its stop."""
    browser.until(".wide", "Not recording")
    browser.button("Follow").click()
    browser.until(".wide", "Recording", "left")
    alice.send("bob", b"followed")
    browser.until(".wide tbody", "arrived", "turn", "acked", "bob", "8 B")
    hours, minutes, seconds = browser.text(".wide tbody tr:first-child time").split(":")
    day_seconds = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    now = time.localtime()
    late = now.tm_hour * 3600 + now.tm_min * 60 + now.tm_sec - day_seconds
    late = (late + 43200) % 86400 - 43200  # midnight may lie between
    check(-5 <= late < 120, f"a record is {late} s old")
    browser.shoot("real-trace")
    browser.button("Stop").click()
    browser.until(".wide", "Not recording")


def look_at_rooms(broker):
    """A room of two, on its page, until it is closed there."""
    with Member(broker.address, "ann") as ann, Member(broker.address, "ben") as ben:
        here = ann.join("talk:1")
        ben.join("talk:1")
        browser.go("#/rooms")
        until_rows("Rooms", "talk:1")
        check_equal(rows_of("Rooms")[0][1:3], ["2", "0"], "members, and who is away")
        browser.click("tbody a")
        browser.until(".facts", "talk:*", "2, 0 of them away", f"#{here.room}")
        until_rows("Members of the room", "ann", "ben")
        ben.drop()
        browser.until("[aria-label='Members of the room']", "away")
        ann.publish(here, b"hi")
        browser.until(".facts", "1 since it was opened", "1 messages")
        browser.shoot("real-room")
        browser.button("Close…").click()
        browser.one("dialog input").send_keys("from the console")
        browser.button("Close", "dialog").click()
        browser.until(".facts", "not open")
        check_equal(ann.state().detail, "from the console", "what the members hear")
        browser.go("#/recorder")
        browser.until("tbody", "room_ended", "room_closed", "talk:1")


def look_at(broker, token):
    port = next(line["port"] for line in broker.log_events("listening") if line["for"] == "admin")
    browser.open(f"http://127.0.0.1:{port}/")
    browser.until("dialog", "shows nothing without its token")
    enter_token(token)
    browser.until("#state", "ready")
    with Backend(broker.link_url, "scores"), Client(broker.address) as alice, Client(
        broker.address
    ) as bob:
        alice.login("alice")
        bob.login("bob")
        alice.send("bob", b"hello")
        until_tile("Online", lambda text: text == "2")
        until_tile("Memory", lambda text: text.endswith("MiB"))
        until_tile("CPU", lambda text: text.endswith("%"))
        browser.until(".tables", "scores", "serving")
        check_equal(len(browser.all(".plot canvas")), CHARTS, "charts")
        for page, words in (
            ("users", ("alice", "bob", "127.0.0.1:", "tcp")),
            ("services", ("scores",)),
            ("presence", ("alice", "online")),
            ("numbers", ("messages_accepted", "login_latency")),
        ):
            browser.go(f"#/{page}")
            browser.until(".page", *words)
            browser.shoot(f"real-{page}")
        browser.go("#/recorder")
        browser.until("tbody", "starting", "login", "bob")
        browser.go("#/user/alice")
        browser.until(".facts", "online", "127.0.0.1:", "Comes by", "tcp")
        browser.until(".timeline", "logged in")
        browser.shoot("real-user")
        follow(alice)
        browser.button("Push…").click()
        browser.one("dialog textarea").send_keys("from the operator")
        browser.button("Push", "dialog").click()
        browser.until(".done", "Pushed.")
        check_equal(alice.expect("message").message.payload, b"from the operator", "the push")
        browser.button("Kick…").click()
        browser.button("Kick", "dialog").click()
        browser.until(".facts", "no session")
        alice.expect("close")
        browser.until(".timeline", "was kicked")
        look_at_rooms(broker)
        browser.check_quiet()
    broker.kill()
    browser.until("#banner", "does not answer")
    broker.restart({"admin.listen": f"127.0.0.1:{port}"})
    browser.until("#state", "ready")
    browser.driver.get("about:blank")


if __name__ == "__main__":
    skip_without()
    browser = Browser(SPEED)
    admin = FakeAdmin(populated(), keep="max-age=600")
    try:
        play(
            scene_overview,
            scene_history,
            scene_an_hour,
            scene_degraded,
            scene_certificate,
            scene_first_answer_missing,
            scene_token,
            scene_a_token_is_asked_for_in_silence,
            scene_hostile,
            scene_user,
            scene_trace,
            scene_users,
            scene_rooms,
            scene_room,
            scene_streams,
            scene_parts_missing,
            scene_keyboard,
            scene_a_table_says_where_it_goes_on,
            scene_axes,
            scene_narrow,
            scene_thumb,
            scene_themes,
            scene_hidden,
            scene_uplot_is_checked,
            scene_real,
        )
    finally:
        browser.close()
