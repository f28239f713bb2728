# SPDX-License-Identifier: Apache-2.0
"""The whole story of usher in one terminal, without a question: players log in, talk, call a
service, take over, and survive a kill -9 of the broker. Takes about 15 seconds."""

import os
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from usherplay import Broker, Client, Honest, client_pb, program  # noqa: E402

from usher_backend import Presence  # noqa: E402

COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ
BOLD, DIM, GREEN, BLUE, YELLOW, RED = "1", "2", "32", "34", "33", "31"
PAUSE_SECONDS = float(os.environ.get("USHER_DEMO_PAUSE", "0.8"))
printing = threading.Lock()


def paint(text, code):
    return f"\x1b[{code}m{text}\x1b[0m" if COLOUR else text


def line(who, text, code):
    with printing:
        print(f"  {paint(f'{who:>9}', code)}  {text}", flush=True)


def chapter(number, title, text):
    with printing:
        print(f"\n{paint(f'{number}. {title}', BOLD)}\n{paint(text, DIM)}\n", flush=True)
    time.sleep(PAUSE_SECONDS)


def pause():
    time.sleep(PAUSE_SECONDS)


def observe(broker):
    """A backend without a service: it prints presence as it happens, over broker restarts too."""
    observer = Honest(broker, presence=Presence())

    @observer.service.on_presence
    def show(event):
        closes = f", closes epoch {event.previous_epoch}" if event.previous_epoch else ""
        cause = "" if event.cause == "UNKNOWN" else event.cause.lower().replace("_", " ") + ", "
        line(
            "presence",
            f"#{event.seq} {paint(event.user, BOLD)} is {event.kind.lower()} "
            f"({cause}epoch {event.epoch}{closes})",
            YELLOW,
        )

    return observer


def show_message(client):
    message = client.expect("message").message
    sender = getattr(message, "from") or message.service
    again = paint(" (kept while away)", DIM) if message.redelivered else ""
    line(client.name, f"<- {paint(sender, BOLD)}: {message.payload.decode()}{again}", GREEN)


def say(client, to, text):
    line(client.name, f"-> {paint(to, BOLD)}: {text}", BLUE)
    client.send(to, text.encode())


def log_in(broker, name, where, acks=False):
    client = Client(broker)
    welcome = client.login(name, acks=acks, client=where)
    line(name, f"logged in from the {where}: epoch {welcome.epoch} at {welcome.node}", BLUE)
    return client


def talk(broker):
    alice = log_in(broker, "alice", "phone", acks=True)
    bob = log_in(broker, "bob", "console")
    say(alice, "bob", "hello bob, are you in?")
    show_message(bob)
    say(bob, "alice", "always. one more round?")
    show_message(alice)
    alice.post("ack", id=0, seq=1)
    pause()
    return alice, bob


def call_service(alice):
    for method, text in (("reverse", "stressed"), ("whoami", "")):
        id = alice.post("call", service="echo", method=method, payload=text.encode())
        reply = alice.answer_to(id).reply
        line("alice", f"echo.{method}({text!r}) = {paint(reply.payload.decode(), BOLD)}", BLUE)
    pause()


def take_over(broker, alice):
    newer = log_in(broker, "alice", "tablet", acks=True)
    close = alice.expect("close").close
    line(
        "phone",
        f"closed: {paint(client_pb.Close.Reason.Name(close.reason), RED)}, "
        f"and told not to come back",
        RED,
    )
    alice.close()
    pause()
    return newer


def crash(broker, alice, bob):
    welcome = bob.welcome
    say(bob, "alice", "what was that noise?")
    show_message(alice)
    alice.post("ack", id=0, seq=1)
    alice.ping()
    line("broker", paint("kill -9", RED), RED)
    broker.kill()
    for client in (alice, bob):
        client.read_to_end()
        client.close()
        line(client.name, "lost the connection", RED)
    pause()
    broker.restart()
    line("broker", f"ready again after {broker.ready_seconds * 1000:.0f} ms", GREEN)
    pause()
    bob = Client(broker)
    again = bob.resume(welcome, 0, name="bob")
    line("bob", f"resumed epoch {again.epoch} with his secret: it is still his", BLUE)
    pause()
    return bob


def remember(broker):
    out = subprocess.run(
        [program("usherctl"), "--url", broker.link_url, "who"],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    ).stdout
    with printing:
        print("\n".join("  " + row for row in out.splitlines()), flush=True)
    pause()


def story(broker):
    chapter(
        2,
        "Two players talk",
        "alice acknowledges what she got (acks), so nothing that she missed is forgotten.",
    )
    alice, bob = talk(broker)
    chapter(
        3,
        "A service answers",
        "usher-echo is one small C file; the broker finds it by name, keeps order per player.",
    )
    call_service(alice)
    chapter(
        4,
        "Newest wins",
        "alice logs in on another device. One name has one connection; the older one is " "closed.",
    )
    alice = take_over(broker, alice)
    chapter(
        5,
        "kill -9",
        "A Welcome leaves only after the session is on disk, so no crash forgets a login.",
    )
    bob = crash(broker, alice, bob)
    chapter(
        6,
        "What is remembered",
        "usherctl who: bob is back, alice is waited for, each under the epoch that they had.",
    )
    remember(broker)
    chapter(
        7,
        "alice comes back, bob leaves",
        "Presence has seen each step once, in order, over the crash: the numbers have no gap.",
    )
    alice = log_in(broker, "alice", "tablet", acks=True)
    say(bob, "alice", "good night!")
    show_message(alice)
    bob.ask("logout")
    line("bob", "logged out", BLUE)
    pause()
    alice.close()
    bob.close()


def main():
    for name in ("usherd", "usher-echo", "usherctl"):
        program(name)
    began = time.monotonic()
    chapter(
        1,
        "A broker, a service, an observer",
        "usherd listens for players and backends; the observer prints presence as it happens.",
    )
    with Broker() as broker:
        line(
            "broker",
            f"ready in {broker.ready_seconds * 1000:.0f} ms at {broker.address[0]}:"
            f"{broker.port}",
            GREEN,
        )
        observer = observe(broker)
        echo = subprocess.Popen(
            [program("usher-echo"), "--url", broker.link_url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            broker.wait_log("link_hello")
            line("echo", "linked to the broker", GREEN)
            pause()
            with observer:
                story(broker)
        finally:
            echo.terminate()
            echo.wait(5)
    print(
        f"\n{paint('The end', BOLD)}, after {time.monotonic() - began:.0f} s. Next: ./dev run "
        f"starts a broker; `usher --user alice` is a client for people; docs/ has the rest."
    )


if __name__ == "__main__":
    try:
        main()
    except (AssertionError, OSError) as error:
        sys.exit(f"\nThe story broke off: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
