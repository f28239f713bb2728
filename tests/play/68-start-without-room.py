# SPDX-License-Identifier: Apache-2.0
"""A start on a disk that is full or fails: each cause has its own exit code and a line that says what
to do, nothing is damaged, and with room again it starts."""

import errno
import os
import resource
import shutil
import subprocess
import tempfile
import threading

from usherplay import Backend, Broker, Client, Failed, check, check_equal, free_port, play, program
from usherplay.shim import ANY, HALF, REFUSED, SYNCED_WRITES, SYNCS, WRITES, Shim

RESOURCES, NO_ROOM, DISK, CONFIGURATION = 71, 73, 74, 78
CAUSES = {
    errno.ENOSPC: (NO_ROOM, "No space left", "make room on the disk"),
    errno.EDQUOT: (NO_ROOM, "quota", "within the quota"),
    errno.EFBIG: (NO_ROOM, "File too large", "limit of a file's size"),
    errno.EIO: (DISK, "Input/output error", "log of the kernel"),
}


def start(store, options=None, wrapper=(), environment=None, **more):
    """A start that is to fail: its exit code and what it said, which is one line."""
    settings = {
        "listen.tcp": f"127.0.0.1:{free_port()}",
        "admin.listen": "",
        "store.path": store,
        "log.level": "error",
        **(options or {}),
    }
    command = [*wrapper, program("usherd")]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **(environment or {})},
        **more,
    )
    said = [line for line in done.stderr.splitlines() if line.startswith("usherd: ")]
    check(len(said) == 1, f"it said: {done.stderr[-800:]}")
    return done.returncode, said[0]


def expect(result, code, *words, what):
    got, said = result
    check_equal(got, code, f"{what}: the exit code, with {said!r}")
    for word in words:
        check(word in said, f"{what}: {said!r} does not say {word!r}")


def live(broker, name):
    """Somebody logs in and loses his connection."""
    with Client(broker) as client:
        client.login(name)
        client.drop()


def known_to(broker):
    with Backend(broker) as backend:
        return [info.user for info in backend.list_all()[0]]


def scene_few_threads():
    """A user who may have few threads: too few end the start with its code and a line, whichever thread is
    the one too many, and with enough it starts and stops."""
    if os.geteuid() != 0:
        print("     left out: it takes root to become a user of whom nothing else runs")
        return
    user = 1000000000 + os.getpid()
    ready = 0
    # A sanitizer that looks for leaks at the end starts a thread for that.
    environment = {
        **os.environ,
        "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0",
    }
    with tempfile.TemporaryDirectory(prefix="usher-play-") as folder:
        os.chown(folder, user, user)
        command = [program("usherd")]
        for key, value in {
            "listen.tcp": "127.0.0.1:0",
            "admin.listen": "127.0.0.1:0",
            "log.format": "json",
            "store.path": os.path.join(folder, "store"),
        }.items():
            command += ["--set", f"{key}={value}"]
        for limit in range(1, 100):
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                user=user,
                group=user,
                extra_groups=[],
                env=environment,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit)),
            )
            lines, patience = [], threading.Timer(60, process.kill)
            patience.start()
            for line in process.stderr:
                lines.append(line)
                if '"event":"ready"' in line:
                    process.terminate()
                    ready += 1
            code = process.wait(60)
            patience.cancel()
            started = any('"event":"ready"' in line for line in lines)
            check_equal(code, 0 if started else RESOURCES, f"with {limit} threads: {lines[-3:]}")
            check(
                started or any(line.startswith("usherd: ") for line in lines),
                f"with {limit} threads: {lines[-3:]}",
            )
            if ready == 3:
                print(f"     {limit} threads are enough")
                return
    raise Failed("it does not start with a hundred threads")


def scene_a_new_store():
    """Each call that makes the store fails, for each cause."""
    with Shim() as shim:
        for error, (code, *words) in CAUSES.items():
            for calls in (WRITES, SYNCS, SYNCED_WRITES):
                shim.heal()
                shutil.rmtree(shim.store, ignore_errors=True)
                shim.fail(calls, error, manner=REFUSED)
                result = start(shim.store, environment=shim.environment())
                if shim["failed"] > 0:  # opening alone writes nothing synced
                    expect(result, code, *words, what=f"{os.strerror(error)} of {calls}")
        shim.heal()
        with Broker({"store.path": shim.store}, environment=shim.environment()) as broker:
            live(broker, "anna")


def scene_a_store_with_sessions():
    """The start marks who was connected, which is written: each cause again, then all are there."""
    with Shim() as shim:
        options = {"store.path": shim.store}
        with Broker(options, environment=shim.environment()) as broker:
            for user in ("anna", "bob"):
                live(broker, user)
            broker.kill()
            for error, (code, *words) in CAUSES.items():
                shim.fail(ANY, error, skip=1)
                expect(
                    start(shim.store, environment=shim.environment()),
                    code,
                    *words,
                    what=os.strerror(error),
                )
                check(shim["failed"] > 0, "nothing failed")
                shim.heal()
            broker.start()
            check_equal(known_to(broker), ["anna", "bob"], "who is remembered")


def scene_a_write_in_part():
    """A full disk takes a part of a write first, which looks like a disk that fails."""
    with Shim() as shim:
        shim.fail(WRITES, errno.ENOSPC, manner=HALF)
        code, *words = CAUSES[errno.ENOSPC]
        expect(
            start(shim.store, environment=shim.environment()),
            code,
            *words,
            what="half a write to a new store",
        )
        shim.heal()
        with Broker({"store.path": shim.store}, environment=shim.environment()) as broker:
            live(broker, "anna")
            broker.kill()
            shim.fail(WRITES, errno.ENOSPC, manner=HALF)
            expect(
                start(shim.store, environment=shim.environment()),
                code,
                *words,
                what="half a write to an old store",
            )
            shim.heal()
            broker.start()
            check_equal(known_to(broker), ["anna"], "who is remembered")


def scene_a_limit_of_file_sizes():
    """EFBIG, and SIGXFSZ, which must not kill."""
    with tempfile.TemporaryDirectory(prefix="usher-play-") as folder:

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

        expect(
            start(os.path.join(folder, "store"), preexec_fn=limit),
            *CAUSES[errno.EFBIG],
            what="a limit of 8 KiB",
        )


def scene_a_full_disk():
    """A real file system, with room for less than a store."""
    folder = tempfile.mkdtemp(prefix="usher-disk-")
    script = 'mount -t tmpfs -o size=16k,mode=0700 usher "$0" && exec "$@"'
    wrapper = ["unshare", "-m", "sh", "-c", script, folder]
    if (
        os.geteuid() != 0
        or subprocess.run([*wrapper, "true"], capture_output=True, check=False).returncode != 0
    ):
        print("     not tried: this system does not let us mount")
        os.rmdir(folder)
        return
    expect(
        start(os.path.join(folder, "store"), wrapper=wrapper),
        *CAUSES[errno.ENOSPC],
        what="a full tmpfs",
    )
    os.rmdir(folder)


def scene_limits_below_what_is_stored():
    """More sessions than limits.users and the room for instances together."""
    with Broker() as broker:
        for number in range(8):
            live(broker, f"user{number}")
        broker.kill()
        expect(
            start(
                broker.store,
                {
                    "limits.users": 1,
                    "limits.services": 1,
                    "link.urls": f"ipc://{broker.folder}/other.sock",
                },
            ),
            CONFIGURATION,
            "limits.users",
            "raise limits.users",
            what="too few users",
        )
        broker.start()
        check_equal(len(known_to(broker)), 8, "how many are remembered")


def scene_no_files():
    """A process that gets no more files."""

    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (14, 14))

    with tempfile.TemporaryDirectory(prefix="usher-play-") as folder:
        expect(
            start(os.path.join(folder, "store"), {"threads.io": 8}, preexec_fn=limit),
            RESOURCES,
            "Too many open files",
            "limit of open files",
            what="14 files",
        )


play(
    scene_a_new_store,
    scene_a_store_with_sessions,
    scene_a_write_in_part,
    scene_a_limit_of_file_sizes,
    scene_a_full_disk,
    scene_limits_below_what_is_stored,
    scene_no_files,
    scene_few_threads,
)
