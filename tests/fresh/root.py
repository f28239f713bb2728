# SPDX-License-Identifier: Apache-2.0
"""Roots of Debian as it comes: made by debootstrap, from where apt fetches its packages here, and kept in
build/roots with what was downloaded into them. A test works in an overlay of one, in namespaces for mounts
and processes, which are thrown away with it. That takes root."""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

REPOSITORY = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
ROOTS = os.path.join(REPOSITORY, "build", "roots")
SKIPPED = 77
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}


class Missing(Exception):
    """Why it cannot be tried here."""


def run(*command, **options):
    done = subprocess.run(command, text=True, capture_output=True, check=False, **options)
    if done.returncode != 0:
        raise AssertionError(
            f"{' '.join(command)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
    return done.stdout


# --- namespaces and overlays ----------------------------------------------------------------------


def make_overlay(folder, lower="/"):
    """Gives the root that is to be, and where what is changed in it can be found."""
    layers = os.path.join(folder, "layers")
    os.mkdir(layers)
    run("mount", "-t", "tmpfs", "tmpfs", layers)
    places = {name: os.path.join(layers, name) for name in ("upper", "work", "root")}
    for place in places.values():
        os.mkdir(place)
    options = f"lowerdir={lower},upperdir={places['upper']},workdir={places['work']}"
    run("mount", "-t", "overlay", "overlay", "-o", options, places["root"])
    return places["root"], places["upper"]


def show(root, folder, name=None):
    """`folder` is seen below that root by the same name, or by another."""
    place = root + (name or folder)
    os.makedirs(place, exist_ok=True)
    run("mount", "--bind", folder, place)


def namespaces_work():
    probe = (
        "mount -t tmpfs tmpfs $1 && mkdir $1/u $1/w $1/r && "
        "mount -t overlay o -o lowerdir=/,upperdir=$1/u,workdir=$1/w $1/r"
    )
    with tempfile.TemporaryDirectory() as folder:
        return (
            subprocess.run(
                ["unshare", "--mount", "--net", "--pid", "--fork", "sh", "-c", probe, "sh", folder],
                capture_output=True,
                check=False,
            ).returncode
            == 0
        )


# --- the roots that are kept ----------------------------------------------------------------------


def sources():
    """(address, suite, is it of security) of each that apt has of Debian's."""
    text = run(
        "apt-get",
        "indextargets",
        "--format",
        "$(REPO_URI) $(CODENAME) $(LABEL)",
        "Identifier: Packages",
        "Origin: Debian",
    )
    return [line.split() for line in text.splitlines()]


def lines_of(suite):
    """sources.list for that suite, of the addresses that are used here."""
    found = {}
    for address, _, label in sources():
        found.setdefault("-security" if "Security" in label else "", address)
    if "" not in found:
        raise Missing("apt has no address of Debian's here")
    lines = [f"deb {found['']} {suite} main", f"deb {found['']} {suite}-updates main"]
    if "-security" in found:
        lines.append(f"deb {found['-security']} {suite}-security main")
    return found[""], "".join(f"{line}\n" for line in lines)


def bootstrap(suite, place):
    address, lines = lines_of(suite)
    for left in (f"{place}.new", f"{place}.old"):
        shutil.rmtree(left, ignore_errors=True)
    print(f"     debootstrap {suite} from {address}", flush=True)
    done = subprocess.run(
        ["debootstrap", "--variant=minbase", suite, f"{place}.new", address],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        shutil.rmtree(f"{place}.new", ignore_errors=True)
        raise Missing(f"debootstrap of {suite}: {' '.join(done.stdout.splitlines()[-1:])}")
    with open(f"{place}.new/etc/apt/sources.list", "w", encoding="utf-8") as file:
        file.write(lines)
    # As this machine reaches the packages, so does that root.
    with open(f"{place}.new/etc/apt/apt.conf.d/as-here", "w", encoding="utf-8") as file:
        file.write(run("apt-config", "dump", "Acquire::http", "Acquire::https"))
    for name in ("resolv.conf", "hosts"):
        with contextlib.suppress(OSError):
            shutil.copyfile(f"/etc/{name}", f"{place}.new/etc/{name}")
    os.rename(f"{place}.new", place)


def kept_root(suite):
    """The path of that root, made when it is not there. It says why when it cannot be had."""
    if os.geteuid() != 0:
        raise Missing("a root of its own takes root")
    for name in ("debootstrap", "unshare", "chroot", "git"):
        if not shutil.which(name):
            raise Missing(f"there is no {name} here")
    if not namespaces_work():
        raise Missing("namespaces or overlays are not to be had here")
    os.makedirs(archives(suite), exist_ok=True)
    place = os.path.join(ROOTS, suite)
    with open(f"{place}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.isdir(place):
            bootstrap(suite, place)
    return place


# --- in an overlay of one -------------------------------------------------------------------------


def archives(suite):
    """What apt has fetched, for each release by itself: apt holds a lock on it while it installs."""
    return os.path.join(ROOTS, "archives", suite)


class Root:
    """Of the namespaces that we are in. The clone is at /usher; what apt fetches outlives it."""

    def __init__(self, folder, suite):
        self.path, _ = make_overlay(folder, os.path.join(ROOTS, suite))
        run("mount", "-t", "proc", "proc", f"{self.path}/proc")
        for name in ("sys", "dev"):
            run("mount", "--rbind", f"/{name}", f"{self.path}/{name}")
        show(self.path, os.path.join(folder, "usher"), "/usher")
        show(self.path, archives(suite), "/var/cache/apt/archives")
        # Debian's containers keep nothing of what they have fetched; this one does, for the next time.
        with contextlib.suppress(OSError):
            os.unlink(f"{self.path}/etc/apt/apt.conf.d/docker-clean")

    def check_mirror(self):
        """Says so when nothing can be fetched: then nothing can be tried."""
        command = self.command("apt-get", "-qq", "-o", "APT::Update::Error-Mode=any", "update")
        done = subprocess.run(command, text=True, capture_output=True, env=ENVIRONMENT, check=False)
        if done.returncode != 0:
            raise Missing(f"apt fetches nothing here: {' '.join(done.stderr.splitlines()[:1])}")

    def command(self, *command):
        return ["chroot", self.path, "env", "-C", "/usher", *command]

    def start(self, *command, **variables):
        return subprocess.Popen(
            self.command(*command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=ENVIRONMENT | variables,
        )

    def run(self, *command):
        return run(*self.command(*command), env=ENVIRONMENT)

    def installed(self):
        text = self.run("dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Package}\n")
        return {line[3:].strip() for line in text.splitlines() if line.startswith("ii")}

    def kilobytes(self, names):
        """What these packages take on the disk."""
        text = self.run("dpkg-query", "-W", "-f", "${Installed-Size}\n", *sorted(names))
        return sum(int(word) for word in text.split())

    def unpacking_began(self):
        """When apt had all that it wanted, by the clock; None when it installed nothing."""
        path = f"{self.path}/var/log/apt/history.log"
        if not os.path.exists(path):
            return None
        with open(path, encoding="utf-8") as file:
            dates = re.findall(r"^Start-Date: (\S+)  (\S+)$", file.read(), re.M)
        return time.mktime(time.strptime(" ".join(dates[-1]), "%Y-%m-%d %H:%M:%S"))


def clone(folder):
    """What is committed, as anybody gets it."""
    if not os.path.exists(os.path.join(REPOSITORY, ".git")):
        raise Missing("these sources are not a clone")
    run("git", "clone", "--quiet", "--no-local", REPOSITORY, os.path.join(folder, "usher"))


def main(file, suite, inside):
    """Runs file again, for `inside`, in namespaces of its own."""
    try:
        if sys.argv[1:2] == ["--inside"]:
            root = Root(sys.argv[2], suite)
            root.check_mirror()
            inside(root)
            return 0
        with tempfile.TemporaryDirectory(prefix="usher-fresh-") as folder:
            kept_root(suite)
            clone(folder)
            sys.stdout.flush()
            spaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
            again = [sys.executable, "-u", file, "--inside", folder]
            environment = os.environ | {"TZ": "UTC"}
            return subprocess.run([*spaces, *again], env=environment, check=False).returncode
    except Missing as missing:
        print(f"skipped: {missing}")
        return SKIPPED
