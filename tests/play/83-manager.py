# SPDX-License-Identifier: Apache-2.0
"""What the service manager sees: readiness, reload, stop, signs of life as long as every thread
moves, sockets that it opened itself, lines that its journal understands."""

import ctypes
import http.client
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading

from usherplay import Broker, Client, check, check_equal, eventually, play, program, scaled
from usherplay.manager import PATIENCE, Manager, activated, listening
from usherplay.tls import Identity

WATCHDOG_SECONDS = 1.2 if scaled(10) == 10 else 2.4
PROBES = 12  # two seconds for each are more than the time that an operator's request has
LOOKED_AFTER = {"io-0", "worker-0", "committer", "clock"}
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WALL = 0x40000000

# Sets the variable that names the process itself, which only that one knows.
NAMED = ["/bin/sh", "-c", 'LISTEN_PID=$$ WATCHDOG_PID=$$ exec "$@"', "sh"]


def scene_ready_reload_stop():
    for abstract in (False, True):
        manager = Manager(abstract)
        with Broker(environment={"NOTIFY_SOCKET": manager.address}) as broker:
            ready = manager.wait("READY")
            check(str(broker.port) in manager.came[ready]["STATUS"], manager.came)
            check_equal(ready, 0, "what comes before READY=1")
            broker.process.send_signal(signal.SIGHUP)
            reloading = manager.wait("RELOADING", after=ready + 1)
            check(int(manager.came[reloading]["MONOTONIC_USEC"]) > 0, manager.came)
            again = manager.wait("READY", after=reloading)
            with Client(broker) as alice:
                alice.login("alice")
                broker.process.terminate()
                stopping = manager.wait("STOPPING", after=again)
            check("1 client connection" in manager.came[stopping]["STATUS"], manager.came)
            check_equal(broker.stop(), 0, "the exit code")
        check(
            not [1 for message in manager.came if "WATCHDOG" in message],
            f"nobody asked for signs of life: {manager.came}",
        )


def scene_a_reload_that_is_refused():
    """The manager took the signal for a success long ago: the status says otherwise, until a reload
    works."""
    manager = Manager()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "usherd.yaml")

        def reload_with(text):
            with open(path, "w", encoding="ascii") as file:
                file.write(text)
            came = len(manager.came)
            broker.process.send_signal(signal.SIGHUP)
            ready = manager.wait("READY", after=manager.wait("RELOADING", after=came))
            return manager.came[ready]["STATUS"]

        with open(path, "w", encoding="ascii") as file:
            file.write("log.level: info\n")
        environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "400000"}
        with Broker(environment=environment, wrapper=with_file(path)) as broker:
            manager.wait("READY")
            check("refused" not in reload_with("log.level: info\n"), manager.came[-3:])
            said = reload_with("limits.colour: red\n")
            check("refused" in said and "limits.colour" in said, said)
            sign = manager.wait("WATCHDOG", after=len(manager.came))
            check("limits.colour" in manager.came[sign]["STATUS"], manager.came[sign])
            check("refused" not in reload_with("log.level: info\n"), manager.came[-3:])


def with_file(path):
    """A command that gives usherd a file in front of its settings."""
    return [
        "/bin/sh",
        "-c",
        f'program=$1; shift; WATCHDOG_PID=$$ exec "$program" --config {path} ' '"$@"',
        "sh",
    ]


def scene_saving_takes_its_time():
    """While inboxes are saved the manager's patience begins anew with each transaction."""
    manager = Manager()
    options = {
        "limits.inbox_bytes": 8 << 20,
        "limits.inbox_age_ms": 3600000,
        "limits.frame_bytes": 1 << 20,
    }
    groups = 3  # each user fills one
    with Broker(options, environment={"NOTIFY_SOCKET": manager.address}) as broker:
        with Client(broker) as sender:
            sender.login("sender")
            for number in range(groups):
                keeper = Client(broker)
                keeper.login(f"keeper{number}", acks=True)
                keeper.drop()
                for _ in range(9):
                    sender.ask("send", to=f"keeper{number}", payload=b"x" * 500000)
        check_equal(broker.stop(PATIENCE), 0, "the exit code")
        stopping = manager.wait("STOPPING")
        check_equal(manager.came[stopping].get("EXTEND_TIMEOUT_USEC"), "90000000", "at the stop")
        saved = [
            message["STATUS"]
            for message in manager.came[stopping + 1 :]
            if message.get("EXTEND_TIMEOUT_USEC") == "90000000"
        ]
        check(len(saved) >= groups and "saved" in saved[0], manager.came[stopping:])


# --- signs of life ---------------------------------------------------------------------------------

LIBC = ctypes.CDLL(None, use_errno=True)


def ptrace(request, thread):
    LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if LIBC.ptrace(request, thread, None, None) != 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x} of {thread}")


class Frozen:
    """One thread of another process stands still."""

    def __init__(self, thread):
        self.thread = thread

    def __enter__(self):
        ptrace(PTRACE_SEIZE, self.thread)
        ptrace(PTRACE_INTERRUPT, self.thread)
        os.waitpid(self.thread, WALL)

    def __exit__(self, kind, value, trace):
        ptrace(PTRACE_DETACH, self.thread)


def still_of(broker, manager, thread):
    """Freezes it; gives what the broker calls it, or None when there are signs of life all the
    same. A look that has begun before counts for neither, so the second one does."""
    with Frozen(thread):
        lines, signs = len(broker.log_events("thread_still")), len(manager.came)

        def verdict():
            news = broker.log_events("thread_still")[lines:]
            if len(manager.came) >= signs + 2:
                return ["moves"]
            return [line["thread"] for line in news[1:]]

        name = eventually(verdict, "neither a sign of life nor a complaint", PATIENCE)[-1]
        if name == "moves":
            return None
        silent = len(manager.came)
        broker.wait_log("thread_still", PATIENCE, count=len(broker.log_events("thread_still")) + 1)
        check_equal(len(manager.came), silent, f"signs of life while {name} stands still")
    manager.wait("WATCHDOG", after=len(manager.came))
    return name


def scene_watchdog():
    manager = Manager()
    environment = {
        "NOTIFY_SOCKET": manager.address,
        "WATCHDOG_USEC": str(int(WATCHDOG_SECONDS * 1e6)),
    }
    with Broker(
        {"threads.io": 1, "threads.workers": 1}, environment=environment, wrapper=NAMED
    ) as broker:
        first = manager.wait("WATCHDOG")
        manager.wait("WATCHDOG", after=first + 1)
        check("STATUS" in manager.came[first], manager.came)
        threads = sorted(int(name) for name in os.listdir(f"/proc/{broker.process.pid}/task"))
        threads.remove(broker.process.pid)
        seen = set()
        for thread in reversed(threads):
            try:
                name = still_of(broker, manager, thread)
            except PermissionError as error:
                print(f"     not tried, threads cannot be stopped here: {error}")
                return
            if name is not None:
                seen.add(name)
            if seen == LOOKED_AFTER:
                break
        check_equal(seen, LOOKED_AFTER, "threads whose standing still is noticed")


def ask_admin(broker, path, patience=PATIENCE):
    """The status; None: nobody answers."""
    port = next(line["port"] for line in broker.log_events("listening") if line["for"] == "admin")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except TimeoutError:
        return None
    finally:
        connection.close()


def scene_health_while_a_thread_stands_still():
    """Many who ask whether the broker lives do not keep its operator from its numbers: after the first
    one nobody is made to wait for the thread again."""
    options = {"admin.listen": "127.0.0.1:0", "threads.io": 1, "threads.workers": 1}
    with Broker(options) as broker:
        task = f"/proc/{broker.process.pid}/task"
        for thread in sorted(map(int, os.listdir(task)), reverse=True):
            with open(f"{task}/{thread}/comm", encoding="ascii") as file:
                if thread == broker.process.pid or file.read().strip() != "usherd":
                    continue
            try:
                with Frozen(thread):
                    # It is one that nobody looks after, or the one that would answer.
                    if ask_admin(broker, "/healthz", 10) != 503:
                        continue
                    answers = []
                    crowd = [
                        threading.Thread(
                            target=lambda: answers.append(ask_admin(broker, "/healthz"))
                        )
                        for _ in range(PROBES)
                    ]
                    for probe in crowd:
                        probe.start()
                    check_equal(ask_admin(broker, "/metrics"), 200, "the numbers beside them")
                    for probe in crowd:
                        probe.join()
                    check_equal(answers, [503] * PROBES, "what those who ask are told")
            except PermissionError as error:
                print(f"     not tried, threads cannot be stopped here: {error}")
                return
            eventually(lambda: ask_admin(broker, "/healthz") == 200, "it goes on", PATIENCE)
            check_equal(broker.numbers()["admin_late"], 0, "nobody was late")
            return
        check(False, "no thread's standing still is noticed")


def scene_watchdog_of_another():
    manager = Manager()
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}
    with Broker(environment=environment) as broker:
        broker.process.send_signal(signal.SIGHUP)
        manager.wait("READY", after=manager.wait("RELOADING"))
        check(not [1 for message in manager.came if "WATCHDOG" in message], manager.came)


# --- sockets --------------------------------------------------------------------------------------


def scene_passed_socket():
    with listening() as stream:
        port = stream.getsockname()[1]
        broker = activated([stream], options={"listen.tcp": "127.0.0.1:1"})
        with broker:
            check_equal(broker.wait_log("listening")["address"], f"127.0.0.1:{port}", "the log")
            broker.address = ("127.0.0.1", port)
            with Client(broker) as alice:
                alice.login("alice")
            broker.stop()
            # The manager still has it: whoever comes now is served by the next process.
            with Client(broker) as early:
                broker.start()
                early.login("early", timeout=PATIENCE)


def scene_restart():
    """A restart that an operator asks for is a reload to the manager, which has no part in it: the same
    process, with the sockets that it was given."""
    manager = Manager()
    with listening() as stream:
        port = stream.getsockname()[1]
        broker = activated(
            [stream], names=["listen.tcp"], options={"listen.tcp": "127.0.0.1:1"}, manager=manager
        )
        with broker:
            ready = manager.wait("READY")
            pid = broker.process.pid
            broker.address = ("127.0.0.1", port)
            with Client(broker) as alice:
                welcome = alice.login("alice")
                subprocess.run(
                    [program("usherctl"), "--url", broker.link_url, "drain", "--restart"],
                    check=True,
                    timeout=60,
                )
                reloading = manager.wait("RELOADING", after=ready)
                alice.expect_close("SHUTDOWN")
            manager.wait("READY", after=reloading)
            check(not any("STOPPING" in message for message in manager.came), manager.came)
            check_equal((broker.process.poll(), broker.process.pid), (None, pid), "the process")
            with Client(broker) as alice:
                alice.resume(welcome, 0, name="alice")
            # Who asks it to end while it stops has the last word.
            with Client(broker, timeout=PATIENCE) as holds:
                holds.login("holds")
                subprocess.run(
                    [program("usherctl"), "--url", broker.link_url, "drain", "--restart"],
                    check=True,
                    timeout=60,
                )
                broker.process.terminate()
                check_equal(broker._wait_end(PATIENCE), 0, "exit code")


def scene_restart_with_long_names():
    """Whatever they are called, up to what a name may have: after a restart each is what it was."""
    with tempfile.TemporaryDirectory() as folder, listening() as one, listening() as two:
        identity = Identity(folder, "passed")
        options = {"tls.certificate_file": identity.certificate, "tls.key_file": identity.key}
        with activated([one, two], ["x" * 255, "listen.tls"], options) as broker:
            subprocess.run(
                [program("usherctl"), "--url", broker.link_url, "drain", "--restart"],
                check=True,
                timeout=60,
            )
            broker.wait_log("ready", PATIENCE, count=2)
            ports = [
                int(event["address"].rpartition(":")[2])
                for event in broker.log_events("listening")
                if event["for"].startswith("clients")
            ]
            check_equal(ports[-2:], [one.getsockname()[1], two.getsockname()[1]], "after it")


def scene_passed_sockets_by_name():
    """Each goes where its name says, in whatever order they come."""
    with tempfile.TemporaryDirectory() as folder, listening() as one, listening() as two:
        identity = Identity(folder, "passed")
        options = {"tls.certificate_file": identity.certificate, "tls.key_file": identity.key}
        for names in (["listen.tls", "listen.tcp"], ["listen.tcp", "listen.tls"]):
            with activated([one, two], names, options) as broker:
                broker.wait_log("listening", count=2)
                ports = [
                    int(event["address"].rpartition(":")[2])
                    for event in broker.log_events("listening")[:2]
                ]
                both = [one.getsockname()[1], two.getsockname()[1]]
                tls = names.index("listen.tls")
                check_equal(ports, [both[1 - tls], both[tls]], "where it listens, plain and by TLS")


def scene_passed_to_another():
    with listening() as stream, activated([stream], listen_pid=1) as broker:
        check_equal(broker.wait_log("listening")["port"], broker.port, "the port in use")


def refused(sockets, names, what, options=()):
    broker = activated(sockets, names, options, wait=False)
    try:
        check_equal(broker._wait_end(PATIENCE), 78, f"the exit code for {what}")
        check(any("socket activation" in line for line in broker.raw_lines()), broker.raw_lines())
    finally:
        broker.close()


def scene_sockets_that_are_refused():
    with tempfile.TemporaryDirectory() as folder, listening() as one, listening() as two, listening() as three, listening(
        listens=False
    ) as deaf, listening(
        ("0.0.0.0", 0)
    ) as wide, listening(
        os.path.join(folder, "unix"), socket.AF_UNIX
    ) as local:
        refused([one, two], ["listen.tcp", "listen.tcp"], "two of a kind")
        refused([one, two, three], ["listen.tcp", "listen.tls", "x"], "three sockets")
        for name in ("http.listen", "admin.listen", "link.urls", "feed.url"):
            refused([one], [name], f"a socket for {name}")
        refused([deaf], ["listen.tcp"], "a socket that does not listen")
        refused([local], ["listen.tcp"], "a unix socket")
        refused([wide], ["listen.tcp"], "auth.mode open on every address")
        with activated([wide], ["listen.tcp"], {"auth.allow_open_network": "true"}) as broker:
            check_equal(broker.wait_log("listening")["port"], wide.getsockname()[1], "the port")


def scene_passed_socket_beside_a_late_address():
    """What was passed is not lost while another address is waited for; the manager hears why."""
    manager = Manager()
    with tempfile.TemporaryDirectory() as folder, listening() as stream, listening() as late:
        authority = Identity(folder, "authority")
        identity = Identity(folder, "broker", authority)
        options = {
            "listen.tls": "127.0.0.1:%d" % late.getsockname()[1],
            "listen.wait_ms": 60000,
            "tls.certificate_file": identity.certificate,
            "tls.key_file": identity.key,
        }
        with activated([stream], options=options, wait=False, manager=manager) as broker:
            waiting = manager.wait("EXTEND_TIMEOUT_USEC", "90000000")
            check("listen.tls" in manager.came[waiting]["STATUS"], manager.came)
            manager.wait("EXTEND_TIMEOUT_USEC", "90000000", after=waiting + 2)
            late.close()
            manager.wait("READY")
            broker.address = stream.getsockname()
            with Client(broker) as alice:
                alice.login("alice")


# --- the journal -----------------------------------------------------------------------------------


def journal_lines(log_format, right=True):
    """What a start that fails and one that succeeds say, with stderr a pipe that the manager names."""
    reader, writer = os.pipe()
    status = os.fstat(writer)
    name = f"{status.st_dev}:{status.st_ino + (0 if right else 1)}"
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [
                program("usherd"),
                "--set",
                "listen.tcp=127.0.0.1:0",
                "--set",
                "admin.listen=",
                "--set",
                f"store.path={folder}/store",
                "--set",
                f"log.format={log_format}",
            ],
            stderr=writer,
            env={**os.environ, "JOURNAL_STREAM": name},
        )
        os.close(writer)
        lines = []
        with os.fdopen(reader) as file:
            for line in file:
                lines.append(line.rstrip("\n"))
                if "listening" in line and "backends" in line:
                    process.terminate()
        check_equal(process.wait(), 0, "the exit code")
    return lines


def scene_journal():
    lines = journal_lines("auto")
    check(all(re.match(r"<[3467]>[a-z_]+( |$)", line) for line in lines), lines)
    check([line for line in lines if line.startswith("<6>ready port=")], lines)
    if os.geteuid() == 0:
        check([line for line in lines if line.startswith("<4>running_as_root")], lines)
    check(all(re.match(r'<[3467]>{"time":"', line) for line in journal_lines("json")), "json")
    elsewhere = journal_lines("auto", right=False)
    check(all(line.startswith('{"time":') for line in elsewhere), elsewhere)


play(
    scene_ready_reload_stop,
    scene_a_reload_that_is_refused,
    scene_saving_takes_its_time,
    scene_watchdog,
    scene_health_while_a_thread_stands_still,
    scene_watchdog_of_another,
    scene_passed_socket,
    scene_passed_sockets_by_name,
    scene_restart,
    scene_restart_with_long_names,
    scene_passed_to_another,
    scene_sockets_that_are_refused,
    scene_passed_socket_beside_a_late_address,
    scene_journal,
)
