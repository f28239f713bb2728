# SPDX-License-Identifier: Apache-2.0
"""The archive for any Linux: made twice and the same, and run on a minimal Debian that has none of the libraries
that the programs want, by somebody without rights.

`tarball.py --keep FOLDER` leaves it there."""

import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile

from packages import BUILD, SKIPPED, run
from root import Missing, kept_root, make_overlay
from usherplay import check, check_equal
from usherplay.schema import REPOSITORY

MAKE = os.path.join(REPOSITORY, "cmake", "package", "archive.py")
PROGRAMS = {
    "usherd",
    "usher",
    "usherctl",
    "usher-store",
    "usher-echo",
    "usher-token",
    "usher-bench",
}
SHARED = {
    "share/usher/usherd.yaml",
    "share/usher/usher.service",
    "share/usher/usher.socket",
    "share/usher/grafana.json",
    "share/usher/alerts.yaml",
    "share/man/man8/usherd.8.gz",
    "share/doc/usher/CHANGELOG.md",
    "share/doc/usher/openapi.json",
    "share/doc/usher/libraries/VERSIONS",
    "LICENSE",
    "README.md",
}
# What glibc is made of.
OF_THE_MACHINE = re.compile(
    r"linux-vdso\.so\.1|ld-linux[-\w]*\.so[.\d]*|lib(c|m|pthread|dl|rt|resolv|gcc_s)\.so[.\d]*"
)
NOBODY = "65534:65534"


def made(kind, folder):
    """The path of what archive.py makes there, and whether it makes the same again."""
    environment = {"SOURCE_DATE_EPOCH": "1764547200"} | os.environ
    texts = []
    for _ in range(2):
        run("/usr/bin/python3", MAKE, kind, BUILD, folder, env=environment)
        path = max(glob.glob(f"{folder}/usher-*"), key=os.path.getmtime)
        with open(path, "rb") as file:
            texts.append(file.read())
    check(texts[0] == texts[1], f"{path} is another one each time")
    return path


def check_contents(path):
    with tarfile.open(path) as archive:
        members = archive.getmembers()
    top = members[0].name
    names = {member.name.removeprefix(f"{top}/") for member in members if member.isfile()}
    for member in members:
        check(member.name.split("/")[0] == top, f"{member.name} is beside {top}")
        check_equal((member.uid, member.gid), (0, 0), f"the owner of {member.name}")
    programs = {name.removeprefix("bin/") for name in names if name.startswith("bin/")}
    check_equal(programs, PROGRAMS, "programs")
    check(SHARED <= names, f"missing: {SHARED - names}")
    libraries = [name for name in names if name.startswith("lib/usher/")]
    check(libraries, "no libraries")
    for name in libraries:
        check(not OF_THE_MACHINE.fullmatch(os.path.basename(name)), f"{name} is the machine's")
    print(
        f"     {os.path.basename(path)}: {os.path.getsize(path) / 1e6:.1f} MB, {len(libraries)} libraries"
    )
    return top


class Minimal:
    """A minimal Debian with the archive in /opt."""

    def __init__(self, folder, archive):
        self.root, _ = make_overlay(folder, kept_root("bookworm"))
        for name in ("proc", "sys", "dev"):
            run("mount", "--rbind", f"/{name}", f"{self.root}/{name}")
        with tarfile.open(archive) as opened:
            opened.extractall(f"{self.root}/opt")

    def command(self, *command):
        return ["chroot", f"--userspec={NOBODY}", self.root, "env", "-i", "HOME=/tmp", *command]

    def run(self, *command):
        return run(*self.command(*command))


def check_libraries(place, top):
    """Each is found, ours in the archive and the machine's on the machine."""
    for program in sorted(PROGRAMS):
        text = place.run("/lib64/ld-linux-x86-64.so.2", "--list", f"/opt/{top}/bin/{program}")
        for line in text.splitlines():
            name = os.path.basename(line.split()[0])
            inside = f"/opt/{top}/bin/../lib/usher/" in line
            check(inside or OF_THE_MACHINE.fullmatch(name), f"{program} takes {line.strip()}")


def check_used(place, program, usher, usherctl, *options):
    """Starts usherd there, sends a message through it, asks it, and stops it."""
    command = place.command(program, *options)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as broker:
        try:
            log = []
            while not log or not re.search(r" ready |\"ready\"", log[-1]):
                log.append(broker.stderr.readline())
                check(log[-1], f"usherd said {''.join(log)}")
            place.run(usher, "send", "--user", "ann", "--to", "ann", "hello")
            place.run(*usherctl, "count")
            broker.send_signal(signal.SIGTERM)
            broker.stderr.read()
            check_equal(broker.wait(60), 0, "usherd's end")
        finally:
            broker.kill()


def use(place, top):
    programs, data = f"/opt/{top}/bin", "/tmp/usher-data"
    url = f"ipc://{data}/link.sock"
    check_used(
        place,
        f"{programs}/usherd",
        f"{programs}/usher",
        [f"{programs}/usherctl", "--url", url],
        "--set",
        f"store.path={data}",
        "--set",
        f"link.urls={url}",
    )


def inside(folder, archive):
    top = check_contents(archive)
    place = Minimal(folder, archive)
    check_libraries(place, top)
    run("ip", "link", "set", "lo", "up")
    use(place, top)
    print("ok   the archive: made twice, unpacked on a minimal Debian, used")


def main():
    if sys.argv[1:2] == ["--inside"]:
        inside(*sys.argv[2:])
        return 0
    if not shutil.which("patchelf"):
        print("skipped: there is no patchelf here")
        return SKIPPED
    with tempfile.TemporaryDirectory(prefix="usher-tarball-") as folder:
        archive = made("tarball", folder)
        if sys.argv[1:2] == ["--keep"]:
            shutil.copy(archive, sys.argv[2])
        try:
            kept_root("bookworm")
        except Missing as missing:
            print(f"skipped: {missing}")
            return SKIPPED
        sys.stdout.flush()
        spaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
        again = [sys.executable, "-u", __file__, "--inside", folder, archive]
        return subprocess.run([*spaces, *again]).returncode


if __name__ == "__main__":
    sys.exit(main())
