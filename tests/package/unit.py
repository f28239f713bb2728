# SPDX-License-Identifier: Apache-2.0
"""The packaged unit and maintainer scripts under a real systemd, which is the first process of a copy
of this machine that is thrown away: an overlay of its root in namespaces. That takes root and the right
to make control groups; where they are not to be had it is skipped.

PrivateDevices= is the one setting that is left out, since nobody may make devices in such a copy."""

import contextlib
import glob
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

from packages import (
    BROKER,
    CONFIG,
    NEW,
    SKIPPED,
    TOOLS,
    build_packages,
    install,
    make_overlay,
    namespaces_work,
    run,
    show,
)
from usherplay import Client, check, check_equal, eventually
from usherplay.successor import Loop
from usherplay.upgrading import talk

SYSTEMD = "/lib/systemd/systemd"
HOME = "/sys/fs/cgroup/systemd" if os.path.isdir("/sys/fs/cgroup/systemd") else "/sys/fs/cgroup"
SPACES = ["--mount", "--pid", "--cgroup", "--uts", "--ipc", "--net"]
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "container": "lxc"}
# They belong to the machine, take long, or would empty /tmp, where all of this may stand.
OTHERS = [
    "systemd-resolved",
    "systemd-networkd",
    "systemd-timesyncd",
    "systemd-udevd",
    "systemd-udev-trigger",
    "systemd-logind",
    "cron",
    "ssh",
    "systemd-tmpfiles-setup",
    "systemd-tmpfiles-clean",
]
DROP_IN = "/etc/systemd/system/usher.service.d/copy.conf"
WANTED = "/etc/systemd/system/sockets.target.wants/usher.socket"
LATE = "192.0.2.5"
PATIENCE = 60


# --- in front of systemd --------------------------------------------------------------------------


def boot(folder):
    """Becomes the systemd of the copy. Runs in namespaces of its own, as their first process."""
    root, _ = make_overlay(folder)
    run("mount", "-t", "proc", "proc", f"{root}/proc")
    run("mount", "--rbind", "/sys", f"{root}/sys")
    run("mount", "-t", "tmpfs", "tmpfs", f"{root}/dev")
    run("mount", "-t", "tmpfs", "tmpfs", f"{root}/run")
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        make_device(root, name, f"/dev/{name}")
    make_device(root, "console", os.path.join(folder, "console"))
    os.mkdir(f"{root}/dev/shm")
    os.symlink("/proc/self/fd", f"{root}/dev/fd")
    show(root, folder)
    with contextlib.suppress(FileNotFoundError):
        os.remove(f"{root}/usr/sbin/policy-rc.d")  # "start nothing", as images have it
    units = f"{root}/etc/systemd/system"
    shutil.copy(f"{root}/lib/systemd/system/basic.target", f"{units}/default.target")
    for name in OTHERS:
        with contextlib.suppress(FileExistsError):
            os.symlink("/dev/null", f"{units}/{name}.service")
    run("ip", "link", "set", "lo", "up")
    os.chdir(root)
    os.mkdir("old")
    run("pivot_root", ".", "old")
    os.chroot(".")
    run("umount", "--lazy", "/old")
    os.execve(
        SYSTEMD, [SYSTEMD, "--system", "--log-target=console", "--show-status=false"], ENVIRONMENT
    )


def make_device(root, name, source):
    path = os.path.join(root, "dev", name)
    for place in (path, source):
        if not os.path.exists(place):
            with open(place, "xb"):
                pass
    run("mount", "--bind", source, path)


# --- in the copy ----------------------------------------------------------------------------------


def unit(*command):
    """systemctl; gives its exit code."""
    return subprocess.run(["systemctl", *command], capture_output=True).returncode


def shown(name):
    return run("systemctl", "show", "usher", "--property", name, "--value").strip()


def is_active():
    return unit("is-active", "--quiet", "usher") == 0


def becomes_active(why):
    eventually(
        is_active,
        f"the service is {shown('ActiveState')}, {shown('StatusText')!r}: {why}",
        PATIENCE,
    )


def drop_in(text=""):
    os.makedirs(os.path.dirname(DROP_IN), exist_ok=True)
    with open(DROP_IN, "w", encoding="ascii") as file:
        file.write(f"[Service]\nPrivateDevices=no\n{text}")
    check_equal(unit("daemon-reload"), 0, "daemon-reload")


def arguments(text):
    return f"ExecStart=\nExecStart=/usr/sbin/usherd --config {CONFIG} {text}\n"


def log_in(name):
    with Client(("127.0.0.1", 7400)) as client:
        client.login(name)


def sessions():
    text = run("usherctl", "who")
    return {line.split()[0] for line in text.splitlines()[1:]}


def numbers():
    with urllib.request.urlopen("http://127.0.0.1:7480/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in lines
        if not line.startswith("#")
    }


def it_runs_under_its_hardening():
    becomes_active("after the first installation")
    log_in("alice")
    check_equal(sessions(), {"alice"}, "who is there, by the link")
    age = time.time() - numbers()["process_start_time_seconds"]
    check(-2 < age < PATIENCE, f"by its metrics it started {age:.0f} s ago")
    for path, mode in (("/var/lib/usher", 0o700), ("/run/usher", 0o750)):
        check_equal(oct(os.stat(path).st_mode & 0o777), oct(mode), path)
    for path in glob.glob("/var/lib/usher/*") + glob.glob("/run/usher/*"):
        # The link is for the group too, and nothing else is.
        others = 0o007 if path == "/run/usher/link.sock" else 0o077
        check_equal(os.stat(path).st_mode & others, 0, f"rights of others at {path}")


def a_refused_reload_is_told():
    with open(CONFIG, encoding="ascii") as file:
        good = file.read()
    with open(CONFIG, "a", encoding="ascii") as file:
        file.write("limits.colour: red\n")
    unit("kill", "--signal", "HUP", "--kill-who", "main", "usher")
    eventually(lambda: "limits.colour" in shown("StatusText"), shown("StatusText"), PATIENCE)
    with open(CONFIG, "w", encoding="ascii") as file:
        file.write(good)
    check_equal(unit("reload", "usher"), 0, "a reload of a good file")
    eventually(lambda: "refused" not in shown("StatusText"), shown("StatusText"), PATIENCE)


def a_mount_of_its_folder_outlives_it():
    """As a container of a service has it."""
    os.makedirs("/seen")
    run("mount", "--bind", "/run/usher", "/seen")
    for how in (("restart",), ("stop", "start")):
        for word in how:
            check_equal(unit(word, "usher"), 0, word)
        run("usherctl", "count", env={**os.environ, "USHER_LINK": "ipc:///seen/link.sock"})
    run("umount", "/seen")


def it_tries_again_for_as_long_as_it_takes():
    """An address that comes after more quick starts than systemd allows by itself."""
    drop_in(
        "RestartSec=100ms\n"
        + arguments(
            f"--set listen.wait_ms=0 --set listen.tcp={LATE}:7400 "
            "--set auth.allow_open_network=true"
        )
    )
    unit("restart", "--no-block", "usher")
    eventually(lambda: int(shown("NRestarts")) > 7, shown("NRestarts"), PATIENCE)
    run("ip", "address", "add", f"{LATE}/32", "dev", "lo")
    becomes_active("its address is there")
    run("ip", "address", "delete", f"{LATE}/32", "dev", "lo")
    drop_in(arguments("--set listen.colour=red"))
    unit("restart", "--no-block", "usher")
    eventually(lambda: shown("ActiveState") == "failed", shown("ActiveState"), PATIENCE)
    check_equal(shown("ExecMainStatus"), "78", "of what time does not mend it is told at once")
    drop_in()
    check_equal(unit("restart", "usher"), 0, "a restart")


def an_upgrade_keeps_it_as_it_was(folder):
    new = glob.glob(f"{folder}/new/usher_*.deb")[0]
    check_equal(unit("stop", "usher"), 0, "a stop")
    install(new)
    check(not is_active(), "who had stopped it has to start it")
    check_equal(unit("start", "usher"), 0, "a start")
    before = shown("MainPID")
    with open(CONFIG, "a", encoding="ascii") as file:
        file.write("process.upgrade_program: /bin/false\n")
    check_equal(unit("restart", "usher"), 0, "a restart")
    install(new)  # that says no: it is started anew
    becomes_active("after an upgrade")
    check(shown("MainPID") != before, "the old program still runs")
    check_equal(sessions(), {"alice"}, "who is there after an upgrade")
    with open(CONFIG, encoding="ascii") as file:
        lines = file.read().replace("process.upgrade_program: /bin/false\n", "")
    with open(CONFIG, "w", encoding="ascii") as file:
        file.write(lines)
    check_equal(unit("restart", "usher"), 0, "a restart")


def an_upgrade_under_load_is_no_end_for_anybody(packages):
    """From one build to another and back, beside players who talk: no connection ends."""
    clients = []
    for number in range(100):
        clients.append(Client(("127.0.0.1", 7400)))
        clients[-1].login(f"player{number}", acks=True)
    loops = [Loop(talk(clients[2 * pair], clients[2 * pair + 1])) for pair in range(4)]
    for package in packages:
        before, starts = shown("MainPID"), shown("NRestarts")
        install(package)
        after = shown("MainPID")
        check(after != before, "the old program still runs")
        check(is_active(), f"it is {shown('ActiveState')}")
        check_equal(shown("NRestarts"), starts, "restarts")
        for client in clients[8:]:
            client.ping()
        check(os.readlink(f"/proc/{after}/exe") == "/usr/sbin/usherd", f"{after} is it")
    print(f"     {[loop.end() for loop in loops]} messages beside {len(packages)} of them")
    # The manager goes by the new process.
    check_equal(unit("reload", "usher"), 0, "a reload")
    for client in clients[8:]:
        client.ping()
    time.sleep(1)
    check(is_active(), f"it is {shown('ActiveState')}")
    for client in clients:
        client.post("logout")
        client.close()


def it_comes_back_after_a_removal(packages):
    run("dpkg", "--remove", "usher")
    check(not is_active(), "it runs, removed")
    install(*packages)
    becomes_active("removed and installed again")
    check_equal(unit("is-enabled", "--quiet", "usher"), 0, "is-enabled")
    check_equal(sessions(), {"alice"}, "who is there")


def with_its_socket(packages):
    """Enabled by the operator: a removal keeps that, a purge does not; the folder is a mount."""
    check_equal(unit("enable", "usher.socket"), 0, "enable")
    unit("stop", "usher")
    check_equal(unit("start", "usher.socket"), 0, "the socket")
    log_in("bob")
    run("dpkg", "--remove", "usher")
    install(*packages)
    becomes_active("removed and installed again")
    check_equal(unit("is-active", "--quiet", "usher.socket"), 0, "the socket is back too")
    log_in("bob")
    unit("stop", "usher.socket", "usher")
    os.rename("/var/lib/usher", "/var/lib/kept")
    os.mkdir("/var/lib/usher")
    run("mount", "-t", "tmpfs", "tmpfs", "/var/lib/usher")
    check_equal(unit("start", "usher"), 0, "a start in a folder that is a mount")
    run("dpkg", "--purge", "usher", "usher-tools")
    check_equal(os.listdir("/var/lib/usher"), [], "what the purge left in the mount")
    check(not os.path.lexists(WANTED), f"{WANTED} outlives the purge")
    check(not os.path.exists("/run/usher"), "/run/usher outlives the purge")


def inside(folder):
    old = [glob.glob(f"{folder}/old/{name}_*.deb")[0] for name in ("usher", "usher-tools")]
    drop_in()
    install(*old)
    for scene, given in (
        (it_runs_under_its_hardening, ()),
        (a_refused_reload_is_told, ()),
        (a_mount_of_its_folder_outlives_it, ()),
        (it_tries_again_for_as_long_as_it_takes, ()),
        (an_upgrade_keeps_it_as_it_was, (folder,)),
        (
            an_upgrade_under_load_is_no_end_for_anybody,
            ([old[0], glob.glob(f"{folder}/new/usher_*.deb")[0]],),
        ),
        (it_comes_back_after_a_removal, (old,)),
        (with_its_socket, (old,)),
    ):
        began = time.monotonic()
        scene(*given)
        print(f"ok   {scene.__name__} ({time.monotonic() - began:.1f} s)")


# --- outside --------------------------------------------------------------------------------------


class Copy:
    """Boots it, and ends it with all that runs there. `first` is None where that cannot be done."""

    def __init__(self, folder):
        self.folder, self.first = folder, None
        self.group = os.path.join(HOME, f"usher-package-{os.getpid()}")
        self.outer = None

    def __enter__(self):
        try:
            os.mkdir(self.group)
        except OSError:
            return self
        join = f'echo $$ >"{self.group}/cgroup.procs"; exec "$@"'
        with open(os.path.join(self.folder, "boot"), "wb") as said:
            self.outer = subprocess.Popen(
                [
                    "sh",
                    "-c",
                    join,
                    "sh",
                    "setsid",
                    "unshare",
                    *SPACES,
                    "--fork",
                    "--kill-child",
                    "--propagation",
                    "private",
                    sys.executable,
                    "-u",
                    __file__,
                    "--boot",
                    self.folder,
                ],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        with contextlib.suppress(AssertionError):
            eventually(self._has_booted, "systemd runs", PATIENCE / 3, pause=0.2)
        return self

    def _has_booted(self):
        check(self.outer.poll() is None, "it ended")
        with open(
            f"/proc/{self.outer.pid}/task/{self.outer.pid}/children", encoding="ascii"
        ) as file:
            children = file.read().split()
        if not children:
            return False
        state = subprocess.run(
            self.command(children[0], "systemctl", "is-system-running"),
            text=True,
            capture_output=True,
        ).stdout.strip()
        if state in ("running", "degraded"):
            self.first = children[0]
        return self.first is not None

    def command(self, first, *command):
        return ["nsenter", "--target", first, *SPACES, *command]

    def run(self):
        wanted = {
            name: os.environ[name] for name in ("PYTHONPATH", "USHER_BIN") if name in os.environ
        }
        return subprocess.run(
            self.command(self.first, sys.executable, "-u", __file__, "--inside", self.folder),
            env={**ENVIRONMENT, **wanted, "PYTHONDONTWRITEBYTECODE": "1"},
        ).returncode

    def __exit__(self, kind, value, trace):
        if self.outer is not None:
            if self.first is not None:
                os.kill(int(self.first), signal.SIGKILL)
            elif self.outer.poll() is None:
                self.outer.kill()
            self.outer.wait()
            remove_groups(self.group)


def remove_groups(group):
    """Those who were in it may take a moment to be gone."""

    def gone():
        for path, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)
        return not os.path.exists(group)

    with contextlib.suppress(AssertionError):
        eventually(gone, "its control groups are removed", 5)


def main():
    if sys.argv[1:2] == ["--boot"]:
        boot(sys.argv[2])
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2])
        return
    for name in ("cpack", "dpkg-shlibdeps", "nsenter", "pivot_root", SYSTEMD):
        if not shutil.which(name):
            print(f"skipped: there is no {name} here")
            sys.exit(SKIPPED)
    if os.geteuid() != 0 or not namespaces_work():
        print("skipped: an overlay of the root needs root and namespaces")
        sys.exit(SKIPPED)
    with tempfile.TemporaryDirectory(prefix="usher-package-") as folder, Copy(folder) as copy:
        if copy.first is None:
            with open(os.path.join(folder, "boot"), encoding="utf-8", errors="replace") as file:
                print(f"skipped: systemd does not run in a copy of this machine:\n{file.read()}")
            sys.exit(SKIPPED)
        build_packages(os.path.join(folder, "old"), components=BROKER + TOOLS)
        build_packages(os.path.join(folder, "new"), NEW, BROKER)
        sys.stdout.flush()
        sys.exit(copy.run())


main()
