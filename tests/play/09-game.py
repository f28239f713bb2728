# SPDX-License-Identifier: Apache-2.0
"""The game of `./dev play`, played in Chromium: docs/play.md as a test.

Everything is the real thing, started by play.mjs: broker, two instances of the service, bots, pages. What
pages show is read as numbers (`park.state()`); every step waits for what it wants to see. One
picture is kept in the game's folder of the build, or in USHER_PLAY_PICTURES."""

import contextlib
import json
import math
import os
import socket
import sys

from usherplay import Backend, Client, check, check_equal, eventually, play
from usherplay.browser import SKIPPED, Browser, skip_without
from usherplay.game import PARK, PATIENCE, RESUME_SECONDS, SWITCHES, Game, Page
from usherplay.websocket import Wire, head_bytes, new_key, upgrade_lines

SECRET = "a secret of this browser"


def place(person):
    return person["x"], person["y"]


def near(one, other, most):
    return math.dist(place(one), place(other)) <= most


def news(state, kind, name=None):
    """Rows of the feed of that kind."""
    return [
        row
        for row in state["feed"]
        if row["kind"] == kind and (name is None or name in row["names"])
    ]


def is_online(state, *names):
    return all(state["people"].get(name, {}).get("online") for name in names)


# --- the story ------------------------------------------------------------------------------------


def both_are_there(alice, bob):
    for page in (alice, bob):
        page.until(
            lambda state: state["state"] == "online"
            and is_online(state, "alice", "bob", "park:one", "park:two")
            and state["it"] in ("alice", "bob")
            and state["states"] > 3,
            "both are there, and the service with two instances",
        )


def both_show_the_same_place(walker, watcher):
    def agree():
        mine, seen = walker.state()["me"], watcher.person(walker.name)
        return not mine["walks"] and near(mine, seen, 3)

    eventually(agree, f"{walker.name} stands, and both show the same place", PATIENCE)


def a_move_is_seen(walker, watcher):
    """By the other page; away from the nearer end of the park."""
    before = watcher.person(walker.name)
    code = "KeyA" if before["x"] > 800 else "KeyD"
    walker.key(code, down=True)
    try:
        watcher.until(lambda state: not near(state["people"][walker.name], before, 60), "the move")
    finally:
        walker.key(code, down=False)
    both_show_the_same_place(walker, watcher)


def a_touch_is_told(pages):
    """Who is it walks to the other one until that one is it; both pages tell it."""
    state = pages["alice"].state()
    hunter = pages[state["it"]]
    prey = pages["bob" if hunter.name == "alice" else "alice"]
    turn = state["turn"]

    def hunt():
        shown = hunter.state()
        if shown["turn"] > turn:
            return True
        hunter.walk_to(*place(shown["people"][prey.name]))
        return False

    eventually(hunt, f"{hunter.name} touches {prey.name}", PATIENCE, pause=0.2)
    told = f"*{hunter.name}* touched *{prey.name}*, who is it now."
    for page in pages.values():
        page.until(
            lambda state: told in [row["text"] for row in news(state, "tag")],
            "the news of the touch",
        )
        # They stand close, so it may have changed again meanwhile: what is shown at one moment.
        it, banner = page.here().script(
            "return [park.state().it, document.getElementById('banner').textContent]"
        )
        check_equal(banner, "You are it!" if it == page.name else f"{it} is it", "the banner")
    both_show_the_same_place(hunter, prey)


def bots_come(alice, bob):
    for _ in range(2):
        alice.click('[data-order="/bots"][data-change="1"]')
    alice.until(lambda state: is_online(state, "bot:ada", "bot:bo"), "two bots")
    before = bob.until(lambda state: is_online(state, "bot:ada"), "two bots")["people"]["bot:ada"]
    bob.until(lambda state: not near(state["people"]["bot:ada"], before, 30), "a bot that walks")


def a_line_is_cut(alice, bob):
    """Bob's. Alice sees him wait, and says something; he comes back in place and has it."""
    before = bob.state()
    bob.click("#cut")
    seen = alice.until(lambda state: not is_online(state, "bob"), "bob is away")
    left = seen["people"]["bob"]["leftMs"]
    most = (
        RESUME_SECONDS + PATIENCE
    ) * 1000  # what this page knows of the broker's clock may be late
    check(0 < left <= most, f"his session waits {left} ms")
    check(news(seen, "DETACHED LOST", "bob"), f"why, in words: {seen['feed'][-3:]}")
    alice.until(lambda state: state["people"]["bob"]["leftMs"] < left, "the time runs")
    field = alice.here().one("#say")
    field.send_keys("are you still there?\n")
    after = bob.until(lambda state: state["resumed"] == before["resumed"] + 1, "bob is back")
    after = bob.until(
        lambda state: state["bubbles"] == [["alice", "are you still there?"]], "what waited"
    )
    check_equal(
        (after["epoch"], after["missed"]), (before["epoch"], 0), "epoch, and what is missed"
    )
    seen = alice.until(lambda state: is_online(state, "bob"), "bob is back")
    check(near(seen["people"]["bob"], before["me"], 3), "he is where he was")
    check(news(seen, "RESUMED UNKNOWN", "bob"), f"in words: {seen['feed'][-3:]}")


def a_name_is_taken_over(browser, alice, bob):
    """By alice herself, in a second tab: the first says so and stays quiet, the second one is in place."""
    before, handles = alice.state(), set(browser.driver.window_handles)
    alice.click("#again")
    new = eventually(lambda: set(browser.driver.window_handles) - handles, "a second tab", PATIENCE)
    ended = alice.until(lambda state: state["ended"], "the first tab has ended")
    check_equal(ended["ended"], "REPLACED", "why")
    alice.here().until("#door", "alice plays elsewhere now: the newest login wins")
    second = Page(browser, new.pop(), "alice")
    second.here().size(1100, 800)
    after = second.until(
        lambda state: state["state"] == "online" and state["me"]["x"] is not None,
        "the second tab plays",
    )
    check(near(after["me"], before["me"], 3), f"in place: {before['me']}, {after['me']}")
    check(after["epoch"] > before["epoch"], "a newer epoch")
    seen = bob.until(lambda state: news(state, "ONLINE TAKEOVER", "alice"), "bob is told")
    check_equal(seen["people"]["alice"]["epoch"], after["epoch"], "the epoch that bob was told")
    check_equal(alice.state()["ended"], "REPLACED", "the first tab stays quiet")
    return second


def a_page_is_loaded_again(page, watcher):
    """It resumes its session, in place."""
    before = page.state()
    page.here().driver.refresh()
    after = page.until(
        lambda state: state["state"] == "online" and state["me"]["x"] is not None, "the page, again"
    )
    check_equal((after["epoch"], after["resumed"]), (before["epoch"], 1), "its session")
    check(near(after["me"], before["me"], 3), f"in place: {before['me']}, {after['me']}")
    watcher.until(lambda state: is_online(state, page.name), "it is online to others")


def picture_of(state):
    return {
        name: (place(person), person["itMs"])
        for name, person in state["people"].items()
        if name in ("alice", "bob")
    }


def check_goes_on(before, after, what):
    """Nobody stands elsewhere, nobody's seconds are forgotten, and who was it was not drawn anew."""
    for name, (where, it_ms) in picture_of(before).items():
        now, now_ms = picture_of(after)[name]
        check(math.dist(where, now) <= 3, f"{what}: {name} was at {where} and is at {now}")
        check(now_ms >= it_ms, f"{what}: {name} was it for {it_ms} ms, and now {now_ms}")
    check(after["turn"] >= before["turn"], f"{what}: turn {before['turn']}, then {after['turn']}")
    drawn = [row["text"] for row in news(after, "tag") if row["text"].startswith("The lot")]
    check_equal(
        drawn,
        [row["text"] for row in news(before, "tag") if row["text"].startswith("The lot")],
        what,
    )


def an_instance_is_killed(alice, bob):
    """The one that keeps the park. The other one goes on with the same picture."""
    before = alice.state()
    keeper = before["keeper"]
    other = {"park:one": "park:two", "park:two": "park:one"}[keeper]
    alice.click(f'[data-instance="{keeper[5:]}"]')
    for page in (alice, bob):
        after = page.until(
            lambda state: state["keeper"] == other and state["term"] > before["term"],
            f"{other} keeps",
        )
        states = after["states"]
        after = page.until(
            lambda state: state["states"] > states + 3, "positions, from the other one"
        )
        check_goes_on(before, after, f"{keeper} was killed")
    a_move_is_seen(alice, bob)
    a_move_is_seen(bob, alice)
    alice.until(lambda state: is_online(state, keeper), f"{keeper} is back")


def an_older_keeper_is_not_believed(game, alice):
    """Played by an instance of the same service that says what one would say that has slept: with the
    term of the keeper that was the first."""
    before = alice.state()
    told = {"kind": "tag", "term": before["term"] - 1, "turn": before["turn"] + 99, "it": "nobody"}
    with Backend(f"ipc://{game.folder}/link.sock", "park", instance="slept") as slept:
        slept.push(["alice"], json.dumps({**told, "was": "alice", "how": "touch"}).encode())
    after = alice.until(lambda state: state["stale"] == before["stale"] + 1, "the old word")
    check(after["it"] != "nobody" and after["turn"] < before["turn"] + 99, f"it is {after['it']}")


def both_instances_are_killed(alice, bob):
    """Nobody has a copy of the park then; where they stand comes back from the pages."""
    before = alice.state()
    for name in ("one", "two"):
        alice.click(f'[data-instance="{name}"]')
    for page in (alice, bob):
        page.until(
            lambda state: state["keeper"] and state["term"] > before["term"] and state["it"],
            "a keeper",
        )
        eventually(
            lambda: all(
                near(page.person(name), before["people"][name], 3) for name in ("alice", "bob")
            ),
            "both stand where they stood",
            PATIENCE,
        )
    a_move_is_seen(alice, bob)


def the_broker_is_killed(alice, bob):
    """Everybody comes back to the same session, and the game is where it was."""
    before = {page.name: page.state() for page in (alice, bob)}
    alice.click('[data-order="/kill/broker"]')
    for page in (alice, bob):
        was = before[page.name]
        page.until(
            lambda state: state["partial"] == was["partial"] + 1,
            "back, and told that something may be lost",
        )
        after = page.until(
            lambda state: is_online(
                state, "alice", "bob", "bot:ada", "bot:bo", "park:one", "park:two"
            )
            and state["keeper"]
            and state["term"] > was["term"],
            "everybody is back",
        )
        check_equal(after["epoch"], was["epoch"], "the session is the one of before")
        states = after["states"]
        after = page.until(lambda state: state["states"] > states + 3, "positions again")
        check_goes_on(was, after, "the broker was killed")
    a_move_is_seen(alice, bob)
    a_move_is_seen(bob, alice)


def keep_picture(page):
    os.environ.setdefault("USHER_PLAY_PICTURES", PARK)
    page.here().size(1360, 850)
    page.until(lambda state: state["states"] > 0, "a picture")
    page.browser.shoot("game")


def check_quiet(browser):
    """The browser complains of nothing but lines that were cut and a broker that was away."""
    faults = [fault for fault in browser.faults() if "WebSocket connection to" not in fault]
    check(not faults, f"the browser complains: {faults}")


def scene_story():
    browser = Browser(arguments=SWITCHES)
    with contextlib.closing(browser), Game() as game:
        browser.size(1100, 800)
        alice = Page.open(browser, game, "alice", first=True)
        bob = Page.open(browser, game, "bob")
        both_are_there(alice, bob)
        a_move_is_seen(alice, bob)
        a_touch_is_told({"alice": alice, "bob": bob})
        a_line_is_cut(alice, bob)
        a_page_is_loaded_again(bob, alice)
        alice = a_name_is_taken_over(browser, alice, bob)
        bots_come(alice, bob)
        an_instance_is_killed(alice, bob)
        an_instance_is_killed(
            alice, bob
        )  # the one that is left of before: who came back knows all by now
        an_older_keeper_is_not_believed(game, alice)
        the_broker_is_killed(alice, bob)
        both_instances_are_killed(alice, bob)
        for page in (alice, bob):
            check_equal(page.state()["missed"], 0, f"what {page.name} has missed in all of this")
        keep_picture(alice)
        check_quiet(browser)


def scene_touch():
    """A thumb on the park: the player walks to where it is drawn, until it is lifted."""
    browser = Browser(arguments=SWITCHES)

    def touch(kind, *points):
        points = [{"x": x, "y": y} for x, y in points]
        browser.driver.execute_cdp_cmd(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": points}
        )

    with contextlib.closing(browser), Game() as game:
        browser.size(390, 844)
        carol = Page.open(browser, game, "carol", first=True)
        before = carol.until(lambda state: state["me"]["x"] is not None, "she is in")["me"]
        way = 60 if before["x"] < 800 else -60
        touch("touchStart", (200, 450))
        touch("touchMove", (200 + way, 450))
        carol.until(
            lambda state: (state["me"]["x"] - before["x"]) * way > 40 * abs(way), "she walks"
        )
        touch("touchEnd")
        carol.until(lambda state: not state["me"]["walks"], "she stands")
        there = carol.state()["me"]
        states = carol.state()["states"]
        after = carol.until(lambda state: state["states"] > states + 8, "half a second")["me"]
        check(near(there, after, 3), f"she stands: {there}, {after}")


# --- who may do what ------------------------------------------------------------------------------


def own_address():
    """One of this machine that is not of the loopback, or None. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))
            return asked.getsockname()[0]
        except OSError:
            return None


def sessions(game):
    status, answer = game.ask("GET", "/console/api/sessions")
    check_equal(status, 200, "the console")
    return {row["user"]: row for row in answer["sessions"]}


def scene_doors():
    with Game() as game:
        here = f"127.0.0.1:{game.port}"
        check_equal(game.ask("GET", "/")[0], 200, "the page")
        check_equal(
            game.ask("GET", "/", Host="evil.example")[0], 421, "a name that was turned to us"
        )
        check_equal(game.ask("GET", "/service.mjs")[0], 404, "a file that is not for pages")
        check_equal(game.ask("GET", "/../package.json")[0], 404, "a way out of the folder")
        check_equal(game.ask("GET", "//")[0], 400, "what is no address")
        check_equal(upgrade(game, here, "//")[:13], b"HTTP/1.1 404 ", "a WebSocket at none")
        claim = {"name": "carol", "secret": SECRET}
        for origin in ("http://evil.example", f"http://localhost:{game.port}", "null", ""):
            check_equal(game.post("/token", claim, Origin=origin)[0], 403, f"asked from {origin!r}")
            check_equal(game.post("/kill/broker", Origin=origin)[0], 403, f"asked from {origin!r}")
        status, answer = game.post("/token", claim)
        check_equal(status, 200, "a name that is free")
        check_equal(game.post("/token", claim)[0], 200, "the same browser again")
        check_equal(
            game.post("/token", {**claim, "secret": SECRET[::-1]})[0], 409, "somebody else's name"
        )
        for name in ("park:one", "bot:ada", "a b", "", "x" * 17, None, ["carol"]):
            check_equal(game.post("/token", {**claim, "name": name})[0], 400, f"the name {name!r}")
        check_equal(game.post("/token", {"name": "dave"})[0], 400, "without a secret")
        check_equal(game.post("/token", {**claim, "more": "x" * 2000})[0], 400, "a large body")
        check_equal(
            game.post("/cut", {"line": "0" * 32, "seconds": 1})[0], 404, "a line that is not there"
        )
        check_equal(game.post("/toString")[0], 404, "what is no button")
        no_name_is_forgotten(game, claim)
        token = answer["token"].encode()
        real_address(game, here, token)
        a_line_stays_cut(game, here, token)
        console_is_guarded(game)


def no_name_is_forgotten(game, claim):
    """Whoever claims all that there are has not got anybody's."""
    claims = [game.post("/token", {**claim, "name": f"n{n}"})[0] for n in range(1000)]
    check_equal((claims.count(200), claims[-1]), (999, 503), "999 more, and no other")
    check_equal(game.post("/token", {**claim, "secret": SECRET[::-1]})[0], 409, "his name still")


def line_of(game, here, more="", line="0123456789abcdef"):
    """A client over the WebSocket that the pages' server passes on. more: lines of its head."""
    client = Client(("127.0.0.1", game.port), source="127.0.0.5", over="tcp", timeout=PATIENCE)
    client.over = "ws"
    path = f"/usher?line={line}"
    client.wire = Wire(client, whole=False, path=path, host=here + more, origin=f"http://{here}")
    return client


def real_address(game, here, token):
    """The broker is told who connects, and no word of the client's own about it."""
    forged = "\r\nX-Forwarded-For: 9.9.9.9\r\nForwarded: for=9.9.9.9"
    with line_of(game, here, forged) as client:
        client.login("carol", token=token)
        shown = sessions(game)["carol"]
        check_equal(shown["address"].partition(":")[0], "127.0.0.5", "the address")
        check_equal(shown["transport"], "ws", "the listener")


def upgrade(game, here, path):
    with socket.create_connection(("127.0.0.1", game.port), PATIENCE) as stream:
        stream.sendall(head_bytes(upgrade_lines(new_key(), path=path, host=here)))
        return stream.recv(4096)


def a_line_stays_cut(game, here, token):
    """For so long, and no other line with it."""
    with line_of(game, here) as client, line_of(game, here, line="f" * 32) as other:
        client.login("carol", token=token)
        check_equal(
            game.post("/cut", {"line": "0123456789abcdef", "seconds": 30})[0], 200, "to cut it"
        )
        eventually(lambda: client.receive_more(0.05) or client.ended, "the line is lost", PATIENCE)
        other.login("carol", token=token)
    answer = upgrade(game, here, "/usher?line=0123456789abcdef")
    check_equal(answer[:13], b"HTTP/1.1 503 ", "to come back at once")


def console_is_guarded(game):
    status, _ = game.ask("GET", "/console/")
    check_equal(status, 200, "the console")
    status, answer = game.ask("GET", "/console/api/node", Sec_Fetch_Site="cross-site")
    check_equal((status, answer["error"]), (403, "foreign_page"), "for a page from elsewhere")


PEOPLE_MAX = 200  # play.mjs: limits.users


def scene_strangers():
    """Players who say what no page says, and as many of them as there may be."""
    with Game() as game, contextlib.ExitStack() as stack:

        def enter(name):
            claim = {"name": name, "secret": SECRET}
            token = game.post("/token", claim)[1]["token"]  # before the time for the login runs
            client = stack.enter_context(line_of(game, f"127.0.0.1:{game.port}", line=""))
            client.login(name, token=token.encode())
            return client

        eventually(lambda: {"park:one", "park:two"} <= set(sessions(game)), "both", PATIENCE)
        clients = [enter(f"stranger-{number}") for number in range(8)]  # so each instance has some
        what_they_say_kills_no_instance(game, clients)
        for number in range(PEOPLE_MAX - len(clients) - 2):
            enter(f"{number:016}").drop()  # away, and nobody is larger in a picture
        picture_of_all(clients[0])


def look(client):
    """The reply of the service."""
    frame = client.ask("call", service="park", method="look")
    check_equal(frame.WhichOneof("body"), "reply", "what a look is answered with")
    check_equal(frame.reply.status, 0, "its status")
    return json.loads(frame.reply.payload)


def what_they_say_kills_no_instance(game, clients):
    """The instance that does not keep the park forwards it: what is nested deep can be read, and not written."""
    deep = b"[" * 6000 + b"]" * 6000
    for client in clients:
        for said in (b"[%s,1]" % deep, b"[1e999,null]", b'{"length":2}', b"[", b"null"):
            client.post("call", id=0, service="park", method="move", payload=said)
        look(client)  # behind them, at the same instance
    for client in clients:
        client.frames.clear()
        states = 0
        while states < 5:  # of the keeper, who tells them as often as the other one forwards
            frame = client.next_frame()
            check(frame is not None, "states come")
            states += b'"kind":"state"' in frame.message.payload
    check_equal(game.said(r"instance .* has ended.*"), None, "an instance that has ended")


def picture_of_all(client):
    eventually(lambda: len(look(client)["people"]) == PEOPLE_MAX, "all are in it", PATIENCE)


def scene_network():
    """From another address than the loopback: the game, but no button that kills without the key."""
    address = own_address()
    if address is None or address.startswith("127."):
        print("     left out: this machine has no address but the loopback")
        return
    with Game("0.0.0.0:0") as game:
        key = game.said(r"#key=([0-9a-f]+)")[1]
        check_equal(game.ask("GET", "/", to=address)[0], 200, "the page")
        check_equal(game.post("/kill/one", to=address)[0], 403, "a button, without the key")
        check_equal(
            game.post("/kill/one", to=address, Park_Key=key[::-1])[0], 403, "with another key"
        )
        check_equal(game.ask("GET", "/console/", to=address)[0], 403, "the console")
        check_equal(
            game.post("/may", to=address)[1], {"operate": False, "console": False}, "what it may"
        )
        check_equal(game.post("/may", to=address, Park_Key=key)[1]["operate"], True, "with the key")
        check_equal(
            game.post("/may")[1], {"operate": True, "console": True}, "what this machine may"
        )
        check_equal(
            game.post("/bots", {"change": 1}, to=address, Park_Key=key)[1], {"bots": 1}, "a button"
        )
        eventually(lambda: "bot:ada" in sessions(game), "the bot", PATIENCE)
        with contextlib.closing(Browser(arguments=SWITCHES)) as browser:
            the_key_is_kept(browser, f"http://{address}:{game.port}/?name=erin", key)


def the_key_is_kept(browser, url, key):
    """The page has it from its address, takes it out of there, and still has it when it is loaded again."""

    def hint():
        """Of a button, once the page knows whether it may; None before."""
        return browser.script("return document.querySelector('[data-order]').getAttribute('title')")

    browser.driver.get(f"{url}#key={key}")
    for _ in range(2):
        eventually(lambda: hint() is not None, "the page knows what it may", PATIENCE)
        check_equal(hint(), "", "what a button says to who has the key")
        check(key not in browser.driver.current_url, "the key is gone from the address")
        browser.driver.refresh()


if not os.path.exists(os.path.join(PARK, "play.mjs")):
    print("skipped: the game is not built: node-typescript or esbuild is not here")
    sys.exit(SKIPPED)
skip_without()
play(scene_story, scene_touch, scene_doors, scene_strangers, scene_network)
