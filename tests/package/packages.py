# SPDX-License-Identifier: Apache-2.0
"""What the tests of the packages share: building them, and an overlay of this machine's root."""

import glob
import os
import shutil
import subprocess
import sys

from usherplay import check

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fresh"))
from root import SKIPPED, make_overlay, namespaces_work, show  # noqa: E402, F401

BUILD = os.path.dirname(os.environ.get("USHER_BIN", "build/release/bin"))
CONFIG = "/etc/usher/usherd.yaml"
NEW = "9.9.9"
BROKER, TOOLS = ["broker", "system"], ["tools", "tools_papers"]
PYTHON = ["python", "python_papers"]


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
