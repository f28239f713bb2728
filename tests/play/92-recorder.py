# SPDX-License-Identifier: Apache-2.0
"""The flight recorder: what the log leaves out is in it, a user's timeline can be read, and a process
that dies of a signal leaves it behind."""

import json
import os
import signal
import subprocess

from usherplay import Broker, Client, check, check_equal, eventually, play, program
from usherplay.broker import READY_SECONDS

DEATHS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS)


def path_of(broker):
    return os.path.join(broker.store, "recorder.jsonl")


def read_lines(path):
    """Each line is an object with a time, a level and an event: so none is torn."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    check(text.endswith("\n"), f"{path} ends within a line")
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        check({"time_ms", "level", "event"} <= line.keys(), f"a line without its fields: {line}")
    times = [line["time_ms"] for line in lines]
    check(max(b - a for a, b in zip(times[1:], times)) < 1000, "the lines are out of order")
    return lines


def ctl(broker, *arguments):
    done = subprocess.run(
        [program("usherctl"), "--url", broker.link_url, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


def recorder(broker, *arguments):
    code, lines, errors = ctl(broker, "recorder", *arguments)
    check_equal(code, 0, f"usherctl recorder: {errors}")
    return [json.loads(line) for line in lines]


def live(broker, name):
    with Client(broker) as first, Client(broker) as second:
        first.login(name)
        second.login(name)
        first.expect_close("REPLACED")
        second.ask("logout")
        second.read_to_end()


def scene_below_the_level():
    """The log is told to be quiet; the recorder has everything, and a user's own timeline."""
    with Broker({"log.level": "error"}, wait=False) as broker:
        eventually(lambda: os.path.exists(broker.link_path), "the link", READY_SECONDS)
        for name in ("alice", "alicia", "bob"):
            live(broker, name)
        check_equal(broker.log_events("login"), [], "logins in a log of errors")
        mine = [line["event"] for line in recorder(broker, "--user", "alice")]
        check_equal(mine, ["login", "takeover", "logout"], "alice's timeline")
        users = {line.get("user") for line in recorder(broker)}
        check({"alice", "alicia", "bob"} <= users, f"only {users} are in the recorder")
        check_equal(recorder(broker, "--user", "nobody"), [], "the timeline of nobody")


def scene_the_newest_stay():
    """A small recorder under many kinds of events: its memory is fixed, its lines are the newest and whole,
    page by page and in a file."""
    with Broker({"recorder.bytes": 4096, "limits.requests_per_second": 0}) as broker:
        for number in range(8):
            live(broker, f"user{number}")
            with Client(broker) as client:
                client.login(f"away{number}")
        eventually(lambda: recorder(broker)[-1]["event"] == "detached", "the last one is gone")
        lines = recorder(broker)
        size = sum(len(json.dumps(line, separators=(",", ":"))) + 1 for line in lines)
        check(2048 < size <= 4096, f"{size} bytes of lines in a recorder of 4096")
        check("starting" not in {line["event"] for line in lines}, "the oldest is still there")
        ends = [line["user"] for line in lines if line["event"] == "logout"]
        check_equal(
            ends, [f"user{number}" for number in range(8 - len(ends), 8)], "who logged out last"
        )
        broker.process.send_signal(signal.SIGUSR1)
        broker.wait_log("recorder_written")
        check(read_lines(path_of(broker)) == lines, "the file has other lines")
        print(f"     {len(lines)} lines, {size} bytes")


def scene_one_event_over_and_over():
    """Whoever causes one does not push out the others; how many of it were left out is told."""
    with Broker({"recorder.bytes": 65536, "limits.requests_per_second": 0}) as broker:
        for number in range(300):
            with Client(broker) as client:
                client.login(f"user{number}")
                client.ask("logout")
                client.read_to_end()
        lines = recorder(broker)
        check_equal(lines[0]["event"], "starting", "the oldest line")
        logins = [line for line in lines if line["event"] == "login"]
        told = len(logins) + sum(line.get("suppressed", 0) for line in logins)
        check(128 <= len(logins) < 300 and told <= 300, f"{len(logins)} logins, {told} told of")
        print(
            f"     {len(logins)} of 300 logins are there; "
            f"{len(broker.log_events('login'))} of them were in the log"
        )


def scene_crash():
    """The file is there after the death, ends with its cause, and keeps the one before."""
    with Broker() as broker:
        before = None
        for number in DEATHS:
            if not broker.alive():
                broker.start()
            with Client(broker) as client:
                secret = client.login("alice").secret
                broker.process.send_signal(number)
                code = broker._wait_end(30)
                check(code != 0, f"{number.name} ended it with {code}")
            lines = read_lines(path_of(broker))
            check_equal(
                (lines[-1]["event"], lines[-1]["signal"]), ("crashed", number), "the last line"
            )
            events = [line["event"] for line in lines]
            check("login" in events or "takeover" in events, f"no login in {events}")
            check_equal(os.stat(path_of(broker)).st_mode & 0o777, 0o600, "the file's rights")
            with open(path_of(broker), "rb") as file:
                content = file.read()
            check(
                secret not in content and secret.hex().encode() not in content,
                "a secret is in the recorder",
            )
            if before is not None:
                with open(path_of(broker) + ".old", "rb") as file:
                    check_equal(file.read(), before, "the record of the crash before")
            before = content
            print(f"     {number.name}: exit {code}, {len(lines)} lines")
        broker.start()


def scene_crash_without_descriptors():
    """All descriptors are in use when it dies."""
    with Broker(
        {"limits.files_reserved": 0, "limits.login_deadline_ms": 60000},
        wrapper=["/bin/sh", "-c", 'ulimit -n 64; exec "$@"', "sh"],
    ) as broker:
        clients = [Client(broker) for _ in range(100)]  # silent ones, more than there is room for
        try:
            broker.wait_log("accept_paused", 30)
            broker.process.send_signal(signal.SIGSEGV)
            # What a sanitizer does then needs descriptors itself, and may never end.
            eventually(lambda: written(path_of(broker)), "the last line", 30)
            if os.environ.get("USHER_PLAY_SCALE", "1") != "1":
                broker.kill()
            broker._wait_end(30)
        finally:
            for client in clients:
                client.close()
        check_equal(read_lines(path_of(broker))[-1]["event"], "crashed", "the last line")
        broker.start()


def written(path):
    """The last line is there, whole."""
    if not os.path.exists(path):
        return False
    with open(path, encoding="utf-8") as file:
        return '"event":"crashed"' in file.read().rpartition("{")[2]


def scene_another_file():
    with Broker() as plain:
        target = os.path.join(plain.folder, "else", "record")
        with Broker({"recorder.file": target}) as broker:
            broker.process.send_signal(signal.SIGUSR1)
            broker.wait_log("recorder_failed")  # there is no such folder
            os.mkdir(os.path.dirname(target))
            broker.process.send_signal(signal.SIGUSR1)
            broker.wait_log("recorder_written")
            check_equal(read_lines(target)[0]["event"], "starting", "the first line")


def scene_a_folder_in_the_way():
    """What stands at its name is put aside, but no folder, and the store's least of all."""
    with Broker() as plain:
        target = os.path.join(plain.folder, "record")
        with Broker({"recorder.file": target}) as broker:
            os.mkdir(target)
            broker.process.send_signal(signal.SIGUSR1)
            check_equal(broker.wait_log("recorder_failed")["error"], "Is a directory", "the error")
            os.rmdir(target)
            os.mkfifo(target)
            broker.process.send_signal(signal.SIGUSR1)
            check_equal(broker.wait_log("recorder_failed", count=2)["error"], "File exists", "then")
        check_equal(
            [name for name in os.listdir(plain.folder) if name.startswith("record")],
            ["record"],
            "what is there",
        )


play(
    scene_below_the_level,
    scene_the_newest_stay,
    scene_one_event_over_and_over,
    scene_crash,
    scene_crash_without_descriptors,
    scene_another_file,
    scene_a_folder_in_the_way,
)
