# SPDX-License-Identifier: Apache-2.0
"""WebSocket clients that we did not write, and a proxy that we did not write, before a real usherd.

Each peer (tests/play/peers) logs in, answers, is sent what waited for it, and is kicked or leaves with
the right code; by ws and by wss. Chromium also sleeps, and comes by HTTP/2 through HAProxy. What is not
installed is left out, and then the play counts as skipped."""

import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from usherplay import (
    Backend,
    Client,
    Failed,
    TlsBroker,
    TlsClient,
    check,
    check_equal,
    eventually,
    free_port,
    play,
    program,
)
from usherplay.backend import cause_name, kind_name
from usherplay.browser import SKIPPED, Browser, PageServer, webdriver
from usherplay.figures import stats
from usherplay.schema import REPOSITORY

PEERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers")
NPM_WS = os.path.join(REPOSITORY, "build", "ws")
PATIENCE = 30  # seconds: a slow machine is no fault of anybody
ECHOES = 50
WAITING = 300  # messages of 1 KB
OPTIONS = {"limits.inbox_messages": 1000, "limits.inbox_bytes": 1 << 20}
KICKED = "said 2 and do not come back", "closed 4002 and do not come back"


def installed(*names):
    return all(shutil.which(name) for name in names)


def has_module(name):
    return (
        subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True).returncode
        == 0
    )


class Peer:
    """One of the programs, with a home of its own."""

    def __init__(self, kind, broker, name, wss, folder):
        url = f"ws://localhost:{broker.ws_port}/usher"
        environment = {**os.environ, "PEER_NAME": name, "HOME": folder, "LC_ALL": "C.UTF-8"}
        if wss:
            url = f"wss://localhost:{broker.wss_port}/usher"
            environment["PEER_CA"] = broker.authority.certificate
            environment["NODE_EXTRA_CA_CERTS"] = broker.authority.certificate
            trust(broker.authority.certificate, folder)
        environment["PEER_URL"] = url
        self.name = name
        self.process = subprocess.Popen(
            COMMANDS[kind](folder),
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self):
        """What it printed, without what it says of itself."""
        try:
            text, _ = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            text, _ = self.process.communicate()
            raise Failed(f"{self.name} does not end; it printed {text!r}") from None
        words = ("open", "said", "closed")
        return [line.strip() for line in text.splitlines() if line.startswith(words)] or [text]

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()


def trust(certificate, folder):
    """Where mono looks for authorities that the user trusts."""
    done = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", certificate],
        capture_output=True,
        text=True,
        check=True,
    )
    store = os.path.join(folder, ".config", ".mono", "new-certs", "Trust")
    os.makedirs(store, exist_ok=True)
    shutil.copy(certificate, os.path.join(store, f"{done.stdout.strip()}.0"))


def mono(folder):
    compiled = os.path.join(folder, "Peer.exe")
    subprocess.run(["mcs", f"-out:{compiled}", os.path.join(PEERS, "Peer.cs")], check=True)
    return ["mono", compiled]


COMMANDS = {
    "python": lambda folder: ["/usr/bin/python3", "-u", os.path.join(PEERS, "peer.py")],
    "npm": lambda folder: ["node", os.path.join(PEERS, "node.mjs"), NPM_WS],
    "godot": lambda folder: ["godot3-server", "-s", os.path.join(PEERS, "peer.gd")],
    "mono": mono,
}


def talk(bob, name):
    """Until it is there; then it answers in order."""

    def there():
        return bob.ask("send", to=name, payload=b"echo hello").WhichOneof("body") == "done"

    eventually(there, f"{name} logs in", PATIENCE)
    bob.expect("message", timeout=PATIENCE, payload=b"hello")
    for number in range(ECHOES):
        bob.post("send", id=0, to=name, payload=b"echo %d" % number)
    for number in range(ECHOES):
        bob.expect("message", timeout=PATIENCE, payload=b"%d" % number, **{"from": name})


def count_of(bob, name):
    bob.post("send", id=0, to=name, payload=b"count")
    return int(bob.expect("message", timeout=PATIENCE, **{"from": name}).message.payload)


def waiting_messages(broker, bob, name):
    """300 of 1 KB, for somebody who comes back."""
    with Client(broker, over="tcp") as before:
        before.login(name, acks=True)
    until_detached(broker, name)
    for number in range(WAITING):
        bob.send(name, b"%04d" % number + b"k" * 1020)


def last_event(broker, name):
    with Backend(broker) as backend:
        events = [event for event in backend.all_events() if event.user == name]
    return (kind_name(events[-1]), cause_name(events[-1])) if events else None


def until_detached(broker, name):
    eventually(
        lambda: last_event(broker, name) == ("DETACHED", "LOST"), f"{name} is detached", PATIENCE
    )


def kick(broker, name):
    with Backend(broker) as backend:
        backend.kick(name, detail="and do not come back", do_not_return=True)


def meet(kind):
    """The whole story of one kind of peer, over both transports."""
    with TlsBroker(OPTIONS, ws=True) as broker, Client(
        broker, over="tcp", timeout=PATIENCE
    ) as bob, tempfile.TemporaryDirectory(prefix="usher-peer-") as folder:
        bob.login("bob")
        for transport in ("ws", "wss"):
            name = f"{kind}-{transport}"
            waiting_messages(broker, bob, name)
            began = time.monotonic()
            with Peer(kind, broker, name, transport == "wss", folder) as peer:
                eventually(
                    lambda: last_event(broker, name)[0] == "ONLINE", f"{name} is there", PATIENCE
                )
                check_equal(count_of(bob, name), WAITING + 1, f"{name}: messages that had waited")
                talk(bob, name)
                took = time.monotonic() - began
                kick(broker, name)
                said = ["open usher.v1", *KICKED]
                check_equal(peer.end(), said, f"{name}: what it saw")
            with Peer(kind, broker, name, transport == "wss", folder) as peer:
                talk(bob, name)
                bob.post("send", id=0, to=name, payload=b"leave")
                said = peer.end()
                check_equal(said[-1].split()[:2], ["closed", "1000"], f"{name}: it left: {said}")
            until_detached(broker, name)
            print(f"     {name}: {WAITING} waiting messages and {ECHOES} echoes in {took:.2f} s")
        numbers = stats(broker)
        check_equal((numbers["ws_broken"], numbers["ws_refused"]), (0, 0), "broken, refused")


def scene_python_websockets():
    meet("python")


def scene_npm_ws():
    meet("npm")


def scene_godot():
    meet("godot")


def scene_mono():
    meet("mono")


def scene_one_that_stands_still():
    """A process that is stopped answers no ping: it is given up."""
    options = {**OPTIONS, "session.heartbeat_ms": 300}
    with TlsBroker(options, ws=True) as broker:
        with tempfile.TemporaryDirectory(prefix="usher-peer-") as folder, Peer(
            "python", broker, "statue", False, folder
        ) as peer:
            eventually(lambda: last_event(broker, "statue"), "it is there", PATIENCE)
            time.sleep(2)  # it says nothing, but its library answers
            check_equal(stats(broker)["sessions_detached"], 0, "detached")
            peer.process.send_signal(signal.SIGSTOP)
            eventually(
                lambda: last_event(broker, "statue") == ("DETACHED", "HEARTBEAT"), "given up", 10
            )
            peer.process.send_signal(signal.SIGCONT)
            said = peer.end()
            check_equal(said[-1].split()[:2], ["closed", "4006"], f"what it saw: {said}")


# --- Chromium -------------------------------------------------------------------------------------

PAGE = "<!doctype html><title>peer</title><script>{}</script>"


def page_bytes():
    with open(os.path.join(PEERS, "peer.js"), encoding="utf-8") as file:
        return PAGE.format(file.read()).encode()


def page_server():
    """Gives the one page, whatever is asked for."""
    body = page_bytes()
    return PageServer(lambda path: ("text/html", body))


class Page:
    """A peer in the browser's page."""

    def __init__(self, browser, url, name):
        self.browser, self.name = browser, name
        browser.script(
            "window.peer = startPeer(new WebSocket(arguments[0], 'usher.v1'), arguments[1], () => {})",
            url,
            name,
        )

    def until(self, expression, what):
        return eventually(lambda: self.browser.script(f"return {expression}"), what, PATIENCE)

    def end(self):
        self.until("peer.lines.some((line) => line.startsWith('closed'))", "the page sees the end")
        return self.browser.script("return peer.lines")


@contextlib.contextmanager
def chromium():
    """It takes the certificates of plays for good."""
    browser = Browser(arguments=("--ignore-certificate-errors",))
    try:
        yield browser
    finally:
        browser.close()


def meet_page(broker, page, bob, name):
    """As meet(), for a page that is there. Gives how many events it had."""
    page.until("peer.welcomed", "a Welcome")
    page.until(f"peer.count >= {WAITING}", "what waited")
    messages = page.browser.script("return peer.messages")
    check(messages < WAITING / 4, f"{WAITING} frames came as {messages} events")
    check_equal(count_of(bob, name), WAITING + 1, "messages that had waited")
    talk(bob, name)
    kick(broker, name)
    check_equal(page.end(), ["open usher.v1", *KICKED], f"{name}: what it saw")
    return messages


def scene_chromium():
    with chromium() as browser, page_server() as server, TlsBroker(
        OPTIONS, ws=True
    ) as broker, Client(broker, over="tcp", timeout=PATIENCE) as bob:
        bob.login("bob")
        for transport, port in (("ws", broker.ws_port), ("wss", broker.wss_port)):
            name = f"page-{transport}"
            url = f"{transport}://localhost:{port}/usher"
            browser.driver.get(server.url)
            waiting_messages(broker, bob, name)
            messages = meet_page(broker, Page(browser, url, name), bob, name)
            print(f"     {name}: {WAITING} waiting messages in {messages} events")
            page = Page(browser, url, name)
            talk(bob, name)
            bob.post("send", id=0, to=name, payload=b"leave")
            check_equal(page.end()[-1].split()[:2], ["closed", "1000"], "its own Close")
            until_detached(broker, name)
            page = Page(browser, url, f"{name}-2")
            page.until("peer.welcomed", "a Welcome")
            # The browser closes. Who goes to another page is still there for a while: it is kept,
            # with its socket, for the way back.
            browser.driver.get(server.url)
            until_detached(broker, f"{name}-2")
        # What a page may not do, and what it learns of that: 1006.
        browser.driver.get(server.url.replace("localhost", "page.localhost"))
        page = Page(browser, f"ws://localhost:{broker.ws_port}/usher", "stranger")
        check_equal(page.end(), ["closed 1006"], "a page of another host, with auth.mode open")
        line = broker.log_events("ws_refused")[-1]
        check(line["status"] == 403 and "ws.origins" in line["reason"], f"the log: {line}")


def scene_chromium_that_sleeps():
    """A page whose main thread is blocked for three heartbeats stays, and loses nothing."""
    heartbeat = 1.0
    options = {**OPTIONS, "session.heartbeat_ms": int(heartbeat * 1000)}
    with chromium() as browser, page_server() as server, TlsBroker(
        options, ws=True
    ) as broker, Client(broker, over="tcp", timeout=PATIENCE) as bob:
        bob.login("bob")
        browser.driver.get(server.url)
        for transport, port in (("ws", broker.ws_port), ("wss", broker.wss_port)):
            sleep_for(
                3.5 * heartbeat, broker, bob, browser, f"{transport}://localhost:{port}/usher"
            )


def sleep_for(seconds, broker, bob, browser, url):
    name = f"sleeper-{url[:3]}"
    page = Page(browser, url, name)
    page.until("peer.welcomed", "a Welcome")
    before = stats(broker)["ws_pings"]
    blocked = threading.Thread(
        target=browser.script,
        args=(
            "const end = Date.now() + arguments[0]; while (Date.now() < end) {}",
            int(seconds * 1000),
        ),
    )
    blocked.start()
    sent = 0
    while blocked.is_alive():
        bob.ping()
        if sent < 20:
            bob.send(name, b"%d" % sent)
            sent += 1
        time.sleep(0.1)
    blocked.join()
    check_equal(count_of(bob, name), sent + 1, "messages of its sleep")
    numbers = stats(broker)
    check_equal(last_event(broker, name), ("ONLINE", "LOGIN"), "what happened to it")
    pinged = numbers["ws_pings"] - before
    check(pinged >= 2, f"{pinged} pings")
    print(f"     {name}: blocked for {seconds} s, {pinged} pings, {sent} messages")
    kick(broker, name)
    check_equal(page.end()[-1], KICKED[1], "the end")


# --- HAProxy --------------------------------------------------------------------------------------

PROXY = """
global
    stats socket {folder}/stats.sock mode 600 level admin
    log stdout format raw local0
defaults
    mode http
    log global
    log-format "%ft %[ssl_fc_alpn] %HM %HP %ST"
    timeout connect 5s
    timeout client 10s
    timeout server 10s
    timeout tunnel 1h
    timeout check 2s
    errorfile 408 /dev/null
frontend plain
    bind 127.0.0.1:{plain}
    default_backend usher
frontend secure
    bind 127.0.0.1:{secure} ssl crt {folder}/proxy.pem alpn h2,http/1.1
    http-request return status 200 content-type text/html file {folder}/page.html if {{ path / }}
    default_backend usher
backend usher
    option httpchk GET /health
    server node1 127.0.0.1:{ws} check inter 200ms fall 1 rise 1
"""


class Proxy:
    """HAProxy in front of the broker's listen.ws."""

    def __init__(self, broker, folder):
        self.plain, self.secure = free_port(), free_port()
        self.folder = folder
        with open(os.path.join(folder, "proxy.pem"), "wb") as file:
            for part in (broker.identity.certificate, broker.identity.key):
                with open(part, "rb") as source:
                    file.write(source.read())
        with open(os.path.join(folder, "page.html"), "wb") as file:
            file.write(page_bytes())
        path = os.path.join(folder, "haproxy.cfg")
        with open(path, "w", encoding="ascii") as file:
            file.write(
                PROXY.format(folder=folder, plain=self.plain, secure=self.secure, ws=broker.ws_port)
            )
        self.log = open(os.path.join(folder, "haproxy.log"), "w+", encoding="utf-8")
        self.process = subprocess.Popen(
            ["/usr/sbin/haproxy", "-db", "-f", path], stdout=self.log, stderr=subprocess.STDOUT
        )
        eventually(lambda: self.state() == "UP", "the broker is in the pool", PATIENCE)

    def state(self):
        """Of the broker, as HAProxy sees it."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(5)
            stream.connect(os.path.join(self.folder, "stats.sock"))
            stream.sendall(b"show stat\n")
            told = b""
            while data := stream.recv(65536):
                told += data
            for line in told.decode().splitlines():
                fields = line.split(",")
                if fields[:2] == ["usher", "node1"]:
                    return fields[17]
        return None

    def lines(self):
        with open(self.log.name, encoding="utf-8") as file:
            return file.read().splitlines()

    def close(self):
        self.process.terminate()
        self.process.wait(10)
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            print("\n".join(f"     haproxy: {line}" for line in self.lines()[-20:]))
        self.close()


@contextlib.contextmanager
def proxied(options=None):
    with tempfile.TemporaryDirectory(prefix="usher-proxy-") as folder, TlsBroker(
        {**OPTIONS, **(options or {})}, ws=True
    ) as broker, Proxy(broker, folder) as proxy:
        yield broker, proxy


class ProxyTls(TlsClient):
    """A client that meets TLS at the proxy."""

    def __init__(self, broker, proxy):
        self._where = ("127.0.0.1", proxy.secure)
        super().__init__(broker, over="ws", timeout=PATIENCE)

    def _address_of(self, where):
        return self._where


def scene_haproxy():
    """In front of it nothing changes for a client; a drain takes the broker out of the pool."""
    with proxied() as (broker, proxy):
        plain = Client(("127.0.0.1", proxy.plain), over="ws", timeout=PATIENCE)
        plain.login("plain")
        secure = ProxyTls(broker, proxy)
        secure.login("secure")
        for client, name in ((plain, "plain"), (secure, "secure")):
            client.send("plain", b"x" * 60000)
            plain.expect("message", **{"from": name})
        for client, name in ((plain, "plain"), (secure, "secure")):
            client.ping()
            kick(broker, name)
            client.expect_close("KICKED")
            check_equal(client.wire.reader.closed.code, 4002, "code")
            client.close()
        staying = ProxyTls(broker, proxy)
        staying.login("staying")
        check_equal(proxy.state(), "UP", "state in the pool")
        done = subprocess.run(
            [program("usherctl"), "--url", broker.link_url, "drain", "--seconds", "3600"],
            capture_output=True,
            text=True,
            check=False,
        )
        check_equal(done.returncode, 0, f"usherctl drain: {done.stderr}")
        began = time.monotonic()
        eventually(lambda: proxy.state() == "DOWN", "out of the pool", 10)
        print(f"     out of the pool {time.monotonic() - began:.2f} s after the drain's begin")
        with Client(("127.0.0.1", proxy.plain), over="ws") as late:
            try:
                late.login("late")
                raise Failed("HAProxy sends somebody to a broker that drains")
            except OSError:
                check_equal(late.wire.answer.status, 503, "what a late one is told")
        staying.ping()
        staying.close()


def scene_chromium_by_http2():
    """A page that came by HTTP/2 opens its WebSocket on the same connection; the broker sees HTTP/1.1."""
    with chromium() as browser, proxied() as (broker, proxy), Client(
        broker, over="tcp", timeout=PATIENCE
    ) as bob:
        bob.login("bob")
        browser.driver.get(f"https://localhost:{proxy.secure}/")
        check_equal(
            browser.script("return performance.getEntriesByType('navigation')[0].nextHopProtocol"),
            "h2",
            "how the page came",
        )
        url = f"wss://localhost:{proxy.secure}/usher"
        waiting_messages(broker, bob, "page")
        messages = meet_page(broker, Page(browser, url, "page"), bob, "page")
        line = eventually(
            lambda: [
                line for line in proxy.lines() if line.startswith("secure") and "/usher" in line
            ],
            "HAProxy's line",
        )[-1]
        print(f"     {WAITING} waiting messages in {messages} events; HAProxy: {line}")
        check_equal(line.split()[1], "h2", "how the WebSocket came")
        Page(browser, url, "page")
        talk(bob, "page")
        browser.driver.get(f"https://localhost:{proxy.secure}/")
        until_detached(broker, "page")


NEEDS = {
    scene_python_websockets: ("python3-websockets", lambda: has_module("websockets")),
    scene_npm_ws: (
        "npm ws (cmake/npm/fetch.py)",
        lambda: os.path.exists(NPM_WS) and installed("node"),
    ),
    scene_godot: ("godot3-server", lambda: installed("godot3-server")),
    scene_mono: ("mono-mcs", lambda: installed("mono", "mcs")),
    scene_one_that_stands_still: ("python3-websockets", lambda: has_module("websockets")),
    scene_chromium: ("chromium", lambda: has_browser()),
    scene_chromium_that_sleeps: ("chromium", lambda: has_browser()),
    scene_haproxy: ("haproxy", lambda: os.path.exists("/usr/sbin/haproxy")),
    scene_chromium_by_http2: (
        "chromium or haproxy",
        lambda: has_browser() and os.path.exists("/usr/sbin/haproxy"),
    ),
}


@functools.cache
def has_browser():
    return webdriver is not None and installed("chromium", "chromedriver")


def main():
    missing = {}
    for scene, (what, there) in NEEDS.items():
        if not there():
            missing[scene] = what
    try:
        play(*(scene for scene in NEEDS if scene not in missing))
    except SystemExit as end:
        if end.code == 0 and missing:
            what = ", ".join(sorted(set(missing.values())))
            print(f"skipped in part: without {what}; ./dev build installs it")
            sys.exit(SKIPPED)
        raise


if __name__ == "__main__":
    main()
