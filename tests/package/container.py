# SPDX-License-Identifier: Apache-2.0
"""The container recipe, as far as that goes without building it: what it copies is there, what it
installs is what the build needs and the program links, and its command line is a valid one."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

from usherplay import Broker, check, check_equal, program

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
# What an operator needs in it: `usherctl store backup` starts usher-store.
PROGRAMS = ("usherd", "usherctl", "usher-store")


def main():
    with open(os.path.join(ROOT, "cmake/Containerfile"), encoding="utf-8") as file:
        text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", file.read(), flags=re.M))
    stages = text.split("\nFROM ")[1:]
    check_equal(len(stages), 2, "stages")
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", stages[0], re.M):
        for name in line.split():
            check(os.path.exists(os.path.join(ROOT, name)), f"COPY of {name}, which is not there")
    copied = set(re.findall(r"^COPY --from=build (\S+)", stages[1], re.M))
    check_equal(
        copied,
        {f"/source/build/release/bin/{name}" for name in PROGRAMS},
        "what is taken from the build",
    )
    installed = [
        set(re.search(r"--no-install-recommends (.*?)(?: &&|\n)", stage).group(1).split())
        for stage in stages
    ]
    with open(os.path.join(ROOT, "dev"), encoding="utf-8") as file:
        wanted = set(re.search(r"^broker=\((.*?)\)", file.read(), re.M | re.S).group(1).split())
    check(wanted <= installed[0], f"the build needs {wanted - installed[0]}")
    check_configures(stages[0])
    check_libraries(installed[1])
    user = re.search(r"^USER (\S+)$", stages[1], re.M)
    check(user and user.group(1) not in ("root", "0"), "it runs as somebody else than root")
    check_health(re.search(r"^HEALTHCHECK .*? CMD (.*)$", stages[1], re.M).group(1))
    command = json.loads(re.search(r"^ENTRYPOINT (.*)$", stages[1], re.M).group(1))
    check_command(command)
    print("ok   the recipe fits this tree; it was not built")


def check_configures(stage):
    """What is copied is enough, without the programs that the recipe does not install."""
    with tempfile.TemporaryDirectory() as folder:
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", stage, re.M):
            for name in line.split():
                copy = shutil.copytree if os.path.isdir(os.path.join(ROOT, name)) else shutil.copy
                copy(os.path.join(ROOT, name), os.path.join(folder, name))
        words = re.search(r"(cmake --preset release.*?) &&", stage).group(1).split()
        without = [f"-D{name}=OFF" for name in ("PROTOC", "TSC", "ESBUILD")]
        done = subprocess.run([*words, *without], cwd=folder, text=True, capture_output=True)
        check(done.returncode == 0, f"in the container: {done.stderr}")


def check_libraries(installed):
    names = subprocess.run(["dpkg-query", "--search"] + linked(), text=True, capture_output=True)
    packages = {line.partition(":")[0] for line in names.stdout.splitlines()}
    packages = {name for name in packages if not name.startswith("libc6")}
    check(packages == installed, f"linked {packages}, installed {installed}")


def linked():
    """By name below /lib or /usr/lib, as the package's list of files has it."""
    found = set()
    for name in PROGRAMS:
        text = subprocess.run(
            ["readelf", "-d", program(name)], text=True, check=True, capture_output=True
        ).stdout
        found |= set(re.findall(r"\(NEEDED\).*\[(.*)\]", text))
    return [f"*/{name}" for name in sorted(found)]


def check_health(command):
    """Well is who answers, with a token for the link or without, and nobody else."""

    def is_well(url):
        path = os.path.dirname(program("usherctl")) + os.pathsep + os.environ["PATH"]
        return (
            subprocess.run(
                ["sh", "-c", command],
                stderr=subprocess.DEVNULL,
                timeout=60,
                env={**os.environ, "PATH": path, "USHER_LINK": url},
            ).returncode
            == 0
        )

    with tempfile.NamedTemporaryFile("w") as token:
        token.write("what the link asks for\n")
        token.flush()
        for options in ({}, {"link.token_file": token.name}):
            with Broker(options) as broker:
                check(is_well(broker.link_url), f"a broker with {options} is not well")
            check(not is_well(broker.link_url), "a broker that has ended is well")


def check_command(command):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as keys:  # it is read
        json.dump({"keys": [{"alg": "HS256", "kty": "oct", "k": "A" * 43}]}, keys)
        keys.flush()
        valid = [
            program(command[0]),
            *command[1:],
            "--set",
            "auth.mode=token",
            "--set",
            f"auth.keys_file={keys.name}",
            "--check-config",
        ]
        check_equal(subprocess.run(valid).returncode, 0, "--check-config with keys")
    alone = subprocess.run(
        [program(command[0]), *command[1:], "--check-config"], text=True, capture_output=True
    )
    check(alone.returncode == 78 and "auth.mode" in alone.stderr, f"open to all: {alone}")


sys.exit(main())
