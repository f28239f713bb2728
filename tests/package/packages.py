# SPDX-License-Identifier: Apache-2.0
"""What the tests of the packages share: building them, and an overlay of this machine's root."""

import glob
import os
import shutil
import subprocess
import tempfile

from usherplay import check

BUILD = os.path.dirname(os.environ.get("USHER_BIN", "build/release/bin"))
CONFIG = "/etc/usher/usherd.yaml"
NEW = "9.9.9"
BROKER, TOOLS = ["broker", "system"], ["tools", "tools_papers"]
PYTHON = ["python", "python_papers"]
SKIPPED = 77


def run(*command, **options):
    done = subprocess.run(command, text=True, capture_output=True, **options)
    check(
        done.returncode == 0,
        f"{' '.join(command)}: {done.returncode}\n{done.stdout}\n" f"{done.stderr}",
    )
    return done.stdout


def build_packages(folder, version=None, components=None):
    command = [
        "cpack",
        "--config",
        os.path.join(BUILD, "CPackConfig.cmake"),
        "-B",
        folder,
        "-D",
        f"CPACK_OUTPUT_FILE_PREFIX={folder}",
    ]
    if version:
        command += ["-D", f"CPACK_PACKAGE_VERSION={version}"]
    if components:
        command += ["-D", f"CPACK_COMPONENTS_ALL={';'.join(components)}"]
    run(*command)
    shutil.rmtree(os.path.join(folder, "_CPack_Packages"), ignore_errors=True)
    return sorted(glob.glob(os.path.join(folder, "*.deb")))


def install(*packages):
    run("dpkg", "--force-unsafe-io", "--install", *packages)


def make_overlay(folder):
    """Gives the root that is to be, and where what is changed in it can be found."""
    layers = os.path.join(folder, "layers")
    os.mkdir(layers)
    run("mount", "-t", "tmpfs", "tmpfs", layers)
    places = {name: os.path.join(layers, name) for name in ("upper", "work", "root")}
    for place in places.values():
        os.mkdir(place)
    run(
        "mount",
        "-t",
        "overlay",
        "overlay",
        "-o",
        f"lowerdir=/,upperdir={places['upper']},workdir={places['work']}",
        places["root"],
    )
    return places["root"], places["upper"]


def show(root, folder):
    """`folder` is seen below that root by the same name."""
    os.makedirs(root + folder, exist_ok=True)
    run("mount", "--bind", folder, root + folder)


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
            ).returncode
            == 0
        )
