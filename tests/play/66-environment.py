# SPDX-License-Identifier: Apache-2.0
"""Started badly: files closed, nobody reads the log, no room for it, little stack, little memory,
no umask. usherd lives, serves, and stops in order."""

import fcntl
import itertools
import os
import resource
import signal
import stat
import subprocess
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    Failed,
    check,
    check_equal,
    eventually,
    play,
    program,
    scaled,
)
from usherplay.filebroker import FileBroker

STACK_KILOBYTES = 512  # PREPARE_STACK_BYTES_MIN
START_SECONDS = 30  # without a log there is no "ready" to wait for
ADDRESS_SPACE_OF_A_SANITIZER = 1 << 40

_services = itertools.count(1)


def shell(line):
    """A wrapper for Broker: the shell line, with usherd and its arguments as "$@"."""
    return ["/bin/sh", "-c", line, "sh"]


def answers(broker):
    broker.check_alive()
    try:
        with Client(broker) as probe:
            probe.login("probe")
            probe.post("logout")
            return probe.expect("done", id=probe.last_id)
    except OSError:
        return None


def serve(broker, people):
    """Logins, talk, mistakes that are logged, a backend; gives a bystander's worst ping."""
    worst = 0.0
    service = f"chat{next(_services)}"  # nobody waits for an instance of an earlier call
    with Client(broker) as bystander, Backend(broker, service=service) as backend:
        bystander.login("bystander")
        for number in range(people):
            with Client(broker) as client:
                client.login(f"person{number % 50}")
                client.send("bystander", b"hello")
                bystander.expect("message", payload=b"hello")
                if number % 3 == 0:
                    client.send_bytes(b"\xff" * 16)
                    client.expect_close("PROTOCOL_ERROR")
                elif number % 3 == 1:
                    client.drop()
            worst = max(worst, bystander.ping())
        bystander.post("call", service=service, method="m")
        backend.reply(backend.expect_call())
        bystander.expect("reply")
        check(backend.numbers("count")["online"] >= 1, "nobody is online")
    return worst


def started(broker):
    eventually(lambda: answers(broker), "a broker that answers", START_SECONDS, 0.05)
    return broker


def standard_files(broker):
    return [os.readlink(f"/proc/{broker.process.pid}/fd/{number}") for number in range(3)]


def scene_closed_files():
    """Files 0 to 2 closed at start: none of them becomes the store, a socket or a listener."""
    for closing in ("0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"):
        with Broker(wrapper=shell(f'exec "$@" {closing}'), wait=False) as broker:
            started(broker)
            files = standard_files(broker)
            for number, path in enumerate(files):
                if f"{number}<" in closing or f"{number}>" in closing:
                    check_equal(path, "/dev/null", f"file {number} with {closing}")
            worst = serve(broker, scaled(30, 5))
            with Client(broker) as alice:
                welcome = alice.login("alice", acks=True)
                alice.send("alice", b"kept")
            check_equal(broker.stop(), 0, f"the orderly stop with {closing}")
            broker.wrapper = []
            broker.restart()
            with Client(broker) as alice:  # the store is whole
                alice.name = "alice"
                again = alice.resume(welcome, 0)
                check_equal(again.replay, 1, "replay after the restart")
                alice.expect("message", payload=b"kept")
        print(f"     {closing}: {files}, worst ping {worst * 1000:.1f} ms")


class Fifo:
    """A pipe with a name, both ends held, so that it can be filled and emptied at will."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "log.fifo")
        os.mkfifo(self.path)
        self.end = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        self.filled = 0
        fcntl.fcntl(self.end, fcntl.F_SETPIPE_SZ, 4096)

    def fill(self):
        for size in (4096, 1):
            try:
                while True:
                    self.filled += os.write(self.end, b"f" * size)
            except BlockingIOError:
                pass

    def read(self):
        try:
            return os.read(self.end, 65536)
        except BlockingIOError:
            return b""


def with_fifo(act):
    folder = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"usher-play-fifo-{os.getpid()}")
    os.mkdir(folder)
    fifo = Fifo(folder)
    try:
        act(fifo)
    finally:
        os.close(fifo.end)
        os.unlink(fifo.path)
        os.rmdir(folder)


def scene_full_pipe():
    """stderr is a pipe that is full from the start and that nobody reads: only the log waits."""

    def act(fifo):
        fifo.fill()
        options = {"log.level": "debug"}
        with Broker(options, wrapper=shell(f'exec "$@" 2>{fifo.path}'), wait=False) as broker:
            started(broker)
            worst = serve(broker, scaled(150, 20))
            before = broker.cpu_seconds()
            time.sleep(0.5)
            used = broker.cpu_seconds() - before
            check(used < 0.3, f"a log that waits uses {used:.2f} s CPU in 0.5 s")
            got = bytearray()

            def event_is_read():  # the writer goes on where it was
                got.extend(fifo.read())
                return b'"event":"ready"' in got and b'"event":"protocol_error"' in got

            eventually(event_is_read, "the waiting lines, once somebody reads", 10)
            fifo.fill()
            serve(broker, scaled(30, 5))
            began = time.monotonic()
            check_equal(broker.stop(), 0, "the orderly stop beside a full pipe")
            print(
                f"     worst ping {worst * 1000:.1f} ms, {used * 1000:.0f} ms CPU in 500 ms "
                f"idle, stopped in {time.monotonic() - began:.2f} s"
            )

    with_fifo(act)


def scene_reader_of_the_log_goes():
    """With SIGPIPE as the system sets it: a log without a reader ends nobody."""
    with Broker() as broker:
        serve(broker, 3)
        # The play's own reader is stopped by taking its end away: the next line is EPIPE.
        lines = len(broker.lines)
        read_end = broker.process.stderr.fileno()
        null = os.open("/dev/null", os.O_RDONLY)
        eventually(lambda: answers(broker), "a broker that answers")
        os.dup2(null, read_end)
        os.close(null)
        worst = serve(broker, scaled(60, 10))
        check(broker.alive(), "the broker died with its log's reader")
        with Backend(broker, hello=False) as backend:
            dropped = eventually(
                lambda: backend.numbers("stats")["log_dropped"], "lines counted as dropped", 10
            )
        print(
            f"     {lines} lines before, {dropped} dropped without a reader, worst ping "
            f"{worst * 1000:.1f} ms"
        )


def scene_log_disk_full():
    """Each write of the log fails for lack of room."""
    with Broker(wrapper=shell('exec "$@" 2>/dev/full'), wait=False) as broker:
        started(broker)
        worst = serve(broker, scaled(150, 20))
        with Backend(broker, hello=False) as backend:
            stats = eventually(
                lambda: (numbers := backend.numbers("stats"))["log_dropped"] > 5 and numbers,
                "lines counted as dropped",
                10,
            )
        check_equal(stats["log_lines"], 0, "lines counted as written")
        print(f"     {stats['log_dropped']} lines dropped, worst ping {worst * 1000:.1f} ms")


def scene_small_stack():
    """The least for every thread (the frames of a sanitizer are larger); also the largest frames, pages
    and configuration fit, and a reload, which is the deepest."""
    kilobytes = STACK_KILOBYTES if scaled(10) == 10 else 1024
    with FileBroker(
        {"log__level": "info"},
        {"limits.frame_bytes": 1 << 20, "limits.inbox_bytes": 1 << 22},
        wrapper=shell(f'ulimit -s {kilobytes} && exec "$@"'),
    ) as broker:
        with open(f"/proc/{broker.process.pid}/limits", encoding="ascii") as file:
            limit = next(line for line in file if "stack" in line)
            check(str(kilobytes * 1024) in limit, f"no small stack: {limit}")
        with Client(broker) as alice:
            alice.login("alice")
            payload = b"p" * 1000000
            alice.send("alice", payload)
            alice.expect("message", payload=payload)
        worst = serve(broker, scaled(60, 10))
        broker.write(log__level="warn")
        check_equal(broker.reload()[0], 0, "a reload")
        print(f"     worst ping {worst * 1000:.1f} ms")


def scene_too_small_stack():
    """Says so and ends with 71, where it was a fault with no word of why."""
    for kilobytes in (STACK_KILOBYTES - 1, 64, 32):
        done = subprocess.run(
            [*shell(f'ulimit -s {kilobytes} && exec "$@"'), program("usherd"), "--version"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        check_equal((done.returncode, done.stdout), (71, ""), f"{kilobytes} KiB: {done.stderr}")
        check(f"may have {kilobytes} KiB" in done.stderr, f"it says {done.stderr}")
        check("ulimit -s" in done.stderr and done.stderr.count("\n") == 1, f"it says {done.stderr}")


def address_space(broker):
    with open(f"/proc/{broker.process.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def scene_too_little_address_space():
    """Too little for the store's map: says so and ends; the store is not harmed."""
    with Broker({"store.map_bytes": 1 << 26}) as broker:
        if address_space(broker) > ADDRESS_SPACE_OF_A_SANITIZER:
            print("     left out: a sanitizer needs the address space")
            return
        with Client(broker) as alice:
            alice.login("alice")
        check_equal(broker.stop(), 0, "the orderly stop")
        for kilobytes in (60000, 120000, 240000):
            small = subprocess.run(
                shell(f'ulimit -v {kilobytes} && exec "$@"')
                + broker.command()
                + ["--set", "store.map_bytes=4GiB"],
                capture_output=True,
                timeout=20,
                check=False,
            )
            errors = small.stderr.decode(errors="replace")
            check(small.returncode > 0, f"{kilobytes} KiB: ended with {small.returncode}: {errors}")
            check(
                "usherd" in errors or '"level":"error"' in errors,
                f"{kilobytes} KiB: does not say why: {errors!r}",
            )
            print(
                f"     {kilobytes} KiB: exit {small.returncode}, "
                f"{errors.strip().splitlines()[-1][:110]}"
            )
        broker.restart()
        with Backend(broker, hello=False) as backend:
            stored = [info.user for info in backend.lookup("alice").sessions]
            check_equal(stored, ["alice"], "who is stored")


def scene_little_address_space():
    """A little more than an idle broker has, and hundreds of people: served or refused."""
    with Broker({"store.map_bytes": 1 << 26}) as broker:
        if address_space(broker) > ADDRESS_SPACE_OF_A_SANITIZER:
            print("     left out: a sanitizer needs the address space")
            return
        room = address_space(broker) + (12 << 20)
        resource.prlimit(broker.process.pid, resource.RLIMIT_AS, (room, room))
        clients, refused = [], 0
        for number in range(400):
            try:
                client = Client(broker)
                client.login(f"user{number}")
                client.send_bytes(b"\xff\xff\x03" + b"x" * 8000)  # the beginning of a long frame
                clients.append(client)
            except (OSError, Failed):
                refused += 1
        check(clients, "nobody was served")
        worst = serve(broker, 20)
        used = address_space(broker)
        for client in clients:
            client.drop()
        print(
            f"     {len(clients)} served, {refused} refused, {used >> 20} of {room >> 20} MiB, "
            f"worst ping {worst * 1000:.1f} ms"
        )


def scene_umask_0():
    """What is made is private from birth, whatever umask the broker was started with."""
    with Broker({"feed.url": "ipc://feed.sock"}, wrapper=shell('umask 0; exec "$@"')) as broker:
        serve(broker, 3)
        with open(f"/proc/{broker.process.pid}/status", encoding="ascii") as status:
            umask = next(line.split()[1] for line in status if line.startswith("Umask:"))
        check_equal(umask, "0077", "the umask that it set itself")
        broker.process.send_signal(signal.SIGUSR1)
        broker.wait_log("recorder_written", 30)
        wrong = []
        for folder, _, names in os.walk(broker.folder):
            for path in [os.path.join(folder, name) for name in names] + [folder]:
                mode = os.stat(path).st_mode
                if path != broker.folder and stat.S_IMODE(mode) & 0o077:
                    wrong.append(f"{os.path.relpath(path, broker.folder)} {stat.filemode(mode)}")
        check(not wrong, f"others may use {wrong}")


def scene_no_standard_files_for_tools():
    """--version and --check-config with everything closed do not write into other files."""
    for arguments in (["--version"], ["--check-config"], ["--nonsense"]):
        done = subprocess.run(
            shell('exec "$@" 0<&- 1>&- 2>&-') + [program("usherd")] + arguments,
            check=False,
            timeout=20,
        )
        check(done.returncode in (0, 64), f"usherd {arguments}: exit {done.returncode}")


if __name__ == "__main__":
    play(
        scene_closed_files,
        scene_full_pipe,
        scene_reader_of_the_log_goes,
        scene_log_disk_full,
        scene_small_stack,
        scene_too_small_stack,
        scene_too_little_address_space,
        scene_little_address_space,
        scene_umask_0,
        scene_no_standard_files_for_tools,
    )
