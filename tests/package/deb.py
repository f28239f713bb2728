# SPDX-License-Identifier: Apache-2.0
"""The Debian packages: built, installed, run as the unit would, upgraded, removed, purged.

It happens in a copy of this machine that is thrown away: an overlay of its root in namespaces for
mounts, network and processes. That takes root. systemd is not needed: what the unit says is done by hand
(unit.py lets systemd do it, where that is possible).
`deb.py --keep FOLDER` builds all of them, has lintian judge them and leaves them there: too long for
every run of the tests."""

import glob
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

from packages import (
    BROKER,
    BUILD,
    CONFIG,
    NEW,
    PYTHON,
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

UNIT = "/lib/systemd/system/usher.service"
NOTE = "# kept by the operator\n"
PATIENCE = 60
# Exposure as systemd-analyze counts it, tenths of points of 10. It was 14 when this was written.
EXPOSURE_MAX = 20


# --- in the copy ----------------------------------------------------------------------------------


def enter(folder):
    """An overlay of the root becomes the root; `folder` is seen in it."""
    root, upper = make_overlay(folder)
    for name in ("proc", "sys", "dev"):
        run("mount", "--rbind", f"/{name}", os.path.join(root, name))
    show(root, folder)
    os.mkdir(os.path.join(root, "mnt", "upper"))
    run("mount", "--bind", upper, os.path.join(root, "mnt", "upper"))
    os.chroot(root)
    os.chdir("/")
    run("ip", "link", "set", "lo", "up")


def unit_value(name):
    with open(UNIT, encoding="utf-8") as file:
        return re.search(rf"^{name}=(.*)$", file.read(), re.M).group(1)


class Service:
    """Does what systemd would do with the unit."""

    def __init__(self):
        user = unit_value("User")
        for parent, name, mode in (
            ("/var/lib", "StateDirectory", "StateDirectoryMode"),
            ("/run", "RuntimeDirectory", "RuntimeDirectoryMode"),
        ):
            path = os.path.join(parent, unit_value(name))
            os.makedirs(path, exist_ok=True)
            os.chmod(path, int(unit_value(mode), 8))
            shutil.chown(path, user, unit_value("Group"))
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0usher-package")
        self.socket.settimeout(PATIENCE)
        watchdog = int(unit_value("WatchdogSec")) * 1000000
        self.process = subprocess.Popen(
            [
                "setpriv",
                f"--reuid={user}",
                f"--regid={unit_value('Group')}",
                "--clear-groups",
                "--no-new-privs",
                "--bounding-set=-all",
                "--inh-caps=-all",
                *unit_value("ExecStart").split(),
            ],
            cwd=unit_value("WorkingDirectory"),
            stderr=subprocess.PIPE,
            text=True,
            env={"NOTIFY_SOCKET": "@usher-package", "WATCHDOG_USEC": str(watchdog)},
        )
        self.log = []
        self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr))
        self.reader.start()
        try:
            self.told("READY=1")
        except TimeoutError:
            raise AssertionError(f"not ready: {self.log}") from None

    def told(self, what):
        while what not in self.socket.recv(4096).decode().split("\n"):
            pass

    def stop(self):
        self.process.terminate()
        self.told("STOPPING=1")
        check_equal(self.process.wait(PATIENCE), 0, f"the exit code after {self.log}")
        self.reader.join()
        self.socket.close()


def check_the_unit():
    if not shutil.which("systemd-analyze"):
        print("     systemd-analyze is not installed: the unit is not judged by it")
        return
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", UNIT], text=True, capture_output=True
    )
    complaints = [line for line in said.stderr.splitlines() if "usher" in line]
    check(said.returncode == 0 and not complaints, said.stderr)
    text = run("systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", UNIT)
    print("     " + text.strip().splitlines()[-1].lstrip("→ "))


def sessions():
    text = run("usherctl", "who", env={"PATH": "/usr/bin:/bin"}, cwd="/")
    return {line.split()[0]: line.split()[1] for line in text.splitlines()[1:]}


def check_installed():
    check_equal(run("usherd", "--check-config", "--config", CONFIG), "", "--check-config")
    for page in ("man8/usherd.8.gz", "man5/usherd.yaml.5.gz", "man1/usherctl.1.gz"):
        check(os.path.getsize(f"/usr/share/man/{page}") > 500, page)
    status = os.stat("/var/lib/usher")
    check_equal(oct(status.st_mode & 0o777), "0o700", "the store's folder")
    check(status.st_uid != 0, "the store's owner")


ASK = """\
import asyncio, usher_backend

async def main():
    async with usher_backend.service("shop", link="ipc:///run/usher/link.sock") as shop:
        print(*[session.user async for session in shop.list()])

asyncio.run(main())
"""


def use_it(broker_packages, upgrade):
    install(*broker_packages)
    check_the_unit()
    service = Service()
    check_installed()
    with Client(("127.0.0.1", 7400)) as alice:
        alice.login("alice")
        check_equal(sessions(), {"alice": "online"}, "usherctl finds the service and who is there")
        check_equal(run("/usr/bin/python3", "-c", ASK, cwd="/"), "alice\n", "the Python library")
    eventually(lambda: sessions() == {"alice": "detached"}, "alice's connection is lost", PATIENCE)
    with open(CONFIG, "a", encoding="utf-8") as file:
        file.write(NOTE)

    install(upgrade)
    check(NEW in run("dpkg-query", "-W", "-f", "${Version}", "usher"), "the new version")
    service.stop()
    with open(CONFIG, encoding="utf-8") as file:
        check(NOTE in file.read(), "the operator's line is still there after the upgrade")
    service = Service()
    check_equal(sessions(), {"alice": "detached"}, "the session after the upgrade")
    service.stop()


def left_over():
    """What is in the upper layer and has to do with usher; removed files are devices there."""
    found = []
    for folder, _, names in os.walk("/mnt/upper"):
        for path in [folder] + [os.path.join(folder, name) for name in names]:
            status = os.lstat(path)
            deleted = (status.st_mode & 0o170000) == 0o020000 and status.st_rdev == 0
            if "usher" in path.removeprefix("/mnt/upper") and not deleted:
                found.append(path.removeprefix("/mnt/upper"))
    return sorted(set(found))


def remove_it():
    run("dpkg", "--remove", "usher", "usher-tools", "python3-usher-backend")
    check(os.path.exists(CONFIG), "the configuration outlives the removal")
    check(os.path.exists("/var/lib/usher"), "the store outlives the removal")
    check(not os.path.exists("/usr/sbin/usherd"), "the program is removed")
    run("dpkg", "--purge", "usher", "usher-tools", "python3-usher-backend")
    for path in (CONFIG, "/etc/usher", "/var/lib/usher", "/run/usher"):
        check(not os.path.exists(path), f"{path} outlives the purge")
    check(
        subprocess.run(["getent", "passwd", "usher"], stdout=subprocess.DEVNULL).returncode == 2,
        "the user outlives the purge",
    )


def inside(folder):
    enter(folder)
    before = set(left_over())
    names = ("usher", "usher-tools", "python3-usher-backend")
    packages = [glob.glob(f"{folder}/old/{name}_*.deb")[0] for name in names]
    use_it(packages, glob.glob(f"{folder}/new/usher_*.deb")[0])
    remove_it()
    check_equal(sorted(set(left_over()) - before), [], "what is left over after the purge")
    print("ok   installed, run, upgraded, removed, purged")


# --- outside --------------------------------------------------------------------------------------


def check_with_lintian(packages):
    if not shutil.which("lintian"):
        print("     lintian is not installed: the packages are not judged by it")
        return
    said = subprocess.run(
        ["lintian", "--profile", "debian", "--fail-on", "error,warning", *packages],
        text=True,
        capture_output=True,
    )
    check(said.returncode == 0, f"lintian:\n{said.stdout}")
    print("ok   lintian has no errors or warnings")


def wheel_and_archive(folder):
    """For those who install with pip; tests/python/package_test.py uses them."""
    with tempfile.TemporaryDirectory(prefix="usher-wheel-") as place:
        package = shutil.copytree(f"{BUILD}/clients/python/package", f"{place}/package")
        run("/usr/bin/python3", f"{package}/build.py", "wheel", package)
        for path in glob.glob(f"{place}/usher_backend-*"):
            shutil.copy(path, folder)


def keep_packages(packages, folder):
    names = sorted(os.path.basename(path).partition("_")[0] for path in packages)
    check_equal(
        names,
        [
            "libusher-backend0",
            "libusher-dev",
            "libusher0",
            "python3-usher-backend",
            "usher",
            "usher-doc",
            "usher-tools",
        ],
        "the packages",
    )
    os.makedirs(folder, exist_ok=True)
    for path in packages:
        shutil.copy(path, folder)
    wheel_and_archive(folder)
    check_with_lintian(packages)


def main():
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2])
        return
    if not shutil.which("cpack") or not shutil.which("dpkg-shlibdeps"):
        print("skipped: cpack and dpkg-shlibdeps (dpkg-dev) are needed")
        sys.exit(SKIPPED)
    with tempfile.TemporaryDirectory(prefix="usher-package-") as folder:
        if sys.argv[1:2] == ["--keep"]:
            keep_packages(build_packages(os.path.join(folder, "old")), sys.argv[2])
        else:
            build_packages(os.path.join(folder, "old"), components=BROKER + TOOLS + PYTHON)
        if os.geteuid() != 0 or not namespaces_work():
            print("skipped: an overlay of the root needs root and namespaces")
            sys.exit(SKIPPED)
        build_packages(os.path.join(folder, "new"), NEW, BROKER)
        sys.stdout.flush()
        sys.exit(
            subprocess.run(
                [
                    "unshare",
                    "--mount",
                    "--net",
                    "--pid",
                    "--fork",
                    "--kill-child",
                    sys.executable,
                    "-u",
                    __file__,
                    "--inside",
                    folder,
                ]
            ).returncode
        )


main()
