# SPDX-License-Identifier: Apache-2.0
"""What operations.md says to put in front of WebSocket, as it stands there: each block for nginx and
HAProxy is run with ports and certificates of this play, and clients come through it. Neither is
installed for it: nginx begins to serve at once on the machine where it is."""

import contextlib
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from usherplay import TlsBroker, check, check_equal, eventually, play, program
from usherplay.broker import free_port

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/operations.md")
SKIPPED = 77  # ctest's SKIP_RETURN_CODE
PATIENCE = 20


def blocks(language):
    with open(PAGE, encoding="utf-8") as file:
        return re.findall(rf"^```{language}\n(.*?)^```$", file.read(), re.M | re.S)


def filled(text, *pairs):
    """Each must be there: else the page says something else by now."""
    for old, new in pairs:
        check(old in text, f"the block has no {old!r}:\n{text}")
        text = text.replace(old, new)
    return text


class World:
    """A broker with both ports of WebSocket, whose certificate is also that of who is in front."""

    def __init__(self, options=None):
        self.ws, self.wss, self.front = free_port(), free_port(), free_port()
        self.folder = tempfile.mkdtemp(prefix="usher-play-front-")
        self.broker = TlsBroker(
            {
                "listen.ws": f"127.0.0.1:{self.ws}",
                "listen.wss": f"127.0.0.1:{self.wss}",
                **(options or {}),
            }
        )
        self.authority = self.broker.authority.certificate
        self.url = f"wss://localhost:{self.front}/usher"

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.broker.__exit__(*what)
        shutil.rmtree(self.folder, ignore_errors=True)

    def file(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def both(self):
        """Certificate and key in one, as HAProxy wants them."""
        texts = []
        for name in (self.broker.identity.certificate, self.broker.identity.key):
            with open(name, encoding="ascii") as file:
                texts.append(file.read())
        return self.file("both.pem", "".join(texts))

    def ctl(self, *words):
        done = subprocess.run(
            [program("usherctl"), "--url", self.broker.link_url, "--json", *words],
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        return [json.loads(line) for line in done.stdout.decode().splitlines()]

    @contextlib.contextmanager
    def listener(self, name, url=None):
        """A client that waits for one message; it must have it at the end."""
        with subprocess.Popen(
            [program("usher"), "listen", "--user", name, "--count", "1", "--json"]
            + ["--url", url or self.url, "--ca", self.authority],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            eventually(lambda: self.state(name) == "online", f"{name} is online", PATIENCE)
            yield
            check_equal(self.ctl("push", name, "hello")[-1]["result"], "ok", "the push")
            out, _ = process.communicate(timeout=PATIENCE)
            check("hello" in out and process.returncode == 0, f"{name} heard: {out}")

    def find(self, name):
        return self.ctl("find", name)[0]

    def state(self, name):
        return self.find(name)["state"]

    def page(self, path):
        """Status of what the web server itself serves, or passes on."""
        context = ssl.create_default_context(cafile=self.authority)
        try:
            url = f"https://localhost:{self.front}{path}"
            with urllib.request.urlopen(url, timeout=PATIENCE, context=context) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


@contextlib.contextmanager
def running(*command):
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)


def nginx(world, read_timeout="90s"):
    block = filled(
        blocks("nginx")[0],
        ("listen 443", f"listen 127.0.0.1:{world.front}"),
        ("server_name game.example", "server_name localhost"),
        ("/etc/ssl/game/fullchain.pem", world.broker.identity.certificate),
        ("/etc/ssl/game/key.pem", world.broker.identity.key),
        ("root /var/www/game", f"root {world.folder}"),
        ("127.0.0.1:7401", f"127.0.0.1:{world.ws}"),
        ("proxy_read_timeout 90s", f"proxy_read_timeout {read_timeout}"),
    )
    paths = "".join(
        f"{name}_temp_path {world.folder}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    world.file("index.html", "a page")
    os.chmod(world.folder, 0o755)
    conf = world.file(
        "nginx.conf",
        f"daemon off; pid {world.folder}/pid; error_log stderr;"
        f"events {{}} http {{ access_log off; {paths}\n{block}}}\n",
    )
    return running("/usr/sbin/nginx", "-p", world.folder, "-c", conf)


def haproxy(world, block, *pairs):
    conf = world.file("haproxy.cfg", filled(block, *pairs))
    return running("/usr/sbin/haproxy", "-db", "-f", conf)


def ends_in_front(world, *others):
    page = (
        'backend pages\n    mode http\n    http-request return status 200 string "a page"'
        " content-type text/plain\n"
    )
    return haproxy(
        world,
        blocks("haproxy")[0] + page,
        ("bind :443", f"bind 127.0.0.1:{world.front}"),
        ("/etc/haproxy/game.pem", world.both()),
        ("127.0.0.1:7401", f"127.0.0.1:{world.ws}"),
        ("inter 2s", "inter 200ms"),
        *others,
    )


def scene_nginx():
    with World() as world, nginx(world):
        eventually(lambda: world.page("/") == 200, "the page is served", PATIENCE)
        with world.listener("alice"):
            check_equal(world.find("alice")["transport"], "ws", "by which she came")
        check_equal(world.page("/usher"), 426, "a page that is no WebSocket")


def scene_haproxy():
    with World() as world, ends_in_front(world):
        eventually(lambda: world.page("/usher") == 426, "the broker is found well", PATIENCE)
        check_equal(world.page("/"), 200, "the page")
        with world.listener("alice"):
            check_equal(world.find("alice")["transport"], "ws", "by which she came")
            world.ctl("drain", "--seconds", "20")
            eventually(lambda: world.page("/usher") == 503, "nobody new is sent there", PATIENCE)
            check_equal(world.state("alice"), "online", "who was in")


def scene_haproxy_says_for_whom():
    options = {"proxy.from": "127.0.0.1", "auth.allow_open_network": "true"}
    line = "check inter 200ms"
    with World(options) as world, ends_in_front(world, (line, f"send-proxy-v2 {line}")):
        eventually(lambda: world.page("/usher") == 426, "the broker is found well", PATIENCE)
        with world.listener("alice"):
            check_equal(world.find("alice")["transport"], "ws", "by which she came")


def scene_haproxy_passes_tls_on():
    with World() as world, haproxy(
        world,
        blocks("haproxy")[1],
        ("bind :443", f"bind 127.0.0.1:{world.front}"),
        ("127.0.0.1:7444", f"127.0.0.1:{world.wss}"),
        ("inter 2s", "inter 200ms"),
    ):
        eventually(lambda: world.page("/health") == 200, "the broker is found well", PATIENCE)
        with world.listener("alice"):
            check_equal(world.find("alice")["transport"], "wss", "by which she came")


def scene_a_quiet_client_stays():
    """A web server that waits for longer than a heartbeat cuts nobody who is quiet."""
    with World({"session.heartbeat_ms": 1000}) as world, nginx(world, "3s"):
        eventually(lambda: world.page("/") == 200, "the page is served", PATIENCE)
        with world.listener("alice"):
            time.sleep(7)  # twice what it waits: nothing must happen meanwhile
            check_equal(world.state("alice"), "online", "a quiet client")


if __name__ == "__main__":
    scenes = {
        "nginx": (scene_nginx, scene_a_quiet_client_stays),
        "haproxy": (scene_haproxy, scene_haproxy_says_for_whom, scene_haproxy_passes_tls_on),
    }
    there = [name for name in scenes if os.path.exists(f"/usr/sbin/{name}")]
    for name in scenes.keys() - there:
        print(f"     left out: {name} is not installed")
    if not there:
        sys.exit(SKIPPED)
    play(*(scene for name in there for scene in scenes[name]))
