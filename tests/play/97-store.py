# SPDX-License-Identifier: Apache-2.0
"""usherctl store: check, dump and backup, of a store that is written to all the while, of one at rest
and of a copy; damage is found; a killed reader harms nobody."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

from usherplay import Broker, Client, ConnectionEnded, check, check_equal, play, program, scaled

DAMAGED, REFUSED = 65, 1
STRANGER = 65534


def store(*arguments):
    done = subprocess.run(
        [program("usherctl"), "store", *arguments], capture_output=True, text=True, timeout=120
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, lines, done.stderr


def good(*arguments):
    code, lines, errors = store(*arguments)
    check_equal((code, errors), (0, ""), f"usherctl store {arguments[0]}")
    return lines


def rows(lines, kind):
    return [line for line in lines if line["row"] == kind]


class Churn(threading.Thread):
    """Logins and logouts without end."""

    def __init__(self, broker):
        super().__init__(daemon=True)
        self.broker = broker
        self.done = threading.Event()
        self.count = 0
        self.failed = None
        self.start()

    def run(self):
        try:
            while not self.done.is_set():
                with Client(self.broker, timeout=60) as client:
                    client.login(f"churn{self.count % 7}")
                    client.ask("logout")
                    client.read_to_end()
                self.count += 1
        except (OSError, ConnectionEnded, AssertionError) as error:
            self.failed = error

    def end(self):
        self.done.set()
        self.join(60)
        check(self.failed is None and self.count > 0, f"the churn failed: {self.failed}")


def fill(broker, count):
    for number in range(count):
        with Client(broker) as client:
            client.login(f"user{number:04}", acks=True, client='a "client"\\')
            client.drop()


def check_events(events):
    check_equal(
        [event["seq"] for event in events],
        list(range(events[0]["seq"], events[0]["seq"] + len(events))),
        "seqs of the dump",
    )


def scene_live():
    """While it is written to: nothing is torn, and the broker goes on. The backup starts a broker."""
    count = scaled(600, 60)
    with Broker() as broker:
        with Client(broker) as client:
            secret = client.login("watched", acks=True).secret
        fill(broker, count)
        churn = Churn(broker)
        try:
            for turn in range(3):
                lines = good("check", broker.store)
                check_equal(
                    (lines[0]["schema"], lines[0]["state"]), ("usher-store-3", "live"), "the head"
                )
                check(lines[-1]["sessions"] >= count, f"{lines[-1]}")
                dump = good("dump", broker.store)
                names = [row["user"] for row in rows(dump, "session")]
                check(
                    names == sorted(names)
                    and len(set(names)) == len(names)
                    and sum(name.startswith("user") for name in names) == count,
                    "names of the dump",
                )
                check_events(rows(dump, "event"))
                check(secret.hex() not in json.dumps(dump), "a secret is in the dump")
                target = os.path.join(broker.folder, f"copy{turn}")
                good("backup", broker.store, target)
                check_equal(
                    os.stat(os.path.join(target, "data.mdb")).st_mode & 0o777,
                    0o600,
                    "rights of the copy",
                )
                lines = good("check", target)
                check_equal(
                    (lines[0]["state"], lines[-1]["structure"]), ("at rest", "good"), "the copy"
                )
            code, _, errors = store("backup", broker.store, target)
            check(code == REFUSED and "already" in errors, f"a second backup there: {errors}")
        finally:
            churn.end()
        print(
            f"     {len(names)} sessions, {churn.count} logins beside it, copy of "
            f"{os.stat(os.path.join(target, 'data.mdb')).st_size} bytes, original "
            f"{lines[0]['file_bytes']}"
        )
        with Broker({"store.path": target}) as copy:
            restored = copy.log_events("restored")
            check(restored[0]["sessions"] >= count, f"restored from the backup: {restored}")


# A reader that dies within its transaction, which the tools hold for a moment only.
DYING_READER = """
import ctypes, os, sys
lmdb = ctypes.CDLL("liblmdb.so.0")
env, txn = ctypes.c_void_p(), ctypes.c_void_p()
READ_ONLY = 0x20000
assert lmdb.mdb_env_create(ctypes.byref(env)) == 0
assert lmdb.mdb_env_open(env, sys.argv[1].encode(), READ_ONLY, 0o600) == 0
assert lmdb.mdb_txn_begin(env, None, READ_ONLY, ctypes.byref(txn)) == 0
os.kill(os.getpid(), 9)
"""


def scene_killed_reader():
    """Readers that are killed in the middle of a read: the broker finds out and uses pages again, so its
    small map does not fill."""
    with Broker({"store.map_bytes": 1 << 20, "store.events_kept": 1024}) as broker:
        fill(broker, 20)
        churn = Churn(broker)
        try:
            for _ in range(3):
                done = subprocess.run(
                    ["/usr/bin/python3", "-c", DYING_READER, broker.store], timeout=60
                )
                check_equal(done.returncode, -signal.SIGKILL, "the reader's end")
            before = churn.count
            while churn.count < before + 300 and churn.is_alive():
                churn.join(0.1)
        finally:
            churn.end()
        check_equal(broker.log_events("store_failed"), [], "failures of the store")


def scene_restore():
    """Not onto a running broker; into the folder of a stopped one, for its owner, and what was there is
    kept. A damaged backup touches nothing."""
    with Broker() as broker:
        with Client(broker) as client:
            client.login("early")
            client.drop()
        backup = os.path.join(broker.folder, "backup")
        good("backup", broker.store, backup)
        with Client(broker) as client:
            client.login("late")
            client.drop()
        code, _, errors = store("restore", backup, broker.store)
        check(code == REFUSED and "stop it" in errors, f"onto a running broker: {code} {errors}")
        fill(broker, 3)
        broker.stop()
        check_equal(broker.log_events("store_failed"), [], "failures of the store")
        damaged = os.path.join(broker.folder, "damaged-backup")
        shutil.copytree(backup, damaged)
        with open(os.path.join(damaged, "data.mdb"), "r+b") as file:
            file.truncate(os.path.getsize(file.name) // 2)
        with open(os.path.join(broker.store, "data.mdb"), "rb") as file:
            before = file.read()
        check_equal(store("restore", damaged, broker.store)[0], DAMAGED, "of a damaged one")
        check_equal(store("check", damaged)[0], DAMAGED, "the check of one that is cut short")
        with open(os.path.join(broker.store, "data.mdb"), "rb") as file:
            check(file.read() == before, "a damaged backup changed the store")
        for command in (("dump",), ("backup", os.path.join(broker.folder, "of-damaged"))):
            code = store(command[0], damaged, *command[1:])[0]
            check_equal(code, DAMAGED, f"{command[0]} of one that is cut short")
        if os.geteuid() == 0:
            os.chmod(broker.folder, 0o711)
            for path in (
                broker.store,
                *(os.path.join(broker.store, name) for name in os.listdir(broker.store)),
            ):
                os.chown(path, STRANGER, STRANGER)
        good("restore", backup, broker.store)
        owner = os.stat(broker.store).st_uid
        for name in ("data.mdb", "usher.lock"):
            status = os.stat(os.path.join(broker.store, name))
            check_equal((status.st_uid, status.st_mode & 0o7777), (owner, 0o600), name)
        with open(os.path.join(broker.store, "data.mdb.before"), "rb") as file:
            check(file.read() == before, "what was there is not kept")
        check_equal(
            [row["user"] for row in rows(good("dump", broker.store), "session")],
            ["early"],
            "the sessions of the backup",
        )
        check_equal(
            os.stat(os.path.join(broker.store, "lock.mdb")).st_uid, owner, "lock.mdb's owner"
        )
        broker.restart()


def scene_root_among_links():
    """Root looks into a folder whose owner has put links there, to a file of root's. The file stays as
    it is and whose it is, whatever is asked for."""
    if os.geteuid() != 0:
        print("     left out: it takes root")
        return
    with Broker() as broker:
        with Client(broker) as client:
            client.login("alice")
            client.drop()
        backup = os.path.join(broker.folder, "backup")
        good("backup", broker.store, backup)
        broker.stop()
        os.chmod(broker.folder, 0o711)
        victim = os.path.join(broker.folder, "victim")
        with open(victim, "w", encoding="ascii") as file:
            file.write("what is root's")
        os.chmod(victim, 0o600)
        before = os.stat(victim)
        names = ("lock.mdb", "usher.lock", "data.mdb.part", "data.mdb.before", "data.mdb")
        for name in names:
            folder = os.path.join(broker.folder, f"with-{name}")
            shutil.copytree(backup, folder, ignore=shutil.ignore_patterns("lock.mdb"))
            if name == "data.mdb":
                os.unlink(os.path.join(folder, name))
            os.symlink(victim, os.path.join(folder, name))
            for path in (folder, *(os.path.join(folder, each) for each in os.listdir(folder))):
                os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
            for command in (
                ("check", folder),
                ("dump", folder),
                ("restore", backup, folder),
                ("backup", folder, f"{folder}-copy"),
                ("check", folder),
            ):
                store(*command)
                after = os.stat(victim)
                with open(victim, encoding="ascii") as file:
                    check_equal(
                        (after.st_uid, after.st_mode, after.st_ctime_ns, file.read()),
                        (0, before.st_mode, before.st_ctime_ns, "what is root's"),
                        f"the file behind {name} after {command[0]}",
                    )
            for each in os.listdir(folder):
                check_equal(
                    os.lstat(os.path.join(folder, each)).st_uid, STRANGER, f"owner of {each}"
                )
        broker.restart()


# --- containers, where processes are numbered apart ------------------------------------------------

NUMBERED = ["unshare", "--pid", "--fork", "--kill-child"]

# It stays in its read until its input ends.
HOLDING_READER = DYING_READER.replace(
    "os.kill(os.getpid(), 9)", "print(os.getpid(), flush=True); sys.stdin.read()"
)


class Contained(Broker):
    """It is number 1 where it runs; `wrapper` waits for it outside."""

    def stop(self, timeout=60):
        if self.alive():
            with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
                os.kill(int(file.read()), signal.SIGTERM)
        return self._wait_end(timeout)


class Holder:
    """Reads the store as process `number` of another container."""

    def __init__(self, folder, number):
        program_text = ["/usr/bin/python3", "-c", HOLDING_READER, folder]
        shell = program_text if number == 1 else ["sh", "-c", '"$@"; true', "sh", *program_text]
        self.process = subprocess.Popen(
            [*NUMBERED, *shell], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        check_equal(self.process.stdout.readline(), f"{number}\n", "the reader's number")

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.process.communicate(timeout=60)


def contained(*arguments):
    """usher-store as number 1 of a container of its own."""
    done = subprocess.run(
        [*NUMBERED, program("usher-store"), *arguments], capture_output=True, text=True, timeout=120
    )
    check_equal((done.returncode, done.stderr), (0, ""), f"usher-store {arguments[0]}, contained")


def scene_containers():
    """A broker and a tool that are both number 1, each in its own: neither takes a good store for a
    damaged one, nor is in the other's way."""
    if subprocess.run([*NUMBERED, "true"], capture_output=True).returncode != 0:
        print("     not tried: no numbers of our own here")
        return
    with Contained(wrapper=NUMBERED) as broker:
        fill(broker, 20)
        for turn in range(3):
            contained("check", broker.store)
            contained("dump", broker.store)
            contained("backup", broker.store, os.path.join(broker.folder, f"copy{turn}"))
        # The next number is somebody's too: it takes the one after.
        with Holder(broker.store, 2):
            contained("check", broker.store)
            fill(broker, 5)
        check_equal(broker.stop(), 0, "the exit code")
        with Holder(broker.store, 1):
            broker.start(wait=False)
            check_equal(broker._wait_end(60), 69, "the exit code beside a reader of that number")
            said = " ".join(broker.raw_lines()[-1:])
            check("another container" in said and "damaged" not in said, said)
        broker.start()
        fill(broker, 5)
        check_equal(broker.log_events("store_failed"), [], "failures of the store")


def scene_reader_that_waits():
    """Somebody looks at the dump in a pager for hours: that is no transaction, so the broker uses freed
    pages again and its small map does not fill. While it reads, it is known in the lock file."""
    with Broker({"store.map_bytes": 1 << 20, "store.events_kept": 4096}) as broker:
        fill(broker, scaled(400, 200))  # more than a pipe holds
        process = subprocess.Popen(
            [program("usher-store"), "dump", broker.store], stdout=subprocess.PIPE
        )
        churn = Churn(broker)
        try:
            process.stdout.read(200)
            opened = {
                os.path.basename(os.readlink(f"/proc/{process.pid}/fd/{fd}"))
                for fd in os.listdir(f"/proc/{process.pid}/fd")
            }
            check("lock.mdb" in opened, f"the reader has open: {opened}")
            while churn.count < 300 and churn.is_alive():
                churn.join(0.1)
            check(process.poll() is None, "the dump did not have to wait")
        finally:
            churn.end()
            process.kill()
            process.wait()
            process.stdout.close()
        check_equal(broker.log_events("store_failed"), [], "failures of the store")


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0xFF]))


def no_backup_of_damaged_records(broker):
    """LMDB copies a flipped bit as it is, and no broker starts on it. So what the check finds in a record,
    a message, a session or an event, a backup and a restore find too; what lies on a free page is in
    nobody's way."""
    data = open(os.path.join(broker.store, "data.mdb"), "rb").read()
    spots = [data.index(b"private words"), *(at.start() for at in re.finditer(b"127.0.0.1:", data))]
    found = [at for at in spots if not backup_of_flipped(broker, data, at)]
    check(spots[0] in found and len(found) > 4, f"found at {found} of {spots}")
    target = os.path.join(broker.folder, "target")
    good("backup", broker.store, target)
    check_equal(os.listdir(target), ["data.mdb"], "in the folder of a backup")


def backup_of_flipped(broker, data, at):
    """Whether there is one; the store is `data`."""
    damaged = os.path.join(broker.folder, "damaged")
    target = os.path.join(broker.folder, "target")
    shutil.copytree(broker.store, damaged)
    flip(os.path.join(damaged, "data.mdb"), at)
    taken = store("check", damaged)[0] == 0
    code, lines, errors = store("backup", damaged, target)
    check_equal(code, 0 if taken else DAMAGED, f"a backup with byte {at} flipped")
    check_equal(os.listdir(target), ["data.mdb"] if taken else [], "left of the backup")
    if not taken:
        check("damaged" in errors and damaged in errors and not lines, f"it says {errors}")
        code, lines, errors = store("restore", damaged, broker.store)
        check_equal((code, lines), (DAMAGED, []), f"a restore with byte {at} flipped")
        check("damaged" in errors, f"it says {errors}")
        after = open(os.path.join(broker.store, "data.mdb"), "rb").read()
        check_equal(after, data, f"the store behind a restore with byte {at} flipped")
        check("data.mdb.before" not in os.listdir(broker.store), "what was there is put aside")
    shutil.rmtree(damaged)
    shutil.rmtree(target)
    return taken


def scene_damage_and_rest():
    """At rest after a stop: the inboxes are there, without their payloads. Each flipped byte of a page
    in use is either found or in nobody's way; never a crash."""
    with Broker() as broker:
        with Client(broker) as client:
            client.login("alice", acks=True)
            client.drop()
        with Client(broker) as bob:
            bob.login("bob")
            bob.send("alice", b"private words")
        broker.stop()
        dump = good("dump", broker.store)
        messages = rows(dump, "message")
        check_equal(
            [(m["user"], m["from"], m["bytes"]) for m in messages],
            [("alice", "bob", len(b"private words"))],
            "saved messages",
        )
        check("private" not in json.dumps(dump), "a payload is in the dump")
        lines = good("check", broker.store)
        check_equal(
            (lines[0]["state"], lines[-1]["structure"], lines[-1]["messages"]),
            ("at rest", "good", 1),
            "the check",
        )
        found = 0
        data = os.path.join(broker.store, "data.mdb")
        size = os.stat(data).st_size
        spots = list(range(8192 + 5, size, max(1, size // scaled(120, 30))))
        spots.append(open(data, "rb").read().index(b"private words"))
        for at in spots:
            copy = os.path.join(broker.folder, "damaged")
            shutil.copytree(broker.store, copy)
            flip(os.path.join(copy, "data.mdb"), at)
            code, _, errors = store("check", copy)
            check(code in (0, DAMAGED), f"exit {code} with byte {at} flipped: {errors}")
            found += code == DAMAGED
            shutil.rmtree(copy)
        check_equal(code, DAMAGED, "a flipped byte of a saved message")
        no_backup_of_damaged_records(broker)
        print(f"     {found} of {len(spots)} flipped bytes were in the way of something, and found")
        code, _, errors = store("check", broker.folder)
        check(code == REFUSED and "no store" in errors, f"a folder without a store: {errors}")
        broker.restart()


def check_spoiled(folder):
    """The value in which a name is not what it was; the rest is read."""
    code, lines, errors = store("check", folder)
    damaged = rows(lines, "damaged")
    check(code == DAMAGED and "log" in errors, f"exit {code} with a damaged value: {errors}")
    check_equal([(row["part"], row["value"]) for row in damaged], [("log", 1)], "what is named")


def scene_log():
    """The log of stored messages is counted and listed, without what they say. A damaged value of it is
    named; a backup holds it as it is, and a broker starts on it."""
    with Broker() as broker:
        broker.stop()
        folder, target = (os.path.join(broker.folder, name) for name in ("logged", "copy"))
        writer = [program("usher-log-writer"), "weigh", folder, "16", "640"]
        check_equal(subprocess.run(writer, stdout=subprocess.DEVNULL).returncode, 0, "the writer")
        lines = good("check", folder)
        check_equal(lines[-1]["log_entries"], 640, "entries of the log")
        check_equal(lines[-1]["log_values"], lines[0]["log_values"], "values of the log")
        dump = rows(good("dump", folder), "stored")
        check_equal(
            [(row["kind"], row["from"], row["bytes"]) for row in dump],
            [("kept", "player-000001", 128)] * 640,
            "what is stored",
        )
        check_equal(dump[4]["user"], "player-009595", "for whom")
        data = os.path.join(folder, "data.mdb")
        with open(data, "rb") as file:
            content = file.read()
        with open(data, "wb") as file:
            file.write(content.replace(b"player-009595", b"player-009596"))
        check_spoiled(folder)
        good("backup", folder, target)
        check_spoiled(target)
        with Broker({"store.path": target}) as other, Client(other) as client:
            client.login("alice")


# A store as a program of another version left it: that version in meta, and before version 3 no log, of
# version 1 no inboxes either.
CHANGE_VERSION = """
import ctypes, sys
lmdb = ctypes.CDLL("liblmdb.so.0")
lmdb.mdb_txn_begin.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p]
class Value(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("data", ctypes.c_char_p)]
def value(text):
    return ctypes.byref(Value(len(text), text))
env, txn, meta, part = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_uint(), ctypes.c_uint()
folder, version = [word.encode() for word in sys.argv[1:]]
assert lmdb.mdb_env_create(ctypes.byref(env)) == 0
assert lmdb.mdb_env_set_maxdbs(env, 4) == 0
assert lmdb.mdb_env_open(env, folder, 0, 0o600) == 0
assert lmdb.mdb_txn_begin(env, None, 0, ctypes.byref(txn)) == 0
assert lmdb.mdb_dbi_open(txn, b"meta", 0, ctypes.byref(meta)) == 0
assert lmdb.mdb_put(txn, meta, value(b"schema"), value(version), 0) == 0
for name in {b"1": (b"inboxes", b"log"), b"2": (b"log",)}.get(version[-1:], ()):
    assert lmdb.mdb_dbi_open(txn, name, 0, ctypes.byref(part)) == 0
    assert lmdb.mdb_drop(txn, part, 1) == 0
assert lmdb.mdb_txn_commit(txn) == 0
lmdb.mdb_env_close(env)
"""


def change_version(folder, version):
    done = subprocess.run(
        ["/usr/bin/python3", "-c", CHANGE_VERSION, folder, version],
        capture_output=True,
        text=True,
        timeout=60,
    )
    check_equal(done.returncode, 0, f"changing the version: {done.stderr}")


def schema_of(folder):
    return good("check", folder)[0]["schema"]


def scene_upgrade():
    for version in 1, 2:
        upgrade_from(f"usher-store-{version}")


def upgrade_from(version):
    """A store of a version before is looked at as it is, upgraded at the start and announced once;
    its sessions resume and can have a saved inbox. One of a version to come is left alone."""
    with Broker() as broker:
        with Client(broker) as client:
            welcome = client.login("alice", acks=True)
            client.drop()
        broker.kill()
        change_version(broker.store, version)
        check_equal(schema_of(broker.store), version, "what the tools say")
        broker.restart()
        check_equal(
            [event["from"] for event in broker.log_events("store_upgraded")],
            [version],
            "what was announced",
        )
        with Client(broker) as client:
            check_equal(client.resume(welcome, 0, name="alice").epoch, welcome.epoch, "the epoch")
            client.drop()
        with Client(broker) as bob:
            bob.login("bob")
            bob.send("alice", b"kept")
        broker.stop()
        check_equal(schema_of(broker.store), "usher-store-3", "what the tools say afterwards")
        broker.restart()
        check_equal(broker.log_events("store_upgraded"), [], "an upgrade of today's version")
        with Client(broker) as client:
            client.resume(welcome, 0, name="alice")
            check_equal(client.expect("message").message.payload, b"kept", "the saved message")
        broker.stop()
        change_version(broker.store, "usher-store-9")
        data = os.path.join(broker.store, "data.mdb")
        with open(data, "rb") as file:
            before = file.read()
        done = subprocess.run(broker.command(), capture_output=True, text=True, timeout=60)
        check(
            done.returncode == DAMAGED and "another version" in done.stderr,
            f"exit {done.returncode} with a version to come: {done.stderr[-500:]}",
        )
        with open(data, "rb") as file:
            check(file.read() == before, "a store of another version was changed")


def scene_old_backup():
    """A store from an old backup: whoever logged in since then has an epoch that is not given again,
    to him or to others."""
    with Broker() as broker:
        with Client(broker) as alice:
            alice.login("alice")
        broker.stop()
        backup = broker.store + ".backup"
        shutil.copytree(broker.store, backup)
        broker.restart()
        since = []
        for number in range(20):
            with Client(broker) as client:
                since.append(client.login(f"user{number}").epoch)
        broker.kill()
        shutil.rmtree(broker.store)
        os.rename(backup, broker.store)
        time.sleep(1.1)  # the floor of epochs rises by the second
        broker.restart()
        for number in range(20):
            with Client(broker) as client:
                epoch = client.login(f"user{number}").epoch
                check(epoch > since[-1], f"epoch {epoch} after {since[-1]}")


play(
    scene_live,
    scene_killed_reader,
    scene_restore,
    scene_root_among_links,
    scene_containers,
    scene_reader_that_waits,
    scene_damage_and_rest,
    scene_log,
    scene_upgrade,
    scene_old_backup,
)
