# SPDX-License-Identifier: Apache-2.0
"""A story to show: 500 players, two devices under one name, a service that dies, and a broker that is
killed while everybody talks. Nobody loses anything, and it is the players who count.

./dev demo            about half a minute
./dev demo --stay     and then the 500 go on until Ctrl-C, to look around

Every number that is printed was measured in this run. USHER_DEMO_PLAYERS: another number of players;
USHER_DEMO_PAUSE: seconds to read a line, 0.8."""

import collections
import contextlib
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from usherplay import Broker, Client, Failed, Honest, check, check_equal, client_pb  # noqa: E402
from usherplay import eventually, free_port, program  # noqa: E402
from usherplay.talkers import Talkers  # noqa: E402

from usher_backend import Presence  # noqa: E402

COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ
BOLD, DIM, GREEN, RED, YELLOW, BLUE = "1", "2", "32", "31", "33", "34"
PAUSE_SECONDS = float(os.environ.get("USHER_DEMO_PAUSE", "0.8"))
PLAYERS = int(os.environ.get("USHER_DEMO_PLAYERS", "500"))
TALK_SECONDS, CALL_SECONDS = 3.0, 1.0
UNLUCKY = 41  # player-042: whose name two devices want


def paint(text, code):
    return f"\x1b[{code}m{text}\x1b[0m" if COLOUR else text


def pause():
    time.sleep(PAUSE_SECONDS)


def line(who, text, code=BLUE):
    print(f"  {paint(f'{who:>10}', code)}  {text}", flush=True)


def chapter(number, title, *text):
    print(f"\n{paint(f'{number}. {title}', BOLD)}")
    for row in text:
        print(paint(row, DIM))
    print(flush=True)
    pause()


def ms(seconds):
    return f"{seconds * 1000:,.0f} ms"


class Observer:
    """A backend that follows presence, over the death of the broker too, and checks what it is told:
    every number once, one after the other."""

    def __init__(self, broker):
        self.honest = Honest(broker, presence=Presence())
        self.kinds = collections.Counter()
        self.first = self.last = 0
        self.gaps = 0
        self.honest.service.on_presence(self.changed)

    def changed(self, event):
        self.gaps += self.last != 0 and event.seq != self.last + 1
        self.first = self.first or event.seq
        self.last = event.seq
        self.kinds[event.kind] += 1

    def kick(self, user, epoch):
        return self.honest.do(self.honest.service.kick(user, epoch=epoch, detail="see you"))


class Stage:
    """The broker, two instances of a service, an observer and the players."""

    def __init__(self, broker, observer, players):
        self.broker, self.observer, self.players = broker, observer, players
        self.echoes = {}

    def start_echo(self, instance):
        command = [program("usher-echo"), "--url", self.broker.link_url, "--instance", instance]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.echoes[instance] = subprocess.Popen(command, **quiet)

    def end(self):
        for echo in self.echoes.values():
            if echo.poll() is None:
                echo.terminate()
            echo.wait(10)
        self.players.close()

    def everything_is_heard(self):
        """Waits until the observer was told of the newest event."""

        def heard():
            return self.observer.last == self.broker.numbers()["presence_last"]

        eventually(heard, "the observer hears of everything")


# --- the chapters -------------------------------------------------------------------------------------


def where_to_look(broker, admin):
    line("broker", f"ready in {ms(broker.ready_seconds)}, console at http://{admin}/", GREEN)
    print("\n  Look at it meanwhile, in another terminal:\n")
    print(
        f"    export USHER_LINK={broker.link_url} PATH={os.path.dirname(program('usherctl'))}:$PATH"
    )
    print("    usherctl count; usherctl who | head")
    print("    usherctl presence --follow")
    print("    usherctl stats")
    print(flush=True)
    pause()


def they_come(stage):
    players, broker = stage.players, stage.broker
    before, began = broker.resident_bytes(), time.monotonic()
    players.enter()
    took = time.monotonic() - began
    grown = (broker.resident_bytes() - before) / PLAYERS
    line(
        "players",
        f"{PLAYERS} are in after {ms(took)}: each login was on the disk before its Welcome",
    )
    line("broker", f"its memory grew by {grown:,.0f} bytes for each", GREEN)
    stage.everything_is_heard()
    online = stage.observer.kinds["ONLINE"]
    check_equal(online, PLAYERS, "the logins that the observer was told of")
    line("observer", f"was told of {online} logins, numbered, none missing", YELLOW)
    pause()


def they_talk(stage):
    players, broker = stage.players, stage.broker
    cpu, began = broker.cpu_seconds(), time.monotonic()
    players.begin(talking=True)
    players.for_seconds(TALK_SECONDS)
    players.fall_silent()
    took, cpu = time.monotonic() - began, broker.cpu_seconds() - cpu
    sent = players.sent()
    line("players", f"sent {sent:,} messages in {took:.1f} s, and the receiver confirmed each")
    line("players", f"missing {players.missing()}, twice {players.count('twice')}")
    line(
        "broker",
        f"used {1e6 * cpu / sent:.0f} us of processor for each: message, ack, answer",
        GREEN,
    )
    line("", paint("(these players are one Python program, which is what limits the rate)", DIM))
    pause()


def two_devices(stage):
    players = stage.players
    phone = players.all[UNLUCKY]
    old = phone.welcome.epoch
    began = time.monotonic()
    with Client(stage.broker, timeout=60) as tablet:
        new = tablet.login(phone.name, acks=True, client="tablet").epoch
        line(
            phone.name,
            f"logs in from a tablet: epoch {new}, welcome after {ms(time.monotonic() - began)}",
        )
        players.until(lambda: phone.socket is None, "the phone is closed")
        check_equal(phone.closes[-1:], ["REPLACED"], "what the phone was told")
        line("his phone", f"is told {paint('REPLACED', RED)}, and not to come back: no fight", RED)
        pause()
        late = stage.observer.kick(phone.name, old)
        check(not late, "a kick of a login that is over hit somebody")
        line(
            "a service",
            f"kicks {phone.name}, epoch {old}, too late: {paint('nobody is hit', BOLD)}",
            YELLOW,
        )
        hit = stage.observer.kick(phone.name, new)
        check(hit, "a kick of the login that is there hit nobody")
        reason = client_pb.Close.Reason.Name(tablet.expect("close").close.reason)
        line("a service", f"kicks epoch {new}: the tablet is told {paint(reason, RED)}", YELLOW)
    players.come_back(UNLUCKY)
    players.until(players.everybody_online, "the player is back")
    line(phone.name, f"is back on the phone, with epoch {phone.welcome.epoch}")
    pause()


def a_service_dies(stage):
    players = stage.players
    players.begin(calling=True)
    players.for_seconds(CALL_SECONDS)
    line("players", f"call echo, all the time: {answered(players):,} answers so far")
    stage.echoes["one"].kill()
    line("echo one", f"{paint('kill -9', RED)}, in the middle of it", RED)
    players.for_seconds(CALL_SECONDS)
    players.fall_silent()
    slowest = max(talker.slowest_call for talker in players.all)
    others = sum((talker.replies for talker in players.all), collections.Counter())
    good = others.pop("answered", 0)
    line("players", f"{good:,} calls, each answered once; the slowest waited {ms(slowest)}")
    line(
        "",
        paint(
            "(link.grace_ms to come back, link.fetch_timeout_ms at most; then its calls move)", DIM
        ),
    )
    others = {what: count for what, count in others.items() if count}
    line("players", f"not answered by the service: {others or 'none'}")
    check("wrong" not in others, "somebody was given an answer that was not his")
    pause()


def answered(players):
    return players.count(lambda talker: talker.replies["answered"])


def the_broker_dies(stage):
    players, broker = stage.players, stage.broker
    epochs = [talker.welcome.epoch for talker in players.all]
    before = players.sent()
    players.begin(talking=True)
    players.for_seconds(TALK_SECONDS / 2)
    broker.kill()
    killed = time.monotonic()
    flying = players.count(lambda talker: talker.waiting is not None)
    line("broker", f"{paint('kill -9', RED)}, with {flying} messages in the air", RED)
    players.until(lambda: not any(t.online() for t in players.all), "they have noticed")
    line("players", f"{PLAYERS} have lost the connection, and try again by themselves", RED)
    broker.restart()
    line("broker", f"started again, ready in {ms(broker.ready_seconds)}", GREEN)
    players.until(players.everybody_online, "everybody is back")
    back = time.monotonic() - killed
    same = sum(epoch == talker.welcome.epoch for epoch, talker in zip(epochs, players.all))
    line(
        "players",
        f"all {PLAYERS} are back {back:.1f} s after the kill, {same} of them in the session of before",
    )
    check_equal(same, PLAYERS, "players who are in the session that they had")
    players.for_seconds(TALK_SECONDS / 2)
    players.fall_silent()
    line("players", f"{players.sent() - before:,} messages over the kill, each confirmed")
    pause()


def the_bill(stage):
    players = stage.players
    stage.everything_is_heard()
    observer = stage.observer
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(observer.kinds.items()))
    sent, received = players.sent(), players.received()
    rows = (
        ("messages sent", f"{sent:,}"),
        ("received, as the receivers count", f"{received:,}"),
        ("missing", f"{players.missing()}"),
        ("out of order", f"{players.count('disordered')}"),
        ("sent again, their answer died with the broker", f"{players.count('again')}"),
        ("of these had come, and were told by their number", f"{players.count('twice')}"),
        ("sessions lost", f"{players.count('lost_sessions')}"),
        ("presence events, numbered", f"{observer.last - observer.first + 1}: {kinds}"),
        ("gaps in them", f"{observer.gaps}"),
    )
    for what, figure in rows:
        print(f"    {what:<50} {paint(figure, BOLD)}")
    print(flush=True)
    check_equal(received, sent, "what was received")
    for what in ("missing", "out of order", "sessions lost", "gaps in them"):
        check_equal(dict(rows)[what], "0", what)


NEXT = """  Next:

    ./dev play               the same in a browser: a game, and buttons that kill
    ./dev run                a broker to talk to: usher --user alice
    docs/README.md           an hour for each of us: Python, Node, browser, C, operator
    docs/performance.md      the figures of a quiet machine, beside others'
"""


def story(stage):
    chapter(
        2,
        f"{PLAYERS} players come in",
        "One program plays them, so the limits of one address are lifted.",
    )
    they_come(stage)
    chapter(3, "They talk", "Each to the next, in a ring, with numbers; the receivers count.")
    they_talk(stage)
    chapter(
        4,
        "One name, two devices",
        "The newest login wins. Each has a number, its epoch; what is late names one that is over.",
    )
    two_devices(stage)
    chapter(
        5,
        "A service dies",
        "usher-echo is one C file and runs twice. A player stays with one instance while it lives.",
    )
    a_service_dies(stage)
    chapter(
        6,
        "kill -9",
        "Sessions are on disk. Messages in the air are not: whose answer is lost sends again, by number.",
    )
    the_broker_dies(stage)
    chapter(7, "The bill", "Counted by those who were to receive, not by the broker.")
    the_bill(stage)


def stay(stage, admin):
    line("players", f"talk on; console at http://{admin}/. Ctrl-C ends all of it")
    stage.players.begin(talking=True)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            stage.players.step()
            time.sleep(0.005)  # a machine is for more than this


def main():
    for name in ("usherd", "usher-echo", "usherctl"):
        program(name)
    began = time.monotonic()
    admin = f"127.0.0.1:{free_port()}"
    chapter(1, "A broker, a service, an observer", "usherd with its defaults, and a store on disk.")
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(Broker({"admin.listen": admin}))
        where_to_look(broker, admin)
        observer = Observer(broker)
        stage = Stage(broker, observer, Talkers(broker.address, PLAYERS))
        stack.callback(stage.end)
        stack.enter_context(observer.honest)
        for instance in ("one", "two"):
            stage.start_echo(instance)
        broker.wait_log("link_hello", 20, count=3)
        line("echo", "two instances are linked, and an observer who follows presence", GREEN)
        pause()
        story(stage)
        print(
            f"  {paint('The end', BOLD)}, after {time.monotonic() - began:.0f} s.\n\n{NEXT}",
            flush=True,
        )
        if "--stay" in sys.argv[1:]:
            stay(stage, admin)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except (Failed, AssertionError, OSError) as error:
        sys.exit(f"\nThe story broke off: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
