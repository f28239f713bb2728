# SPDX-License-Identifier: Apache-2.0
"""The image for containers: made twice and the same, set up as cmake/Containerfile says, and run in namespaces
where that can be done.

`image.py --keep FOLDER` leaves it there."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

from packages import SKIPPED, namespaces_work, run
from tarball import check_used, made
from usherplay import check, check_equal
from usherplay.schema import REPOSITORY

OPEN = ["--set", "auth.allow_open_network=true"]


def blob(layout, descriptor):
    with open(f"{layout}/blobs/{descriptor['digest'].replace(':', '/')}", encoding="utf-8") as file:
        return json.load(file)


def recipe():
    """What the other image is, by cmake/Containerfile: its last stage."""
    with open(f"{REPOSITORY}/cmake/Containerfile", encoding="utf-8") as file:
        text = re.sub(r"\\\n", " ", file.read()).split("\nFROM ")[-1]
    said = dict(re.findall(r"^(VOLUME|WORKDIR|ENV|EXPOSE|STOPSIGNAL|ENTRYPOINT) (.*)$", text, re.M))
    user = re.search(r"useradd --system --uid (\d+)", text).group(1)
    return said | {"ENTRYPOINT": json.loads(said["ENTRYPOINT"]), "USER": f"{user}:{user}"}


def check_config(layout):
    with open(f"{layout}/index.json", encoding="utf-8") as file:
        index = json.load(file)
    check_equal(len(index["manifests"]), 1, "images")
    manifest = blob(layout, index["manifests"][0])
    check_equal(len(manifest["layers"]), 1, "layers")
    whole = blob(layout, manifest["config"])
    config, wanted = whole["config"], recipe()
    check_equal(config["Entrypoint"], wanted["ENTRYPOINT"], "the entrypoint")
    check_equal(list(config["Volumes"]), [wanted["VOLUME"]], "the volume")
    check_equal(config["WorkingDir"], wanted["WORKDIR"], "the folder")
    check_equal(config["StopSignal"], wanted["STOPSIGNAL"], "the signal")
    check_equal(list(config["ExposedPorts"]), [f"{wanted['EXPOSE']}/tcp"], "the port")
    check(wanted["ENV"] in config["Env"], f"{wanted['ENV']} in {config['Env']}")
    check_equal(config["User"], wanted["USER"], "who runs in it")
    check_equal(whole["os"], "linux", "the system")
    return index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"]


# --- it runs --------------------------------------------------------------------------------------


class Container:
    """What a container is, without anybody's manager: that root, that user, those variables, in namespaces."""

    def __init__(self, bundle):
        with open(f"{bundle}/config.json", encoding="utf-8") as file:
            self.process = json.load(file)["process"]
        self.root = f"{bundle}/rootfs"
        for name in ("proc", "dev"):
            os.makedirs(f"{self.root}/{name}", exist_ok=True)
            run("mount", "--rbind", f"/{name}", f"{self.root}/{name}")

    def command(self, *command):
        user = self.process["user"]
        return [
            "/usr/sbin/chroot",
            f"--userspec={user['uid']}:{user['gid']}",
            self.root,
            f"/usr/local/bin/{command[0]}",
            *command[1:],
        ]

    def run(self, *command):
        return run(*self.command(*command))


def inside(bundle):
    run("ip", "link", "set", "lo", "up")
    container = Container(bundle)
    os.environ.clear()
    os.environ.update(pair.split("=", 1) for pair in container.process["env"])
    program, *options = container.process["args"]
    check_used(container, program, "usher", ["usherctl"], *options, *OPEN)
    container.run("usher-store", "check", "/var/lib/usher")
    print("ok   the image runs, is asked, and stops in order")


def runs(folder, layout, version):
    bundle = f"{folder}/bundle"
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    run("umoci", "unpack", *rootless, "--image", f"{layout}:{version}", bundle)
    if os.geteuid() != 0 or not namespaces_work():
        print("     the image was not run: that takes root and namespaces")
        return SKIPPED
    sys.stdout.flush()
    spaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
    return subprocess.run(
        [*spaces, sys.executable, "-u", __file__, "--inside", bundle], check=False
    ).returncode


def main():
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2])
        return 0
    for name in ("umoci", "patchelf"):
        if not shutil.which(name):
            print(f"skipped: there is no {name} here")
            return SKIPPED
    with tempfile.TemporaryDirectory(prefix="usher-image-") as folder:
        made("tarball", folder)
        path = made("image", folder)
        if sys.argv[1:2] == ["--keep"]:
            shutil.copy(path, sys.argv[2])
        layout = f"{folder}/layout"
        with tarfile.open(path) as archive:
            archive.extractall(layout)
        version = check_config(layout)
        print(f"     {os.path.basename(path)}: {os.path.getsize(path) / 1e6:.1f} MB")
        return runs(folder, layout, version)


sys.exit(main())
