# SPDX-License-Identifier: Apache-2.0
"""The one bundle of usher-client in each runtime, before a real usherd.

Each of them (support/life.mjs) logs in, exchanges messages, calls a service, is cut and resumes, and is
taken over; with usher-client/social it is in a room as well. A program then ends by itself: nothing of the client keeps it. In Chromium also what only
pages have: a page that is loaded again, a tab that is duplicated, a main thread that is blocked, a page
that goes. What could not be had is left out, and then the test counts as skipped."""

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "play"))

from usherplay import Broker, Client, Failed, check, check_equal, eventually, play, program, seed
from usherplay.browser import SKIPPED, Browser, PageServer, webdriver
from usherplay.relay import Relay
from usherplay.schema import REPOSITORY
from usherplay.tokens import Key, Keys

PACKAGE = os.environ["USHER_JS_PACKAGE"]
RUNTIMES = os.path.join(REPOSITORY, "build", "runtimes")
NPM_WS = os.path.join(REPOSITORY, "build", "ws", "wrapper.mjs")
SUPPORT = os.path.join(HERE, "support")
PATIENCE = 30  # seconds: a slow machine is no fault of anybody
LARGE_BYTES = 60000
STRIDE = int(os.environ.get("USHER_CUTS_STRIDE", "24"))
CUTS_SECONDS = 60 + 1200 // STRIDE
TEXT = "gr\u00fc\u00dfe \U0001f3b2 aus der ferne"
OPTIONS = {
    "limits.logins_per_minute_per_user": 60000,
    "rooms.classes": "room:* create=client join=any history=16/60s",
    "friends.mode": "open",
}
BUNDLES = ("index.js", "social.js")


# --- who lives ------------------------------------------------------------------------------------


class Program:
    """A runtime with the bundle in it."""

    def __init__(self, command, bundle, url, name, *arguments):
        self.name, self.lines = name, []
        self.home = tempfile.mkdtemp(prefix="usher-runtime-")
        environment = {"HOME": self.home, "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        environment |= {"NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1"}
        words = [*command, os.path.join(SUPPORT, "program.mjs"), os.path.join(PACKAGE, bundle)]
        self.process = subprocess.Popen(
            [*words, url, name, *arguments],
            env=environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.reader = threading.Thread(
            target=lambda: self.lines.extend(line.rstrip("\n") for line in self.process.stdout)
        )
        self.reader.start()

    def report(self):
        return list(self.lines)

    def ends(self):
        """By itself, and well."""
        try:
            check_equal(self.process.wait(PATIENCE), 0, f"{self.name}: how it ended")
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} does not end; it said {self.lines}") from None

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.reader.join()
        self.process.stdout.close()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            print(f"     {self.name} said {self.lines}")
        self.close()


PAGE = b"""<!doctype html><meta charset="utf-8"><title>life</title><link rel="icon" href="data:,">
<script type="module">
    import { live } from "/life.mjs";
    const asked = new URLSearchParams(location.search);
    const { connect } = await import("/" + (asked.get("bundle") ?? "index.js"));
    window.lines = [];
    window.client = live(connect, {
        url: asked.get("url"),
        user: asked.get("user"),
        token: asked.has("token") ? async () => (await fetch("/token")).text() : undefined,
        storage: asked.has("storage") ? sessionStorage : undefined,
        report: (line) => lines.push(line),
    });
</script>"""


CUTS = b"""<!doctype html><meta charset="utf-8"><title>cuts</title><link rel="icon" href="data:,">
<script type="module">
    import { connect } from "/index.js";
    import { cutEverywhere } from "/cuts.mjs";
    const asked = new URLSearchParams(location.search);
    const relay = `localhost:${asked.get("relay")}`;
    const world = {
        direct: asked.get("url"),
        login: (user, url, options) => connect({ url, user, ...options }),
        open: async (name, cut) => ({
            url: `ws://${relay}/usher?${name}` + (cut ? `&${cut.way}&${cut.bytes}` : ""),
            used: async () => (await fetch(`http://${relay}/used?${name}`)).json(),
            close: () => {},
        }),
    };
    const how = { prefix: "page", together: 20, stride: +asked.get("stride"), phase: +asked.get("phase") };
    cutEverywhere(world, how).then(
        (found) => (window.found = found),
        (error) => (window.found = String(error)),
    );
</script>"""


def page_server(sign=None):
    """Gives the page, the bundle and the life; and what `sign` gives, as a token."""
    files = {"/": ("text/html", PAGE), "/cuts": ("text/html", CUTS)}
    modules = [os.path.join(SUPPORT, f"{name}.mjs") for name in ("life", "cuts", "wait")]
    for path in (*(os.path.join(PACKAGE, bundle) for bundle in BUNDLES), *modules):
        with open(path, "rb") as file:
            files["/" + os.path.basename(path)] = ("text/javascript", file.read())

    def find(path):
        if path == "/token":
            return ("text/plain", sign())
        return files.get(path, ("text/plain", b"nothing"))

    return PageServer(find)


class Page:
    """A tab with the bundle in it."""

    def __init__(self, browser, server, url, name, more=""):
        self.browser, self.name = browser, name
        browser.driver.get(f"{server.url}?user={name}&url={url}{more}")
        there = "return typeof client !== 'undefined'"
        eventually(lambda: browser.script(there), f"{name}: its script has run", PATIENCE)
        self.tab = browser.driver.current_window_handle

    def report(self):
        self.browser.driver.switch_to.window(self.tab)
        return self.browser.script("return window.lines ?? []")

    def ends(self):
        check_equal(self.browser.script("return client.state"), "ended", f"{self.name}: its state")


# --- what happens to them -------------------------------------------------------------------------


def seqs(lines):
    return [int(line.split()[1]) for line in lines if line.startswith("heard")]


def until(one, *wanted):
    """Until it has said these lines, in this order."""

    def said():
        rest = iter(one.report())
        return all(any(line.startswith(word) for line in rest) for word in wanted)

    try:
        eventually(said, f"{one.name} says {wanted}", PATIENCE)
    except Failed as error:
        raise Failed(f"{error}; it said {one.report()}") from None


@contextlib.contextmanager
def world(options=None):
    """A broker with a service that echoes, bob who asks, and a relay for who is asked."""
    with Broker({**OPTIONS, **(options or {})}, ws=True) as broker, Client(
        broker, over="tcp", timeout=PATIENCE
    ) as bob:
        service = subprocess.Popen(
            [program("usher-echo"), "--url", broker.link_url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            bob.login("bob")
            eventually(
                lambda: bob.ask("call", service="echo", method="echo").WhichOneof("body")
                == "reply",
                "the service is linked",
                PATIENCE,
            )
            yield broker, bob
        finally:
            service.kill()
            service.wait()


def says(bob, name, payload):
    bob.expect("message", timeout=PATIENCE, payload=payload, **{"from": name})


def talk(bob, one):
    name = one.name
    bob.send(name, f"echo {TEXT}".encode())
    says(bob, name, TEXT.encode())
    bob.send(name, b"call stressed")
    says(bob, name, b"desserts")
    bob.send(name, b"large")
    says(bob, name, b"\x07" * LARGE_BYTES)
    bob.send(name, b"post a word")
    says(bob, name, b"a word")


def be_in_a_room(broker, bob, relay, one):
    """With eve, who says something while it is away, and is its friend."""
    name = one.name
    with Client(broker, over="tcp", timeout=PATIENCE) as eve:
        eve.login("eve")
        room = eve.ask("join", room=f"room:{name}").room_state.room
        bob.send(name, f"join room:{name}".encode())
        until(one, "room JOINED NONE")
        eve.ask("publish", room=room, payload=b"one")
        bob.send(name, b"publish two")
        until(one, "room 1 eve one", f"room 2 {name} two")
        until(one, "published 2")
        bob.send(name, b"watch eve")
        until(one, "friend eve ONLINE")
        relay.cut()
        eve.ask("publish", room=room, payload=b"three")
        until(one, "room AWAY", "room JOINED COMPLETE", "room 3 eve three")
        says(bob, name, b"from afar")
        eve.post("logout", id=0)
        until(one, "friend eve OFFLINE")


def meet(broker, bob, relay, one, bundle="index.js"):
    """The whole life of one."""
    until(one, "welcome FRESH")
    talk(bob, one)
    relay.cut()
    bob.send(one.name, b"echo while you were away")
    got = {
        bytes(bob.expect("message", timeout=PATIENCE, **{"from": one.name}).message.payload)
        for _ in range(2)
    }
    check_equal(got, {b"from afar", b"while you were away"}, "what came after the cut")
    until(one, "lost LOST", "welcome COMPLETE")
    talk(bob, one)
    if bundle != "index.js":
        be_in_a_room(broker, bob, relay, one)
    with Client(broker, over="tcp", timeout=PATIENCE) as other:
        other.login(one.name, acks=True)
        until(one, "ended REPLACED", "over")
        one.ends()
        bob.send("bob", b"the end")
        says(bob, "bob", b"the end")  # nothing more of the other came before it
    lines = one.report()
    check(not any(line.startswith("failed") for line in lines), f"{one.name}: {lines}")
    heard = seqs(lines)
    check_equal(heard, list(range(1, len(heard) + 1)), f"{one.name}: what it heard")
    check_equal(len(heard), 9 if bundle == "index.js" else 12, f"{one.name}: how much it heard")


def meet_program(name, command, bundle=None, scheme="ws", module=()):
    for each in BUNDLES if bundle is None else [bundle]:
        meet_one(f"{name}-{each.partition('.')[0]}", command, each, scheme, module)


def meet_one(name, command, bundle, scheme, module):
    with world() as (broker, bob):
        where = broker.ws_address if scheme == "ws" else broker.tcp_address
        with Relay(where) as relay:
            url = f"{scheme}://127.0.0.1:{relay.address[1]}" + ("/usher" * (scheme == "ws"))
            with Program(command, bundle, url, name, *module) as one:
                meet(broker, bob, relay, one, bundle)


def runtime(name):
    return os.path.join(RUNTIMES, name)


def scene_node_of_the_system_by_tcp():
    meet_program("old-tcp", ["node"], "node.js", "tcp")


def scene_node_of_the_system_by_npm_ws():
    meet_program("old-ws", ["node"], module=(NPM_WS,))


def scene_node_with_its_own_websocket():
    meet_program("node", [runtime("node")])


def scene_bun():
    meet_program("bun", [runtime("bun"), "run"])


def scene_deno():
    meet_program("deno", [runtime("deno"), "run", "--allow-net", "--allow-read", "--no-prompt"])


# --- pages ----------------------------------------------------------------------------------------


@functools.cache
def the_browser():
    """One for all scenes: each has an origin of its own."""
    return Browser()


@contextlib.contextmanager
def page_world(options=None):
    """The browser comes first: it takes its time, which bob may not have."""
    browser = the_browser()
    with page_server() as server, world(options) as (broker, bob):
        yield broker, bob, server, browser
        browser.driver.get("about:blank")


def page_url(port):
    return f"ws://localhost:{port}/usher"


def scene_chromium():
    for bundle in BUNDLES:
        with page_world() as (broker, bob, server, browser), Relay(broker.ws_address) as relay:
            name = "page-" + bundle.partition(".")[0]
            url = page_url(relay.address[1])
            one = Page(browser, server, url, name, f"&bundle={bundle}")
            meet(broker, bob, relay, one, bundle)


def until_kept(browser, seq):
    """That a message is processed is kept a moment after its answer was sent."""
    eventually(
        lambda: browser.script("return JSON.parse(Object.values(sessionStorage)[0])[1]") == seq,
        f"the storage has {seq}",
        PATIENCE,
    )


def scene_chromium_loads_again_and_twice():
    """A reload goes on with the session; of a duplicated tab the older one ends, without a fight."""
    with page_world() as (broker, bob, server, browser):
        page = Page(browser, server, page_url(broker.ws_port), "loads", "&storage")
        until(page, "welcome FRESH")
        bob.send("loads", b"echo 1")
        says(bob, "loads", b"1")
        until_kept(browser, 1)
        browser.driver.refresh()
        bob.send("loads", b"echo 2")
        says(bob, "loads", b"2")
        until(page, "welcome COMPLETE", "heard 2")
        check_equal(seqs(page.report()), [2], "what the page heard after it was loaded again")

        until_kept(browser, 2)
        browser.script("window.open(location.href)")
        tabs = eventually(
            lambda: len(browser.driver.window_handles) == 2 and browser.driver.window_handles,
            "two tabs",
            PATIENCE,
        )
        newer = Page.__new__(Page)
        newer.browser, newer.name = browser, "loads"
        newer.tab = next(tab for tab in tabs if tab != page.tab)
        until(newer, "welcome COMPLETE")
        until(page, "ended STALE_SESSION", "over")
        bob.send("loads", b"echo 3")
        says(bob, "loads", b"3")
        check_equal(seqs(page.report()), [2], "what the older tab heard")
        check_equal(newer.report().count("welcome COMPLETE"), 1, "how often the newer one came")
        browser.driver.close()
        browser.driver.switch_to.window(page.tab)


def scene_chromium_is_blocked():
    """A main thread that stands still for more than three heartbeats costs nothing."""
    heartbeat = 1.0
    options = {"session.heartbeat_ms": int(heartbeat * 1000)}
    with page_world(options) as (broker, bob, server, browser):
        page = Page(browser, server, page_url(broker.ws_port), "blocked")
        until(page, "welcome FRESH")
        blocked = threading.Thread(
            target=browser.script,
            args=(
                "const end = Date.now() + arguments[0]; while (Date.now() < end) {}",
                int(heartbeat * 3500),
            ),
        )
        blocked.start()
        sent = 0
        while blocked.is_alive():
            bob.ping()
            if sent < 20:
                bob.send("blocked", b"%d" % sent)
                sent += 1
            time.sleep(0.1)
        blocked.join()
        bob.send("blocked", b"echo awake")
        says(bob, "blocked", b"awake")
        lines = page.report()
        check_equal(seqs(lines), list(range(1, sent + 2)), "what it heard")
        check_equal([line for line in lines if not line.startswith("heard")], ["welcome FRESH"], "")


def scene_chromium_goes():
    """A page that goes acknowledges what it has processed, though it is not yet time."""
    with page_world() as (broker, bob, server, browser):
        Page(browser, server, page_url(broker.ws_port), "goes")
        browser.script(
            # Behind the loop that leaves the message, and before an acknowledgement is due.
            "client.on('rtt', () => {}); const push = lines.push.bind(lines);"
            "lines.push = (line) => { push(line);"
            " if (line.startsWith('heard')) setTimeout(() => (location.href = 'about:blank'), 5); }"
        )
        bob.send("goes", b"farewell")
        eventually(
            lambda: browser.script("return location.href") == "about:blank", "it went", PATIENCE
        )
        with Client(broker, over="tcp", timeout=PATIENCE) as heir:
            heir.login("goes", acks=True)
            bob.send("goes", b"new")
            first = heir.expect("message").message
            check_equal(first.payload, b"new", "what the next login inherits")


def scene_chromium_and_a_broker_that_ends():
    """By an orderly stop, by kill -9 and by a drain: the page is there again after each."""
    browser = the_browser()
    with page_server() as server, Broker(OPTIONS, ws=True) as broker:
        page = Page(browser, server, page_url(broker.ws_port), "stays")
        story = ["welcome FRESH"]
        until(page, *story)
        broker.stop()
        broker.restart()
        story += ["lost SHUTDOWN", "welcome COMPLETE"]
        until(page, *story)
        broker.kill()
        broker.restart()
        story += ["lost LOST", "welcome PARTIAL"]
        until(page, *story)
        words = [program("usherctl"), "--url", broker.link_url, "drain", "--seconds", "1"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        eventually(lambda: not broker.alive(), "the drain is over", PATIENCE)
        check_equal(broker.stop(), 0, "how a drain ends")
        broker.restart()
        story += ["lost SHUTDOWN", "welcome"]
        until(page, *story)
        with Client(broker, over="tcp", timeout=PATIENCE) as bob:
            bob.login("bob")
            bob.send("stays", b"echo after it all")
            says(bob, "stays", b"after it all")
        browser.driver.get("about:blank")


def scene_chromium_and_a_token_that_ends():
    """A session that ends with its token begins anew with another; an old one is the end."""
    browser, key = the_browser(), Key("HS256", "one")
    given = []

    def sign():
        given.append(key.sign("guarded", 300 if len(given) % 2 else 2))
        return given[-1]

    ends = {"auth.session_ends": "with_token", "auth.skew_ms": 0}
    with Keys(key) as keys, keys.broker({**OPTIONS, **ends}, ws=True) as broker:
        with page_server(sign) as server:
            page = Page(browser, server, page_url(broker.ws_port), "guarded", "&token")
            until(page, "welcome FRESH", "lost TOKEN_EXPIRED", "welcome FRESH")
            check_equal(len(given), 2, "how often a token was asked for")
        with page_server(lambda: key.sign("guarded", -10)) as server:
            page = Page(browser, server, page_url(broker.ws_port), "guarded", "&token")
            until(page, "lost UNAUTHENTICATED", "ended UNAUTHENTICATED", "over")
        browser.driver.get("about:blank")


def scene_chromium_is_cut():
    """After every STRIDEth byte of a life, from a random one on. USHER_CUTS_STRIDE=1: after each."""
    phase = seed().randrange(STRIDE)
    browser = the_browser()
    with page_server() as server, Broker(OPTIONS, ws=True) as broker, subprocess.Popen(
        ["node", os.path.join(SUPPORT, "relay.mjs"), str(broker.ws_port)],
        stdout=subprocess.PIPE,
        text=True,
    ) as relay:
        try:
            port = int(relay.stdout.readline())
            where = f"url={page_url(broker.ws_port)}&relay={port}&stride={STRIDE}&phase={phase}"
            browser.driver.get(f"{server.url}cuts?{where}")
            eventually(lambda: browser.script("return window.found"), "all lives", CUTS_SECONDS)
            found = browser.script("return window.found")
            check(isinstance(found, dict), f"in the page: {found}")
            print(f"     {found['places']} places, {found['unknown']} of the promises unknown")
        finally:
            relay.kill()
        browser.driver.get("about:blank")


# --- all ------------------------------------------------------------------------------------------


def runs(path):
    """It is there, and of this machine."""
    return (
        os.access(path, os.X_OK)
        and subprocess.run([path, "--version"], capture_output=True).returncode == 0
    )


@functools.cache
def has_browser():
    return webdriver is not None and all(map(shutil.which, ("chromium", "chromedriver")))


NEEDS = {
    scene_node_of_the_system_by_tcp: ("node", lambda: shutil.which("node")),
    scene_node_of_the_system_by_npm_ws: ("npm ws", lambda: os.path.exists(NPM_WS)),
    scene_node_with_its_own_websocket: ("node 24 of npm", lambda: runs(runtime("node"))),
    scene_bun: ("bun of npm", lambda: runs(runtime("bun"))),
    scene_deno: ("deno of npm", lambda: runs(runtime("deno"))),
    scene_chromium: ("chromium", has_browser),
    scene_chromium_loads_again_and_twice: ("chromium", has_browser),
    scene_chromium_is_blocked: ("chromium", has_browser),
    scene_chromium_goes: ("chromium", has_browser),
    scene_chromium_and_a_broker_that_ends: ("chromium", has_browser),
    scene_chromium_and_a_token_that_ends: ("chromium", has_browser),
    scene_chromium_is_cut: ("chromium", has_browser),
}


def main():
    missing = {scene: what for scene, (what, there) in NEEDS.items() if not there()}
    try:
        play(*(scene for scene in NEEDS if scene not in missing))
    except SystemExit as end:
        if end.code == 0 and missing:
            what = ", ".join(sorted(set(missing.values())))
            print(f"skipped in part: without {what}; ./dev test fetches or installs it")
            sys.exit(SKIPPED)
        raise
    finally:
        if the_browser.cache_info().currsize:
            the_browser().close()


if __name__ == "__main__":
    main()
