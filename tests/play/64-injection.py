# SPDX-License-Identifier: Apache-2.0
"""What people write as names, texts and payloads, with orders for terminals, line ends and quotes:
the log has one line per event, programs show it harmlessly, secrets are in no line, and the numbers
are the same ones however many names there were.

USHER_PLAY_DISTINCT: how many distinct names."""

import collections
import json
import os
import pty
import re
import select
import signal
import subprocess
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    LinkRefused,
    backend_pb,
    check,
    check_equal,
    eventually,
    frame_bytes,
    play,
    program,
    scaled,
)

EVIL = (
    "\x1b[2J\x1b]0;owned\x07",
    "a\r\nb",
    '\n{"event":"forged"}',
    '" event=forged x="',
    '\\" \\',
    "\x01",
    "\x7f\x08\x08\x08",
    "\u009b31m",
    "\u2028\u2029\u0085",
    "\u202eevil\u2066",
    "\ufeff\u200b",
    "%s%n%x",
    "${jndi:x}",
    "' OR 1=1 --",
    "x" * 64,
    "\t",
    "event=forged",
    "=",
    "\U0001f600" * 16,
)
LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info|warn|error) +([a-z_]+)"
    r'((?: [a-z_0-9]+=(?:"(?:[^"\\]|\\["\\]|\\u[0-9a-f]{4})*"|'
    r"[A-Za-z0-9._:/@+-]+))*)"
)
HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
TOKEN = b"TOKEN-of-a-player-7f3a"
LINK_TOKEN = "TOKEN-of-the-link-99c1"
PAYLOAD = b"PAYLOAD-nobody-should-read"
DISTINCT = 100000


class RawLog:
    """usherd with stderr in a file, so that the very bytes are seen."""

    def __init__(self, format, **options):
        self.broker = Broker(
            {"log.format": format, "log.level": "debug", **options},
            wrapper=["/bin/sh", "-c", 'exec "$@" 2>log.txt', "sh"],
            wait=False,
        )
        self.path = os.path.join(self.broker.folder, "log.txt")

    def __enter__(self):
        try:
            eventually(lambda: b"ready" in self.bytes(), "a broker that is ready", 20)
        except BaseException:
            self.broker.close()
            raise
        return self

    def bytes(self):
        if not os.path.exists(self.path):
            return b""
        with open(self.path, "rb") as file:
            return file.read()

    def stop(self):
        """The whole log."""
        check_equal(self.broker.stop(), 0, "the orderly stop")
        return self.bytes()

    def __exit__(self, kind, value, trace):
        self.broker.close()


def fields_of(line, format):
    """(event, fields); a line that is none is a failure."""
    check(not HARMFUL.search(line), f"a line with control characters: {line!r}")
    if format == "json":
        fields = json.loads(line)
        return fields["event"], fields
    match = LINE.fullmatch(line)
    check(match, f"not a line of the log: {line!r}")
    return match[2], dict(
        part.split("=", 1) for part in re.findall(r'[a-z_0-9]+=(?:"(?:[^"\\]|\\.)*"|\S+)', match[3])
    )


def counted(log, format, events):
    """How many of each event the log tells of, with those that it says it left out."""
    counts = collections.Counter()
    text = log.decode("utf-8", "strict")
    check(text.endswith("\n"), "the log does not end with a whole line")
    for line in text[:-1].split("\n"):
        event, fields = fields_of(line, format)
        check(event in events, f"an event that does not exist: {line!r}")
        counts[event] += 1 + int(fields.get("suppressed", 0))
    return counts


def known_events():
    """The events of the documented list."""
    path = os.path.join(
        os.path.dirname(os.path.abspath(__file__)), "..", "..", "broker", "base", "log.def"
    )
    with open(path, encoding="ascii") as file:
        return set(re.findall(r'LOG_EVENT\(\w+, \w+,\s*"(\w+)"', file.read()))


def refused_login(broker, name):
    """As bytes, because a name may be no valid text."""
    body = b"\x0a" + bytes([len(name)]) + name
    frame = b"\x08\x01\x12" + bytes([len(body)]) + body
    with Client(broker) as client:
        client.send_frame(frame)
        frames = client.read_to_end()
        check_equal(frames[-1].WhichOneof("body"), "close", f"the last answer to {name!r}")


def speak_evil(broker, backend):
    """Everything that strangers can have logged; gives how many of each kind."""
    said = collections.Counter()
    secrets = set()
    for number, text in enumerate(EVIL):
        with Client(broker) as client:
            client.name = f"user{number}"
            frame = client.request("login", username=client.name, client=text, token=TOKEN)
            client.send_frame(frame)
            welcome = client.expect("welcome").welcome
            secrets.add(welcome.secret)
            said["login"] += 1
            client.ask("send", to=text, payload=PAYLOAD)
            client.ask("call", service=text, method=text, payload=PAYLOAD)
            client.ask("send", to=client.name, payload=PAYLOAD + text.encode())
            backend.kick(client.name, detail=text)
            said["kicked"] += 1
        encoded = text.encode()[:100]
        refused_login(broker, b" " + encoded)
        refused_login(broker, encoded + b"\xff\xfe")
        said["login_refused"] += 2
        for fields in ({"service": text}, {"service": "x", "instance": text}):
            try:
                Backend(broker, **fields).close()
            except LinkRefused:
                pass
    return said, secrets


def scene_log():
    """One line per event in both forms, and no line that somebody else wrote."""
    for format in ("json", "text"):
        with RawLog(format) as log:
            with Backend(log.broker, service="chat") as backend:
                said, secrets = speak_evil(log.broker, backend)
                lines = log.stop()
            counts = counted(lines, format, known_events())
            for event, count in said.items():
                # What was left out behind the last line of an event is told by none.
                check(counts[event] <= count, f"{counts[event]} lines of {event} for {count}")
                check(counts[event] > 0, f"no line of {event}")
            forms = [form for secret in secrets for form in (secret, secret.hex().encode())]
            for secret in [TOKEN, PAYLOAD, *forms]:
                check(secret not in lines, f"{format}: {secret!r} is in the log")
            print(
                f"     {format}: {sum(counts.values())} events, {len(lines)} bytes, "
                f"{dict(said)} said, 0 forged"
            )


def scene_secrets_of_the_link():
    with Broker() as broker:
        path = os.path.join(broker.folder, "token")
        with open(path, "w", encoding="ascii") as file:
            file.write(LINK_TOKEN + "\n")
        broker.stop()
        broker.restart({"link.token_file": path, "log.level": "debug"})
        for token in (LINK_TOKEN, LINK_TOKEN + "x", "wrong-" + LINK_TOKEN):
            link = Backend(broker, service="chat", hello=False)
            hello = backend_pb.Hello(
                service="chat", instance="i", incarnation=time.time_ns(), token=token.encode()
            )
            try:
                link._ask(link._submitter(), "hello", hello, "accepted")
                check_equal(token, LINK_TOKEN, "the token that was accepted")
            except LinkRefused:
                check(token != LINK_TOKEN, "the right token was refused")
            link.close()
        broker.stop()
        check(
            all(LINK_TOKEN not in json.dumps(line) for line in broker.lines),
            "the link's token is in the log",
        )


def scene_distinct_names():
    """Names by the ten thousand are no new numbers, and their memory is given back."""
    count = int(os.environ.get("USHER_PLAY_DISTINCT", scaled(DISTINCT, 1000)))
    with Broker() as broker, Client(broker, timeout=60) as client:
        with Backend(broker, hello=False) as backend:
            client.login("alice")
            before, names = broker.resident_bytes(), set(backend.numbers("stats"))
            for begin in range(0, count, 500):
                parts = []
                for number in range(begin, min(begin + 500, count)):
                    kind = number % 3
                    if kind == 0:
                        frame = client.request("send", to=f"name{number}", payload=b"x")
                    elif kind == 1:
                        frame = client.request("call", service=f"service{number}", method="m")
                    else:
                        frame = client.request("call", service="none", method=f"m{number}\n")
                    parts.append(frame_bytes(frame))
                client.send_bytes(b"".join(parts))
                for _ in parts:
                    check_equal(client.next_frame(60).WhichOneof("body"), "error", "the answer")
            logins = scaled(1500, 50)
            for number in range(logins):
                with Client(broker) as other:
                    other.login(f"person-{number}", client=f"client {number}\n")
                    other.ask("logout")
            after = backend.numbers("stats")
            grown = broker.resident_bytes() - before
        check_equal(set(after), names, "the names of the numbers")
        check(all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in after), "a name of a number")
        check(grown < 32 << 20, f"memory grew by {grown >> 20} MiB")
        print(
            f"     {count} names asked for and {logins} logins: {len(names)} numbers before and "
            f"after, memory grew by {grown >> 10} KiB"
        )


class Terminal:
    """A program whose terminal is ours: all that it writes is what a real one would obey."""

    def __init__(self, arguments):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.chdir("/")
                os.environ["TERM"] = "xterm"
                os.execv(arguments[0], arguments)
            finally:
                os._exit(127)
        self.output = b""

    def wait(self, text, timeout=15):
        deadline = time.monotonic() + timeout
        while text not in self.output:
            check(time.monotonic() < deadline, f"no {text!r} in {self.output[-2000:]!r}")
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.output += os.read(self.fd, 65536)
                except OSError:
                    break
        check(text in self.output, f"no {text!r} in {self.output[-2000:]!r}")
        return self.output

    def end(self):
        os.kill(self.pid, signal.SIGTERM)
        while True:  # what is left, or the program waits for us
            try:
                if not os.read(self.fd, 65536):
                    break
            except OSError:
                break
        os.waitpid(self.pid, 0)
        os.close(self.fd)


def check_harmless(output, what):
    """A terminal gets text and line ends, nothing that it would obey."""
    text = output.decode("utf-8", "strict").replace("\r\n", "\n")
    found = HARMFUL.search(text.replace("\n", ""))
    check(not found, f"{what}: {found and found[0]!r} in {text[-1500:]!r}")
    check("\nforged" not in text and '\n{"event":"forged"}' not in text, f"{what}: a forged line")


def scene_terminals():
    """usherd, usher and usherctl on a terminal, while others say what they like."""
    with Broker() as broker, Client(broker) as mallory:
        port = str(broker.port)
        chat = Terminal([program("usher"), "--port", port, "--user", "victim"])
        chat.wait(b"welcome")
        mallory.login("mallory", client=EVIL[0] + EVIL[2])
        for number, text in enumerate(EVIL):
            mallory.ask("send", to="victim", payload=text.encode() + b" end%d" % number)
        mallory.ask("send", to="victim", payload=b"\xff\xfe\x1b[31m\x9b31m last-one")
        output = chat.wait(b"last-one")
        chat.end()
        check_harmless(output, "usher")
        with Backend(broker, service="chat") as backend:
            names = [text for text in EVIL if "\0" not in text]
            for number, text in enumerate(names):
                with Client(broker) as other:
                    other.login(f"user{number}", client=text)
            who = Terminal([program("usherctl"), "--url", broker.link_url, "who"])
            output = who.wait(b"user%d" % (len(names) - 1))
            who.end()
            check_harmless(output, "usherctl who")
            backend.close()
    daemon = Terminal(
        [
            program("usherd"),
            "--set",
            "listen.tcp=127.0.0.1:0",
            "--set",
            "admin.listen=",
            "--set",
            f"store.path=/tmp/usher-play-terminal-{os.getpid()}",
            "--set",
            "log.level=debug",
        ]
    )
    try:
        output = daemon.wait(b"ready port=")
        number = int(re.search(rb"ready port=(\d+)", daemon.wait(b"ready port="))[1])
        for place, text in enumerate(EVIL[:8]):  # within what is logged per second
            with Client(("127.0.0.1", number)) as client:
                client.login(f"evil{place}", client=text)
        output = daemon.wait(b"user=evil7")
        check_harmless(output, "usherd")
    finally:
        daemon.end()
        subprocess.run(["rm", "-rf", f"/tmp/usher-play-terminal-{os.getpid()}"], check=False)
    print(f"     {len(EVIL)} texts, 3 programs on terminals")


if __name__ == "__main__":
    play(scene_log, scene_secrets_of_the_link, scene_distinct_names, scene_terminals)
