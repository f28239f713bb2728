# SPDX-License-Identifier: Apache-2.0
"""Who may do what on the link when it has a token: without it nothing at all, whatever is asked and
however; and nothing that others can see (the log, the recorder, metrics, the admin endpoint) holds what
gives the right to anything: the token, the number of a link, the secret of a session."""

import http.client
import json
import os
import random
import subprocess

from usherplay import (
    Backend,
    Broker,
    Client,
    LinkRefused,
    backend_pb,
    check,
    check_equal,
    eventually,
    play,
    program,
    scaled,
)
from usherplay.backend import code_name, push

TOKEN = b"the token of the play, 0123456789"
CHANGE = "change-token-of-the-play"
BOOTS = 6
GUESSES = 20000
EXACT = 1 << 53  # a double holds every whole number below it


def write(folder, name, data):
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, 0o600)
    return path


class TokenBroker(Broker):
    """A broker whose link has a token, and an admin endpoint to look through."""

    def __init__(self, options=None):
        super().__init__({"admin.listen": "127.0.0.1:0", **(options or {})})
        self.stop()
        self.restart(
            {
                "link.token_file": write(self.folder, "link.token", TOKEN + b"\n"),
                "admin.token_file": write(self.folder, "admin.token", CHANGE.encode() + b"\n"),
                "log.level": "debug",
            }
        )

    def ask(self, path):
        port = [line for line in self.log_events("listening") if line["for"] == "admin"][-1]["port"]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", path, headers={"Authorization": f"Bearer {CHANGE}"})
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
        connection.close()
        check_equal(answer.status, 200, f"the status of {path}")
        return text


def refused(ask, what, code="BANNED"):
    try:
        answer = ask()
    except LinkRefused as error:
        check_equal(error.code, code, f"how {what} was refused")
        return
    check(False, f"{what} was answered: {answer}")


def queries():
    pb, command = backend_pb, backend_pb.Command
    return {
        "Lookup": command(lookup=pb.Lookup(users=["alice"])),
        "List": command(list=pb.List()),
        "Count": command(count=pb.Count()),
        "Snapshot": command(snapshot=pb.Snapshot()),
        "Events": command(events=pb.Events()),
        "Stats": command(stats=pb.Stats()),
        "RoomMembers": command(room_members=pb.RoomMembers(room="lobby")),
        "Rooms": command(rooms=pb.Rooms()),
        "Recorder": command(recorder=pb.Recorder()),
        "Trace": command(trace=pb.Trace(user="alice")),
        "Reload": command(reload=pb.Reload()),
        "DrainNode": command(drain_node=pb.DrainNode(seconds=1)),
    }


def scene_nothing_without_the_token():
    """Hello, and each question, with no token, with a wrong one and with half of it: refused, and who
    is there notices nothing. With the token each question is answered."""
    with TokenBroker() as broker, Client(broker) as alice:
        alice.login("alice")
        bank = Backend(broker, service="bank", token=TOKEN)
        for token in (b"", b"guess", TOKEN[:-1], TOKEN + b" "):
            stranger = Backend(
                broker,
                service="bank",
                instance=bank.instance,
                token=token,
                incarnation=bank.incarnation + 1,
                hello=False,
            )
            refused(stranger.hello, f"Hello with {token!r}")
            for name, command in queries().items():
                check_equal(
                    code_name(stranger.query(command)), "FORBIDDEN", f"{name} with {token!r}"
                )
            check_equal(
                [code_name(each) for each in stranger.submit(*queries().values(), link=0, seq=1)],
                ["FORBIDDEN"] * len(queries()),
                "all of them at once",
            )
            refused(
                lambda: stranger.submit(push("alice", b"lie"), link=0, seq=1), "a push", "MALFORMED"
            )
            stranger.close()
        broker.wait_log("link_refused")
        check_equal(len(broker.log_events("link_hello")), 1, "links")
        before = Backend(broker, hello=False)  # before Submit had a token, three commands had one
        for command in (
            backend_pb.Command(reload=backend_pb.Reload(token=TOKEN)),
            backend_pb.Command(trace=backend_pb.Trace(user="alice", token=TOKEN)),
        ):
            check(
                code_name(before.query(command)) in ("OK", "GONE"), f"{command} with its own token"
            )
        check_equal(
            code_name(before.submit(command, queries()["Count"], link=0, seq=1)[1]),
            "FORBIDDEN",
            "a question beside it",
        )
        before.close()
        friend = Backend(broker, token=TOKEN, hello=False)
        for name, command in queries().items():
            if name not in ("Reload", "DrainNode"):
                code = code_name(friend.query(command))
                check(code in ("OK", "GONE", "NO_ROOM"), f"{name} with the token: {code}")
        alice.post("call", service="bank", method="pay", payload=b"secret of alice")
        bank.reply(bank.expect_call(), payload=b"done")
        check_equal(alice.expect("reply").reply.payload, b"done", "the reply")
        check(friend.numbers("stats")["link_forbidden"] >= 4 * len(queries()), "it is not counted")
        for backend in (bank, friend):
            backend.close()


def scene_what_is_shown_gives_no_right():
    """Who reads all that is shown, the log of every level, the recorder, the metrics and each answer
    of the admin endpoint, finds no secret in it; and the number by which the log names a link is good
    for nothing."""
    with TokenBroker() as broker, Client(broker) as alice:
        welcome = alice.login("alice")
        bank = Backend(broker, service="bank", token=TOKEN, presence=True)
        bank.fetch(wait_ms=1)
        alice.post("call", service="bank", method="pay", payload=b"secret of alice")
        bank.reply(bank.expect_call())
        refused(lambda: Backend(broker, service="bank", token=b"wrong"), "a wrong token")
        bank.push("alice", b"pushed")
        friend = Backend(broker, token=TOKEN, hello=False)
        shown = {
            path: broker.ask(path)
            for path in (
                "/metrics",
                "/api/node",
                "/api/sessions",
                "/api/sessions/alice",
                "/api/slowest",
                "/api/services",
                "/api/presence",
                "/api/recorder",
                "/readyz",
            )
        }
        shown["Recorder"] = "\n".join(friend.query(queries()["Recorder"]).lines.lines)
        shown["Stats"] = str(friend.numbers("stats"))
        shown["Snapshot"] = str(friend.snapshot())
        shown["the log"] = "\n".join(json.dumps(line) for line in broker.lines)
        secrets = {
            "the number of the link": str(bank.link),
            "the link's token": TOKEN.decode(),
            "the admin token": CHANGE,
            "the secret of the session": bytes(welcome.secret).hex(),
            "the payload": "secret of alice",
        }
        for where, text in shown.items():
            check(
                "bank" in text or where not in ("/api/services", "Recorder", "the log"),
                f"{where} does not show the service at all",
            )
            for what, secret in secrets.items():
                check(secret not in text, f"{where} shows {what}")
        number = bank.accepted.number
        eventually(
            lambda: number in [line["link"] for line in broker.log_events("link_hello")],
            "the link in the log",
        )
        stranger = Backend(broker, service="bank", hello=False)
        for link in (
            number,
            number << 24,
            bank.link + 1,
            bank.link - 1,
            bank.link ^ 1 << 51,
            bank.link | 1 << 52,
            bank.link | 1 << 63,
        ):
            stranger.link = link
            refused(
                lambda: stranger.submit(push("alice", b"lie")), f"a push as {link}", "STALE_LINK"
            )
            refused(lambda: stranger.fetch(wait_ms=1), f"a fetch as {link}", "STALE_LINK")
        for backend in (bank, friend, stranger):
            backend.close()


def scene_numbers_cannot_be_guessed():
    """So many guesses, at random and near to the numbers of links that one has oneself: none is a
    link, each is refused and counted."""
    chance = random.Random(1)
    with Broker({"link.fetch_timeout_ms": 600000}) as broker:
        own = [Backend(broker, service="bank") for _ in range(8)]
        numbers = {backend.link for backend in own}
        stranger = Backend(broker, hello=False)
        count = scaled(GUESSES, 500)
        for number in range(count):
            near = chance.choice(own).link + chance.choice((1, 1 << 24)) * chance.randrange(1, 99)
            link = chance.choice((near, chance.randrange(1, 1 << 52))) & ((1 << 52) - 1)
            if link in numbers or link == 0:
                continue
            stranger.link = link
            refused(
                lambda: stranger.submit(push("alice", b"lie"), lane=number),
                f"a guess {link}",
                "STALE_LINK",
            )
        check(stranger.numbers("stats")["link_refused"] >= count * 0.9, "guesses are not counted")
        for backend in own:
            backend.fetch(wait_ms=1)
            backend.close()


def scene_numbers_are_exact_as_doubles():
    """A backend in a language that has doubles alone (JavaScript) must get the number of its link
    whole: after every start, and for each link."""
    with Broker() as broker:
        seen = set()
        for boot in range(scaled(BOOTS, 2)):
            for _ in range(20):
                backend = Backend(broker, service="web")
                check(0 < backend.link < EXACT, f"a link's number is {backend.link}")
                check_equal(
                    json.loads(json.dumps(float(backend.link))),
                    backend.link,
                    "the number after it was a double",
                )
                backend.fetch(wait_ms=1)
                seen.add(backend.link)
                backend.close()
            broker.stop()
            broker.restart()
        check_equal(len(seen), 20 * scaled(BOOTS, 2), "different numbers")


def ctl(broker, path, *command):
    return subprocess.run(
        [program("usherctl"), "--url", broker.link_url, "--token-file", path, *command],
        capture_output=True,
        text=True,
        timeout=20,
    )


def echo_links(broker, path):
    """Whether a usher-echo with that file is let in."""
    count = len(broker.log_events("link_hello"))
    process = subprocess.Popen(
        [program("usher-echo"), "--url", broker.link_url, "--token-file", path],
        stderr=subprocess.DEVNULL,
    )
    try:
        return (
            eventually(
                lambda: len(broker.log_events("link_hello")) > count or process.poll() is not None,
                "an answer to usher-echo",
            )
            and process.poll() is None
        )
    finally:
        process.kill()
        process.wait()


FORMS = {
    "alone": TOKEN,
    "a line": TOKEN + b"\n",
    "a line of Windows": TOKEN + b"\r\n",
    "an empty line behind": TOKEN + b"\n\n",
    "a note below": TOKEN + b"\nof the play\n",
    "blanks around": b" " + TOKEN + b" \t\n",
}


def scene_every_program_reads_the_same_token():
    """However the file was written, usherd, usherctl and usher-echo take the same token out of it; and
    what is no token is refused by all of them, before they do anything."""
    for name, content in FORMS.items():
        with Broker() as broker:
            path = write(broker.folder, "token", content)
            broker.stop()
            broker.restart({"link.token_file": path})
            plain = write(broker.folder, "plain", TOKEN)
            for each in (path, plain):
                result = ctl(broker, each, "count")
                check_equal(result.returncode, 0, f"usherctl, {name}: {result.stderr}")
            check(echo_links(broker, path), f"usher-echo is not let in, {name}")
            check_equal(Backend(broker, token=TOKEN).link > 0, True, "the token as it is")
    with Broker() as broker:
        for content in (b"", b"\n", b" \r\n" + TOKEN, b"x" * 4097, TOKEN + b"\0"):
            path = write(broker.folder, "token", content)
            result = ctl(broker, path, "count")
            check_equal(result.returncode, 64, f"usherctl with {content[:9]!r}")
            check("the first line" in result.stderr, f"what it says: {result.stderr}")
            result = subprocess.run(
                [program("usherd"), "--check-config", "--set", f"link.token_file={path}"],
                capture_output=True,
                text=True,
            )
            check_equal(result.returncode, 78, f"usherd with {content[:9]!r}")
            check("the first line" in result.stderr, f"what it says: {result.stderr}")


def scene_secrets_that_others_may_read():
    """A token file or the store's folder that others on the machine may read or write is told at the
    start, at a reload and by --check-config, and counted until it is mended."""
    with TokenBroker() as broker:
        admin = Backend(broker, token=TOKEN, hello=False)
        check_equal(admin.numbers("stats")["secrets_exposed"], 0, "secrets that are private")
        check_equal(broker.log_events("secret_exposed"), [], "warnings")
        path = broker.options["link.token_file"]
        os.chmod(path, 0o644)
        os.chmod(broker.store, 0o707)
        check_equal(ctl(broker, path, "reload").returncode, 0, "a reload")
        broker.wait_log("secret_exposed", count=2)
        told = {line["option"]: line["mode"] for line in broker.log_events("secret_exposed")}
        check_equal(told, {"link.token_file": "0644", "store.path": "0707"}, "what is told")
        check_equal(admin.numbers("stats")["secrets_exposed"], 2, "and counted")
        check("usher_secrets_exposed" in broker.ask("/metrics"), "it is no metric")
        checked = subprocess.run(
            [*broker.command(), "--check-config"], capture_output=True, text=True
        )
        check_equal(checked.returncode, 0, f"--check-config: {checked.stderr}")
        check("warning: link.token_file" in checked.stderr, f"it says {checked.stderr!r}")
        os.chmod(path, 0o640)
        os.chmod(broker.store, 0o700)
        check_equal(ctl(broker, path, "reload").returncode, 0, "a reload")
        check_equal(admin.numbers("stats")["secrets_exposed"], 0, "when it is mended")
        os.chmod(path, 0o602)
        broker.stop()
        broker.restart()
        check_equal(broker.wait_log("secret_exposed")["mode"], "0602", "at a start")
        admin.close()


if __name__ == "__main__":
    play(
        scene_nothing_without_the_token,
        scene_what_is_shown_gives_no_right,
        scene_numbers_cannot_be_guessed,
        scene_numbers_are_exact_as_doubles,
        scene_every_program_reads_the_same_token,
        scene_secrets_that_others_may_read,
    )
