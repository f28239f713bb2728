#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""One process after another under load: users who talk over TCP and WebSocket, call, are pushed to and
are in rooms, others who come, go and throw out their older sessions; and all the while the broker is
upgraded, again and again. Nothing may be lost, doubled or out of order, nobody may lose his connection,
and nobody may be refused. `./dev soak upgrades [COUNT]` runs it, and says for how long nobody was served."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "play"))

from usherplay import Client, Failed, check, check_equal, program  # noqa: E402
from usherplay.successor import SucceededBroker  # noqa: E402

SLOW_SECONDS = 120
PAUSE_SECONDS = 0.5
NEWCOMERS_PAUSE_SECONDS = 0.02
OPTIONS = {
    "limits.prelogin_per_source": 0,
    "limits.logins_per_minute_per_source": 0,
    "limits.logins_per_minute_per_user": 0,
    "limits.takeovers_per_minute": 0,
    "limits.requests_per_second_per_source": 0,
    "limits.users": 20000,
    "rooms.classes": "bench:* create=client join=any members=1000 roster=none history=256/60s",
}


class Load:
    """usher-bench, which looks at each message; it ends when the time is over, and says what was wrong."""

    def __init__(self, broker, name, scenario, seconds, *arguments):
        address = broker.ws_address if "ws" in name else broker.address
        url = f"{'ws' if 'ws' in name else 'tcp'}://{address[0]}:{address[1]}"
        command = [program("usher-bench"), scenario, "--json", "--quiet", "--url", url]
        command += ["--prefix", f"{name}-", "--seconds", f"{seconds}", *arguments]
        if scenario in ("call", "push"):
            command += ["--link", broker.link_url, "--service", name]
        self.name = name
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def result(self):
        said, complaint = self.process.communicate(timeout=SLOW_SECONDS)
        check(self.process.returncode == 0, f"{self.name}: {said} {complaint}")
        result = json.loads(said)
        check(result["received"] > 0, f"{self.name} did nothing: {said}")
        return result


class Newcomers(threading.Thread):
    """They come, throw out their older sessions, and go; nobody is refused."""

    def __init__(self, broker):
        super().__init__(daemon=True)
        self.broker, self.over, self.fault, self.count = broker, False, None, 0

    def run(self):
        try:
            while not self.over:
                self.once(f"newcomer{self.count % 50}")
                self.count += 1
                time.sleep(NEWCOMERS_PAUSE_SECONDS)
        except BaseException as fault:  # pylint: disable=broad-exception-caught
            self.fault = fault

    def once(self, name):
        with Client(self.broker, timeout=SLOW_SECONDS) as older:
            with Client(self.broker, timeout=SLOW_SECONDS) as newer:
                older.login(name)
                newer.login(name)
                older.expect_close("REPLACED")
                answer = newer.ask("logout").WhichOneof("body")
                check_equal(answer, "done", "the answer to a Logout")

    def end(self):
        self.over = True
        self.join(SLOW_SECONDS)
        if self.fault is not None:
            raise self.fault
        return self.count


class Stream(threading.Thread):
    """The presence stream: no number is missing, and nobody ends or loses a connection but newcomers, who
    log out. It begins when it is linked."""

    def __init__(self, broker):
        super().__init__(daemon=True)
        command = [program("usherctl"), "--url", broker.link_url, "--json"]
        self.process = subprocess.Popen(
            [*command, "presence", "--follow"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.seq, self.wrong = 0, []

    def run(self):
        for line in self.process.stdout:
            event = json.loads(line)
            if self.seq not in (0, event["seq"] - 1):
                self.wrong.append(f"behind event {self.seq}: {line}")
            self.seq = event["seq"]
            ends = event["kind"] != "online"
            if ends and (event["cause"] != "logout" or not event["user"].startswith("newcomer")):
                self.wrong.append(line)

    def end(self):
        self.process.kill()
        self.join(SLOW_SECONDS)
        self.process.wait()
        check(self.seq > 0, "somebody came")
        check(not self.wrong, f"{len(self.wrong)} events that should not be: {self.wrong[:5]}")
        return self.seq


def loads(broker, users, seconds):
    """Half of them talk over TCP, a fifth over WebSocket, the others do the rest."""

    def some(part):
        return ["--users", f"{users * part // 100}", "--rate", f"{users * part // 100}"]

    return [
        Load(broker, "talk", "forward", seconds, *some(50)),
        Load(broker, "ws-talk", "forward", seconds, *some(20)),
        Load(broker, "calls", "call", seconds, *some(5)),
        Load(broker, "pushes", "push", seconds, *some(5)),
        Load(broker, "rooms", "room", seconds, "--rooms", f"{users // 100}", *some(20)),
    ]


def upgrade_all(broker, count, running):
    """Gives how long nobody was served each time, in milliseconds, and the last line of the log."""
    frozen, line = [], None
    for _ in range(count):
        time.sleep(PAUSE_SECONDS)
        line = broker.upgrade()
        frozen.append(line["frozen_ms"])
        for load in running:
            check(load.process.poll() is None, f"{load.name} ended too early")
    return frozen, line


def wait_for_users(broker, wanted):
    command = [program("usherctl"), "--url", broker.link_url, "--json", "stats"]
    deadline = time.monotonic() + SLOW_SECONDS

    def online():
        lines = subprocess.check_output(command, text=True).splitlines()
        return {line["name"]: line["value"] for line in map(json.loads, lines)}["sessions_online"]

    while online() < wanted:
        check(time.monotonic() < deadline, f"{wanted} users")
        time.sleep(0.2)


def soak(broker, count, users):
    stream = Stream(broker)
    stream.start()
    running = loads(broker, users, 10 + 2 * count)
    try:
        newcomers = Newcomers(broker)
        newcomers.start()
        wait_for_users(broker, users)
        frozen, line = upgrade_all(broker, count, running)
        events, came = stream.end(), newcomers.end()
        for load in running:
            result = load.result()
            print(f"{load.name}: {result['received']} came, p99 {result['p99_us'] / 1000:.1f} ms")
    finally:
        for process in [stream.process, *(load.process for load in running)]:
            process.kill()
    frozen.sort()
    print(f"{came} newcomers, {events} events; at the end {line}")
    print(
        f"{count} upgrades under {users} sessions: nobody was served for {statistics.median(frozen):.0f} ms"
        f" (median; {frozen[0]} to {frozen[-1]})"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--users", type=int, default=2000)
    given = parser.parse_args()
    try:
        with SucceededBroker(OPTIONS, ws=True) as broker:
            soak(broker, given.count, given.users)
    except Failed as failure:
        print(f"FAIL upgrades: {failure}", flush=True)
        sys.exit(1)
    print("ok   upgrades: nothing lost, doubled or out of order, and nobody was refused")


if __name__ == "__main__":
    main()
