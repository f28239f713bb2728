# SPDX-License-Identifier: Apache-2.0
"""The programs that people and scripts use: usher, usherctl and usher-echo, end to end."""

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time

from usherplay import (
    Broker,
    Client,
    backend_pb,
    check,
    check_equal,
    eventually,
    logged_in,
    play,
    program,
)
from usherplay.broker import free_port
from usherplay.tls import TlsBroker

REFUSED, NO_BROKER, USAGE = 1, 2, 64


class Running:
    """A program in the background: its stdout line by line."""

    def __init__(self, name, *arguments):
        self.name = name
        self.process = subprocess.Popen(
            [program(name), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.lines, self.errors = [], []
        for pipe, lines in ((self.process.stdout, self.lines), (self.process.stderr, self.errors)):
            threading.Thread(target=self._read, args=(pipe, lines), daemon=True).start()

    @staticmethod
    def _read(pipe, lines):
        for line in pipe:
            lines.append(line.decode(errors="replace").rstrip("\n"))

    def wait_line(self, condition, what, timeout=20):
        def found():
            return next((line for line in list(self.lines) if condition(line)), None)

        try:
            return eventually(found, f"a line of {self.name}: {what}", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; it said {self.lines} {self.errors}") from None

    def say(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def wait(self, timeout=10):
        return self.process.wait(timeout)

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.end()


def run(name, *arguments, expect=0, environment=None, stdin=b""):
    """Runs a program to its end; gives its stdout."""
    done = subprocess.run(
        [program(name), *arguments],
        input=stdin,
        capture_output=True,
        timeout=20,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    out, errors = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    check(
        done.returncode == expect,
        f"{name} {' '.join(arguments)}: exit {done.returncode} "
        f"instead of {expect}: {out[-500:]} {errors[-1500:]}",
    )
    run.errors = errors
    return out


def objects(text):
    # Not splitlines: a string of JSON may hold U+2028, which ends a line for Python alone.
    return [json.loads(line) for line in text.split("\n") if line]


class Tools:
    """The programs, pointed at one broker."""

    def __init__(self, broker):
        self.port = getattr(broker, "reach", ("--port", str(broker.port)))
        self.url = ("--url", broker.link_url)

    def usher(self, command, *arguments, **named):
        return run("usher", command, *self.port, *arguments, **named)

    def ctl(self, command, *arguments, **named):
        return objects(run("usherctl", *self.url, "--json", command, *arguments, **named))


def scene_send_and_listen(make=Broker):
    with make() as broker:
        tools = Tools(broker)
        tools.usher("send", "--user", "alice", "--to", "bob", "hello", expect=REFUSED)
        with Running(
            "usher", "listen", *tools.port, "--user", "bob", "--count", "2", "--json"
        ) as listener:
            listener.wait_line(lambda line: "WELCOME" in line, "WELCOME")
            out = tools.usher("send", "--user", "alice", "--to", "bob", "--json", "hello")
            check_equal(objects(out)[-1]["event"], "DONE", "what send prints")
            text = 'line\nbreak \x1b[31mred\x1b[0m "quoted" \u00fc\u2028'
            tools.usher("send", "--user", "alice", "--to", "bob", text)
            check_equal(listener.wait(), 0, "exit code of listen")
            time.sleep(0.1)
            messages = [
                line for line in objects("\n".join(listener.lines)) if line["event"] == "MESSAGE"
            ]
            check_equal(
                [(message["from"], message["payload"]) for message in messages],
                [("alice", "hello"), ("alice", text)],
                "the messages",
            )
        out = tools.usher("send", "--user", "alice", "--to", "alice", "note")
        check("done" in out, f"send without --json printed {out!r}")


def scene_now_or_never():
    """Transient: by usher, in a talk and by usherctl; the exit code says whether it went."""
    with Broker() as broker, Client(broker) as away:
        tools = Tools(broker)
        sent = ("send", "--user", "alice", "--transient", "--json", "--to")
        tools.usher(*sent, "bob", "x", expect=REFUSED)
        welcome = away.login("away")
        with Running(
            "usher", "listen", *tools.port, "--user", "bob", "--acks", "--count", "4", "--json"
        ) as bob, Running("usher", *tools.port, "--user", "carol") as carol:
            bob.wait_line(lambda line: "WELCOME" in line, "WELCOME")
            done = objects(tools.usher(*sent, "bob", "at 3"))[0]
            check("dropped" not in done, f"it went, and the answer is {done}")
            carol.say("/wave bob hi")
            carol.wait_line(lambda line: "done" in line, "the answer to a wave")
            check_equal(tools.ctl("push", "bob", "x", "--transient")[0]["accepted"], 1, "accepted")
            check_equal(tools.ctl("push-all", "all", "--transient")[0]["accepted"], 3, "mailboxes")
            check_equal(bob.wait(), 0, "exit")
            time.sleep(0.1)
            lines = objects("\n".join(bob.lines))
            messages = [line for line in lines if line["event"] == "MESSAGE"]
            check_equal(
                [(entry["transient"], "seq" in entry) for entry in messages],
                [(True, False)] * 4,
                "what bob saw",
            )
            away.drop()
            eventually(lambda: broker.log_events("detached"), "the loss")
            done = objects(tools.usher(*sent, "away", "x", expect=REFUSED))[0]
            check(done["dropped"], f"away, and the answer is {done}")
            check_equal(done["epoch"], welcome.epoch, "whose it is")
            carol.say("/wave away hi")
            carol.wait_line(lambda line: "dropped" in line, "the answer to the second wave")
            result = tools.ctl("push", "away", "x", "--transient", expect=REFUSED)[0]
            check_equal((result["accepted"], result["dropped"]), (0, 1), "accepted and dropped")


def scene_large_messages(make=Broker):
    """What the broker takes, both sides take: no message ends its receiver's session for good."""
    large = b"x" * 1_500_000
    with make(
        {
            "limits.frame_bytes": 4 << 20,
            "limits.inbox_bytes": 8 << 20,
            "limits.output_bytes": 16 << 20,
        }
    ) as broker:
        tools = Tools(broker)
        with Running(
            "usher", "listen", *tools.port, "--user", "bob", "--acks", "--count", "2", "--json"
        ) as listener:
            listener.wait_line(lambda line: "WELCOME" in line, "WELCOME")
            tools.usher("send", "--user", "alice", "--to", "bob", "-", stdin=large)
            tools.usher("send", "--user", "alice", "--to", "bob", "behind it")
            check_equal(listener.wait(), 0, "exit code of listen")
            eventually(lambda: len(listener.lines) >= 3, "three events")
            events = objects("\n".join(listener.lines))
            check_equal(
                [len(event["payload"]) for event in events if event["event"] == "MESSAGE"],
                [len(large), len("behind it")],
                "what came",
            )
            check_equal(len(broker.log_events("resumed")), 0, "resumes")
        out = tools.usher(
            "send", "--user", "alice", "--to", "alice", "-", stdin=large * 3, expect=REFUSED
        )
        check_equal(out, "", "what send printed")
        tools.usher(
            "send", "--user", "alice", "--to", "alice", "-", stdin=large * 12, expect=REFUSED
        )


def scene_call(make=Broker):
    with make() as broker:
        tools = Tools(broker)
        call = ("--user", "alice", "--service", "echo", "--json")
        out = tools.usher("call", *call, "--method", "echo", "hello", expect=REFUSED)
        check_equal(objects(out)[-1]["code"], "NO_SERVICE", "a call without the service")
        with Running("usher-echo", *tools.url) as echo:
            eventually(lambda: broker.log_events("link_hello"), "usher-echo linked")
            for method, text, answer in (("echo", "hello", "hello"), ("reverse", "abc", "cba")):
                reply = objects(tools.usher("call", *call, "--method", method, text))[-1]
                check_equal(
                    (reply["event"], reply["status"], reply["payload"]),
                    ("REPLY", 0, answer),
                    method,
                )
            reply = objects(tools.usher("call", *call, "--method", "whoami"))[-1]
            check(reply["payload"].startswith("alice "), f"whoami: {reply}")
            reply = objects(tools.usher("call", *call, "--method", "nonsense", expect=REFUSED))[-1]
            check_equal(reply["status"], 404, "an unknown method")
            reply = objects(
                tools.usher("call", *call, "--method", "echo", "-", stdin=b"from stdin")
            )[-1]
            check_equal(reply["payload"], "from stdin", "TEXT from stdin")
            check_equal(echo.end(), 0, "exit code of usher-echo after SIGTERM")


class WsBroker(Broker):
    """One that is reached by WebSocket."""

    def __init__(self, options=None):
        place = f"127.0.0.1:{free_port()}"
        self.reach = ("--url", f"ws://{place}")
        super().__init__({"listen.ws": place, **(options or {})})


class WssBroker(TlsBroker):
    """And over TLS."""

    def __init__(self, options=None):
        place = f"127.0.0.1:{free_port()}"
        super().__init__({"listen.wss": place, **(options or {})})
        self.reach = ("--url", f"wss://{place}/usher", "--ca", self.authority.certificate)


def scene_over_websocket():
    for make in (WsBroker, WssBroker):
        for scene in (scene_send_and_listen, scene_call, scene_chat, scene_large_messages):
            scene(make)


def scene_a_session_resumes_over_websocket():
    """A restart under a listener, with and without TLS: he is back by himself and misses nothing."""
    for make in (WsBroker, WssBroker):
        with make() as broker:
            tools = Tools(broker)
            with Running(
                "usher", "listen", *tools.port, "--user", "bob", "--acks", "--count", "2", "--json"
            ) as listener:
                listener.wait_line(lambda line: "WELCOME" in line, "WELCOME")
                tools.usher("send", "--user", "alice", "--to", "bob", "before")
                listener.wait_line(lambda line: "before" in line, "the first message")
                broker.kill()
                listener.wait_line(lambda line: "DISCONNECTED" in line, "DISCONNECTED")
                broker.restart()
                eventually(lambda: broker.log_events("resumed"), "the session is resumed", 20)
                tools.usher("send", "--user", "alice", "--to", "bob", "after")
                check_equal(listener.wait(), 0, "exit code of listen")


def scene_urls_that_lead_elsewhere():
    """Each says what is wrong and what to look at."""
    with WsBroker({"listen.wss": ""}) as broker, TlsBroker() as other:
        ws, tcp = broker.options["listen.ws"], broker.options["listen.tcp"]
        send = ("send", "--user", "alice", "--to", "bob", "hello")
        for url, code, word in (
            (f"ws://{ws}/elsewhere", NO_BROKER, "with 404: check the path"),
            (f"ws://{tcp}", NO_BROKER, "with 426: check the port"),
            (f"tcp://{ws}", REFUSED, "PROTOCOL_ERROR"),
            (f"wss://{ws}", NO_BROKER, "no TLS with 127.0.0.1"),
            (
                f"tls://127.0.0.1:{other.tls_port}",
                NO_BROKER,
                "check port, certificate and authority",
            ),
            (f"http://{ws}", USAGE, "it does not begin with"),
            ("http:///usher", USAGE, "it does not begin with"),
            ("ws:///usher", USAGE, "that is no host"),
            ("tcp://:7400", USAGE, "that is no host"),
            ("tcp://localhost:0", USAGE, "that is no port"),
            ("tcp://localhost:65536", USAGE, "that is no port"),
            (f"ws://me@{ws}", USAGE, "that is no host"),
            (f"ws://{ws}/usher#top", USAGE, "the path holds what a URL may not"),
            (f"ws://{ws}/us her", USAGE, "the path holds what a URL may not"),
        ):
            run("usher", *send, "--url", url, expect=code)
            check(word in run.errors, f"{url}: it said {run.errors}")
        run("usher", *send, "--url", f"ws://{ws}", "--port", "1", expect=USAGE)
        run("usher", *send, "--url", f"ws://{ws}", "--ca", "ca.pem", expect=USAGE)
        check("only tls:// and wss://" in run.errors, f"--ca without TLS: it said {run.errors}")
        for url in ("http:///usher", "tcp://:1", "tcp://h:0", "tcp://h:65537", "tcp://a b:1"):
            run("usherctl", "--url", url, "count", expect=USAGE)
            check("is not a link" in run.errors, f"usherctl {url}: it said {run.errors}")


def scene_a_full_broker_by_websocket():
    """He hears OVERLOADED as everybody does, though nothing of him was read."""
    with WsBroker({"limits.connections": 1}) as broker, Client(broker) as bob:
        bob.login("bob")
        out = Tools(broker).usher(
            "send", "--user", "alice", "--to", "bob", "--json", "hello", expect=REFUSED
        )
        check_equal(objects(out)[-1]["reason"], "OVERLOADED", "what the client hears")


def scene_service_survives_a_restart():
    with Broker() as broker:
        tools = Tools(broker)
        with Running("usher-echo", *tools.url, "--presence") as echo:
            eventually(lambda: broker.log_events("link_hello"), "usher-echo linked")
            with Client(broker) as alice:
                alice.login("alice")
                echo.wait_line(lambda line: "alice is online" in line, "alice online")
            broker.kill()
            broker.restart()
            began = time.monotonic()
            broker.wait_log("link_hello", 15)
            print(f"     usher-echo linked again {time.monotonic() - began:.2f} s after ready")
            with Client(broker) as bob:
                bob.login("bob")
                echo.wait_line(lambda line: "bob is online" in line, "bob online")
                bob.post("call", service="echo", method="echo", payload=b"again")
                bob.expect("reply", payload=b"again")
            kinds = [line for line in echo.lines if line.startswith("alice")]
            check_equal(
                len([line for line in kinds if "online" in line]), 1, f"alice's online in {kinds}"
            )


def scene_chat(make=Broker):
    with make() as broker, Client(broker) as bob:
        bob.login("bob")
        with Running("usher", *Tools(broker).port, "--user", "alice", "--json") as chat:
            chat.wait_line(lambda line: "WELCOME" in line, "WELCOME")
            chat.say("@bob hello bob")
            bob.expect("message", payload=b"hello bob", **{"from": "alice"})
            bob.send("alice", b"hello alice")
            chat.wait_line(lambda line: "hello alice" in line, "the message")
            chat.say("/ping")
            chat.wait_line(lambda line: "PONG" in line, "PONG")
            chat.say("@nobody hello")
            chat.wait_line(lambda line: "NOT_ONLINE" in line, "NOT_ONLINE")
            with Client(broker) as newer:
                newer.login("alice")
                chat.wait_line(lambda line: "REPLACED" in line, "REPLACED")
                code = chat.wait()
                check(code != 0, "a replaced client ends as if all were well")
                newer.ping()  # and does not come back to fight for the name
        with Running("usher", *Tools(broker).port, "--user", "carol") as chat:
            chat.wait_line(lambda line: "welcome" in line, "welcome")
            Tools(broker).ctl("push", "carol", "the server restarts")
            chat.wait_line(
                lambda line: line.strip() == "<(operator)> the server restarts",
                "the push of an operator",
            )
            chat.process.stdin.close()  # the end of stdin ends it
            check_equal(chat.wait(), 0, "exit code at the end of stdin")
        for _ in range(20):  # whatever was asked before is answered
            out = run("usher", *Tools(broker).port, "--user", "carol", stdin=b"@nobody x\n" * 10)
            check_equal(out.count("NOT_ONLINE"), 10, f"answers at the end of stdin: {out}")
        with Running("usher", *Tools(broker).port, "--user", "dave") as chat:
            chat.wait_line(lambda line: "welcome" in line, "welcome")
            with Client(broker) as newer:
                newer.login("dave")
                line = chat.wait_line(lambda line: "the connection of dave" in line, "why it ended")
                check_equal(line.count("elsewhere"), 1, f"said twice: {line}")


def scene_ctl_questions():
    with Broker() as broker, Client(broker) as alice, Client(broker) as bob:
        ctl = Tools(broker).ctl
        check_equal(ctl("who"), [], "who, with nobody")
        epoch = alice.login("alice", client="phone").epoch
        bob.login("bob")
        who = ctl("who")
        check_equal(
            [(line["user"], line["state"]) for line in who],
            [("alice", "online"), ("bob", "online")],
            "who",
        )
        check_equal((who[0]["epoch"], who[0]["client"]), (epoch, "phone"), "alice in who")
        check_equal([line["transport"] for line in who], ["tcp", "tcp"], "by which they came")
        check_equal([line["user"] for line in ctl("who", "--prefix", "b")], ["bob"], "who b*")
        check_equal(ctl("find", "alice")[0]["epoch"], epoch, "find")
        found = ctl("find", "alice", "ghost", expect=REFUSED)
        check_equal([line["state"] for line in found], ["online", "gone"], "find one and nobody")
        check(2 in [line["value"] for line in ctl("count")], "count does not say 2")
        stats = {line["name"]: line["value"] for line in ctl("stats")}
        check_equal(stats["logins"], 2, "logins in stats")
        events = [line for line in ctl("presence", "--after", "0") if "kind" in line]
        check_equal(
            [(line["seq"], line["user"], line["kind"]) for line in events],
            [(1, "alice", "online"), (2, "bob", "online")],
            "presence",
        )
        check_equal(len([line for line in ctl("snapshot") if "user" in line]), 2, "snapshot")
        text = run("usherctl", "--url", broker.link_url, "who")
        check("alice" in text and "USER" in text, f"who as a table: {text}")


def scene_ctl_many():
    """More than one page."""
    with Broker() as broker:
        clients = logged_in(
            broker,
            [f"user-with-a-rather-long-name-{number:04}" for number in range(300)],
            client="c" * 60,
        )
        names = [line["user"] for line in Tools(broker).ctl("who")]
        check_equal(names, sorted(client.name for client in clients), "who of 300")
        for client in clients:
            client.drop()


def scene_ctl_commands():
    with Broker() as broker, Client(broker) as alice, Client(broker) as bob:
        ctl = Tools(broker).ctl
        first = alice.login("alice").epoch
        bob.login("bob")
        check_equal(ctl("push", "alice", "hello")[-1]["accepted"], 1, "push")
        alice.expect("message", payload=b"hello")
        ctl("push", "nobody", "hello", expect=REFUSED)
        ctl("push-all", "to all")
        for client in (alice, bob):
            client.expect("message", payload=b"to all")
        ctl("kick", "alice", "--epoch", str(first + 1), expect=REFUSED)
        alice.ping()
        ctl("kick", "alice", "--reason", "enough for today", "--do-not-return")
        close = alice.expect_close("KICKED", do_not_return=True)
        check_equal(close.detail, "enough for today", "the detail of Close")
        ctl("kick", "alice", expect=REFUSED)


def scene_ctl_follow():
    with Broker({"session.resume_ms": 400}) as broker:
        tools = Tools(broker)
        with Running("usherctl", *tools.url, "--json", "presence", "--follow") as follow:
            eventually(lambda: broker.log_events("link_hello"), "usherctl linked")
            with Client(broker) as alice:
                alice.login("alice")
                follow.wait_line(lambda line: '"online"' in line, "online")
            follow.wait_line(lambda line: '"detached"' in line, "detached")
            follow.wait_line(lambda line: '"offline"' in line, "offline")
            events = [line for line in objects("\n".join(follow.lines)) if "kind" in line]
            check_equal(
                [line["kind"] for line in events], ["online", "detached", "offline"], "the events"
            )


# Which command takes which options, beside those that all take; the others are refused.
TABLES = {
    "usher": (
        {
            "user",
            "url",
            "host",
            "port",
            "token",
            "token-file",
            "tls",
            "ca",
            "server-name",
            "certificate",
            "key",
            "acks",
            "json",
            "last-mid",
        },
        {
            "chat": set(),
            "send": {"to", "delivered", "transient", "keep-s", "tag", "traceparent", "timeout"},
            "call": {"service", "method", "traceparent", "timeout"},
            "listen": {"count", "timeout"},
        },
    ),
    "usherctl": (
        {"url", "token-file", "json"},
        {
            "who": {"prefix"},
            "find": set(),
            "count": set(),
            "kick": {"epoch", "reason", "do-not-return"},
            "push": {"epoch", "transient", "keep-s", "tag", "traceparent"},
            "push-all": {"transient", "traceparent"},
            "presence": {"after", "follow", "user"},
            "snapshot": set(),
            "why": {"last"},
            "stats": set(),
            "rooms": set(),
            "room": set(),
            "inbox": set(),
            "inbox-drop": {"up-to"},
            "recorder": {"user"},
            "trace": {"seconds", "one-in", "trace-id"},
            "reload": set(),
            "drain": {"seconds", "restart"},
        },
    ),
    "usher-token": (
        set(),
        {
            "keygen": {"algorithm", "kid", "out", "add"},
            "public": {"keys", "out"},
            "sign": {
                "keys",
                "kid",
                "sub",
                "ttl",
                "not-before",
                "issuer",
                "audience",
                "rooms",
                "out",
            },
            "check": {"keys", "issuer", "audience", "token-file"},
        },
    ),
}
WORDS = {
    "find": ["x"],
    "room": ["x"],
    "inbox": ["x"],
    "inbox-drop": ["x"],
    "kick": ["x"],
    "push": ["x", "text"],
    "push-all": ["text"],
    "trace": ["x"],
    "why": ["x"],
    "send": ["text"],
}
NUMBERS = {
    "port",
    "epoch",
    "after",
    "last",
    "seconds",
    "one-in",
    "count",
    "timeout",
    "ttl",
    "not-before",
    "keep-s",
    "tag",
    "last-mid",
    "up-to",
}


def scene_each_option_means_something_or_is_refused():
    """Every command of every tool with every option that its --help names."""
    with tempfile.TemporaryDirectory() as folder:
        nobody = os.path.join(folder, "nobody.sock")
        needs = {
            "usher": [
                "--user",
                "x",
                "--host",
                "127.0.0.1",
                "--port",
                str(free_port()),
                "--to",
                "x",
                "--service",
                "x",
                "--method",
                "x",
            ],
            "usherctl": ["--url", f"ipc://{nobody}"],
            "usher-token": [],
        }
        file = os.path.join(folder, "file")
        with open(file, "w", encoding="ascii") as token:
            token.write("token")
        for name, (always, commands) in TABLES.items():
            named = set(re.findall(r"--([a-z]+(?:-[a-z]+)*)(?![a-z-])", run(name, "--help")))
            named -= {"help", "version"}
            check_equal(named, always.union(*commands.values()), f"the options of {name}")
            for command, own in commands.items():
                for option in sorted(named):
                    # Of what the command needs, only that which it takes.
                    given = needs[name]
                    if name == "usher":
                        given = [
                            word
                            for pair in zip(given[::2], given[1::2])
                            for word in pair
                            if pair[0][2:] in own | always
                            and not (option == "url" and pair[0] in ("--host", "--port"))
                        ]
                    value = "7" if option in NUMBERS else file
                    if (name, option) == ("usher", "url"):
                        value = f"ws://127.0.0.1:{free_port()}"
                    done = subprocess.run(
                        [
                            program(name),
                            command,
                            *given,
                            f"--{option}={value}" if takes_value(name, option) else f"--{option}",
                            *WORDS.get(command, []),
                        ],
                        capture_output=True,
                        text=True,
                        stdin=subprocess.DEVNULL,
                        timeout=20,
                        check=False,
                        cwd=folder,
                    )
                    refused = f"--{option} means nothing for {command}" in done.stderr
                    check_equal(
                        refused,
                        option not in own | always,
                        f"{name} {command} --{option}: {done.stderr}",
                    )
                    check(not refused or done.returncode == USAGE, f"exit {done.returncode}")


def takes_value(name, option):
    return re.search(rf"--{option}(,| )[A-Z|]", run(name, "--help")) is not None


def scene_who_is_not_let_near_the_socket_hears_so():
    with Broker() as broker:
        os.chmod(broker.folder, 0o755)
        os.chmod(broker.link_path, 0o600)
        try:
            done = subprocess.run(
                [program("usherctl"), "--url", broker.link_url, "count"],
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
                user=65534,
                group=65534,
                extra_groups=[],
            )
        except PermissionError:
            print(
                "     (skipped: no right to become somebody else, or the program is out of reach)"
            )
            return
        check(
            "permission denied" in done.stderr and "is usherd running" not in done.stderr,
            f"usherctl said {done.stderr}",
        )
        check_equal(done.returncode, REFUSED, "exit code")


class LyingNode:
    """Answers each query with the same page and says that there is more."""

    def __init__(self, folder, fill):
        self.fill, self.asked = fill, 0
        self.path = os.path.join(folder, "lying.sock")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(4)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        try:
            while True:
                self._answer(self.listener.accept()[0].makefile("rwb"))
        except OSError:
            pass

    def _answer(self, stream):
        stream.write(b"\0SP\0\0\x31\0\0")
        stream.flush()
        stream.read(8)
        while head := stream.read(9):
            body = stream.read(int.from_bytes(head[1:], "big"))
            request = backend_pb.LinkRequest.FromString(body[4:])
            answer = backend_pb.LinkAnswer()
            answer.results.seq = request.submit.seq
            self.fill(answer.results.results.add())
            self.asked += 1
            payload = body[:4] + answer.SerializeToString()
            stream.write(b"\x01" + len(payload).to_bytes(8, "big") + payload)
            stream.flush()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.listener.close()


def scene_a_node_that_never_gets_ahead():
    def page(result):
        result.sessions.sessions.add(user="alice", state=1, epoch=7)
        result.sessions.more = True

    def lines(result):
        result.lines.lines.append('{"event":"login"}')
        result.lines.next, result.lines.more = 5, True

    for command, fill in (("who", page), ("snapshot", page), ("recorder", lines), ("trace", lines)):
        with tempfile.TemporaryDirectory() as folder, LyingNode(folder, fill) as node:
            words = ("alice",) if command == "trace" else ()
            out = run(
                "usherctl", "--url", f"ipc://{node.path}", "--json", command, *words, expect=REFUSED
            )
            check(len(objects(out)) <= 3, f"it printed {len(objects(out))} lines")
            check("no usherd" in run.errors, f"it does not say why: {run.errors}")


HARMFUL = "\x1b]0;title\x07\x1b[2J\x9b31m\u202eexe\u2028"


def scene_a_node_that_speaks_to_the_terminal():
    """Whoever answers at the address of a node is shown, and not obeyed."""

    def lines(result):
        result.lines.lines.append('{"event":"' + HARMFUL + '"}\nforged')
        result.lines.next = 5

    def sessions(result):
        result.sessions.sessions.add(
            user="alice",
            state=1,
            epoch=7,
            client=HARMFUL,
            address=HARMFUL,
            node=HARMFUL,
            transport=HARMFUL,
        )

    def numbers(result):
        result.numbers.numbers.add(name=HARMFUL, value=1)

    for words, fill in (
        (["recorder"], lines),
        (["reload"], lines),
        (["drain"], lines),
        (["trace", "alice"], lines),
        (["who"], sessions),
        (["find", "x"], sessions),
        (["stats"], numbers),
    ):
        for form in ([], ["--json"]):
            with tempfile.TemporaryDirectory() as folder, LyingNode(folder, fill) as node:
                done = subprocess.run(
                    [program("usherctl"), "--url", f"ipc://{node.path}", *form, *words],
                    capture_output=True,
                    timeout=60,
                    check=False,
                )
                text = (done.stdout + done.stderr).decode()
                check("title" in text, f"{words} {form} shows {text!r}")
                check(
                    not set(text) & (set(HARMFUL) - set("]0;title[2J31mexe")),
                    f"{words} {form} shows {text!r}",
                )
                check("\nforged" not in text, f"{words} {form}: a line of its own in {text!r}")


def scene_presence_of_one_user():
    with Broker() as broker:
        tools = Tools(broker)
        for user in ("alice", "bob", "alicia"):
            tools.usher("send", "--user", user, "--to", user, "x")
        events = tools.ctl("presence", "--user", "alice")
        check_equal(
            [(event["user"], event["kind"]) for event in events],
            [("alice", "online"), ("alice", "offline")],
            "events of alice",
        )
        check_equal(len(tools.ctl("presence")), 6, "all events")
        with Running(
            "usherctl", *tools.url, "--json", "presence", "--follow", "--user", "bob"
        ) as follower:
            eventually(lambda: follower.errors, "usherctl is linked")
            for user in ("alice", "bob"):
                tools.usher("send", "--user", user, "--to", user, "x")
            follower.wait_line(lambda line: "offline" in line, "bob's end")
            check(
                all(event["user"] == "bob" for event in objects("\n".join(follower.lines))),
                f"others too: {follower.lines}",
            )


def scene_a_link_that_wants_a_token():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "token")
        with open(path, "w", encoding="ascii") as file:
            file.write("sesame\n")
        os.chmod(path, 0o600)
        with Broker({"link.token_file": path}) as broker:
            url = ("--url", broker.link_url)
            run("usher-echo", *url, expect=1)
            check("token" in run.errors, f"it does not say why: {run.errors}")
            run("usher-echo", *url, "--token-file", os.path.join(folder, "none"), expect=USAGE)
            with Running("usher-echo", *url, "--token-file", path) as echo:
                eventually(lambda: broker.log_events("link_hello"), "usher-echo linked")
                check_equal(echo.end(), 0, "exit code")


def scene_control_bytes():
    """What others wrote does not reach a terminal as orders, nor break a line of a script."""
    with Broker() as broker, Client(broker) as alice:
        tools = Tools(broker)
        evil = '\x1b[2J\r\n{"user":"forged"}\x9b\u202e'
        alice.login("alice", client=evil)
        check_equal([line["client"] for line in tools.ctl("who")], [evil], "client in JSON")
        table = run("usherctl", *tools.url, "who")
        check("\x1b" not in table and "\r" not in table, f"control bytes in a table: {table!r}")
        check_equal(len(table.splitlines()), 2, "lines of the table")
        check(not any("raw" in line for line in broker.lines), "the log was broken by a client")


def scene_nobody_there():
    missing = ("--url", "ipc:///tmp/usher-play-missing.sock")
    began = time.monotonic()
    run("usherctl", *missing, "who", expect=NO_BROKER)
    check("usherd" in run.errors, f"usherctl does not say what to do: {run.errors}")
    run("usher", "send", "--port", "1", "--user", "alice", "--to", "bob", "x", expect=NO_BROKER)
    check("usherd" in run.errors, f"usher does not say what to do: {run.errors}")
    check(time.monotonic() - began < 15, "it takes too long to say that nobody is there")
    for command in (["who"], ["presence"], ["presence", "--follow"]):
        printed = run("usherctl", "--url", "tcp://127.0.0.1:1", *command, expect=NO_BROKER)
        check_equal(printed, "", f"a table of nothing: {command}")
    run("usher-echo", "--nonsense", expect=USAGE)
    for name in ("usher", "usherctl"):
        check("usage" in run(name, "--help").lower(), f"{name} --help has no usage")
        check(any(digit in run(name, "--version") for digit in "0123456789"), f"{name} --version")
        run(name, "nonsense", expect=USAGE)
        run(name, "--nonsense", expect=USAGE)
    run("usher", "send", "--user", "alice", expect=USAGE)
    for option, value in (("--port", "99999"), ("--token-file", "/nowhere"), ("--timeout", "x")):
        run("usher", "send", "--user", "alice", "--to", "bob", option, value, "x", expect=USAGE)
        check(f"{option} {value}" in run.errors, f"it does not say what is wrong: {run.errors}")
    run("usherctl", "kick", expect=USAGE)


if __name__ == "__main__":
    play(
        scene_send_and_listen,
        scene_now_or_never,
        scene_large_messages,
        scene_call,
        scene_over_websocket,
        scene_a_session_resumes_over_websocket,
        scene_urls_that_lead_elsewhere,
        scene_a_full_broker_by_websocket,
        scene_service_survives_a_restart,
        scene_chat,
        scene_ctl_questions,
        scene_ctl_many,
        scene_ctl_commands,
        scene_ctl_follow,
        scene_each_option_means_something_or_is_refused,
        scene_who_is_not_let_near_the_socket_hears_so,
        scene_presence_of_one_user,
        scene_a_link_that_wants_a_token,
        scene_a_node_that_never_gets_ahead,
        scene_a_node_that_speaks_to_the_terminal,
        scene_control_bytes,
        scene_nobody_there,
    )
