# SPDX-License-Identifier: Apache-2.0
"""What a developer gets: installed libraries, found by pkg-config, that build and run programs."""

import glob
import gzip
import os
import re
import subprocess
import tempfile

from usherplay import Broker, check, check_equal, eventually, play
from usherplay.broker import free_port
from usherplay.schema import BIN

SANITIZED = (
    b"__asan_init" in open(os.path.join(BIN, "usherd"), "rb").read()
    or b"__tsan_init" in open(os.path.join(BIN, "usherd"), "rb").read()
)

CLIENT = r"""
#include <stdio.h>
#include <usher.h>

int main(int argc, char **argv)
{
    struct usher_options options;
    struct usher_client *client;
    struct usher_event event;
    (void)argc;
    usher_options_init(&options);
    options.url = argv[1];
    options.username = "installed";
    if (usher_client_create(&options, &client) != 0 || usher_login(client, 3000, &event) != 0)
        return 1;
    puts("logged in");
    usher_client_destroy(client);
    return 0;
}
"""

SERVICE = r"""
#include <stdio.h>
#include <usher_backend.h>

int main(void)
{
    const struct usher_backend_watch_list list = {.user = "ann", .mode = USHER_BACKEND_WATCH_SET};
    const char *url = usher_backend_default_url();
    struct usher_backend_options options = {.urls = &url, .url_count = 1, .service = "people"};
    struct usher_backend *backend;
    if (usher_backend_open(&backend, &options) != 0 ||
        usher_backend_watch_list(backend, &list, 1) != 0 ||
        usher_backend_grant(backend, (struct usher_backend_call_id){1, 1}, NULL, 0) != 0)
        return 1;
    usher_backend_close(backend);
    puts(url);
    return 0;
}
"""


def install(prefix):
    subprocess.run(
        ["cmake", "--install", os.path.dirname(BIN), "--prefix", prefix],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def built(prefix, name, text, package):
    source, output = os.path.join(prefix, name + ".c"), os.path.join(prefix, name)
    with open(source, "w") as file:
        file.write(text)
    environment = dict(os.environ, PKG_CONFIG_PATH=os.path.join(prefix, "lib", "pkgconfig"))
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", package],
        check=True,
        text=True,
        capture_output=True,
        env=environment,
    ).stdout.split()
    subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", source, "-o", output, *flags], check=True)
    return output


def run(prefix, *command):
    environment = dict(os.environ, LD_LIBRARY_PATH=os.path.join(prefix, "lib"))
    return subprocess.run(command, text=True, capture_output=True, env=environment, timeout=20)


def scene_client_library():
    place = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as prefix, Broker({"listen.ws": place}) as broker:
        install(prefix)
        program = built(prefix, "client", CLIENT, "usher")
        for url in (f"tcp://127.0.0.1:{broker.port}", f"ws://{place}/usher"):
            result = run(prefix, program, url)
            check_equal((result.returncode, result.stdout), (0, "logged in\n"), f"by {url}")
        eventually(lambda: broker.log_events("takeover"), "both logins in the log")


def scene_backend_library():
    with tempfile.TemporaryDirectory() as prefix:
        install(prefix)
        program = built(prefix, "service", SERVICE, "usher-backend")
        result = run(prefix, program)
        check(result.returncode == 0 and result.stdout.startswith("ipc://"), result)


def built_example(prefix, how):
    """The project of docs/example, which knows the prefix and not this tree."""
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/example")
    folder = os.path.join(prefix, "example-" + how)
    environment = dict(os.environ, PKG_CONFIG_PATH=os.path.join(prefix, "lib", "pkgconfig"))
    os.mkdir(folder)
    if how == "cmake":
        commands = [
            [
                "cmake",
                "-S",
                source,
                "-B",
                folder,
                f"-DCMAKE_PREFIX_PATH={prefix}",
                "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror",
            ],
            ["cmake", "--build", folder],
        ]
    else:
        commands = [
            ["make", "-f", os.path.join(source, "Makefile"), "CFLAGS=-Werror", f"VPATH={source}"]
        ]
    for command in commands:
        result = subprocess.run(
            command, cwd=folder, env=environment, text=True, capture_output=True
        )
        check_equal(result.returncode, 0, f"{command}: {result.stdout}{result.stderr}")
    return folder


def scene_example():
    with tempfile.TemporaryDirectory() as prefix, Broker() as broker:
        install(prefix)
        folders = [built_example(prefix, how) for how in ("cmake", "make")]
        environment = dict(os.environ, LD_LIBRARY_PATH=os.path.join(prefix, "lib"))
        services = [
            subprocess.Popen(
                [os.path.join(folder, "dice_service"), broker.link_url], env=environment
            )
            for folder in folders
        ]
        try:
            broker.wait_log("link_hello", 20, count=len(services))
            for folder in folders:
                roll = os.path.join(folder, "dice_roll")
                result = run(prefix, roll, "alice", "6", str(broker.port))
                check(re.fullmatch(r"alice rolled [1-6] of 6\n", result.stdout), result)
                result = run(prefix, roll, "alice", "1", str(broker.port))
                check_equal((result.returncode, result.stdout), (1, "2 to 1000 sides\n"), "refused")
        finally:
            for service in services:
                service.terminate()
            check_equal([service.wait(20) for service in services], [0, 0], "the exit codes")


# --- programs, pages, completion -------------------------------------------------------------------


def offered(prefix, name, *words):
    """What completion offers behind these words; the last one is incomplete."""
    script = os.path.join(prefix, "share/bash-completion/completions", name)
    text = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); "_${1//-/_}"; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    result = run(prefix, "bash", "-c", text, "bash", script, name, *words)
    check_equal((result.returncode, result.stderr), (0, ""), f"completion of {name}")
    return result.stdout.split()


def check_completion(prefix, name, help_text):
    """Every word of --help that looks like an option, and every command that begins a line."""
    for option in set(re.findall(r"--[a-z]+(?:-[a-z]+)*", help_text)):
        check(option in offered(prefix, name, option[:-1]), f"{name} {option} is not completed")
    commands = {
        "usherctl": r"^  ([a-z][a-z-]+)(?: .*)?$(?=\n {8}\S)",
        "usher": r"^(?:usage:)? +usher ([a-z]+) ",
        "usher-bench": r"^  ([a-z][a-z-]+) +\S",
        "usher-token": r"^(?:usage:)? +usher-token ([a-z]+) ",
        "usher-store": r"^(?:Usage:)? +usher-store ([a-z]+) ",
    }
    found = re.findall(commands[name], help_text, re.M) if name in commands else []
    check(len(found) >= 3 or name not in commands, f"{name} has commands: {found}")
    check(set(found) <= set(offered(prefix, name, "")), f"{name}: {found} are not all completed")


def scene_installed_programs():
    with tempfile.TemporaryDirectory() as prefix:
        install(prefix)
        programs = sorted(glob.glob(os.path.join(prefix, "*bin", "*")))
        check_equal(
            [os.path.basename(path) for path in programs],
            [
                "usher",
                "usher-bench",
                "usher-echo",
                "usher-store",
                "usher-token",
                "usherctl",
                "usherd",
            ],
            "what is installed",
        )
        for path in programs:
            name = os.path.basename(path)
            result = run(prefix, path, "--help")
            check_equal(result.returncode, 0, f"{name} --help")
            help_text = result.stdout.partition("\nOptions:\n  listen.")[0]
            check_completion(prefix, name, help_text)
            (page,) = glob.glob(os.path.join(prefix, "share/man/man[18]", name + ".[18].gz"))
            with gzip.open(page, "rt") as file:
                text = file.read()
            missing = [
                line
                for line in help_text.splitlines()
                if line.strip().replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
                not in text
            ]
            check_equal(missing, [], f"lines of {name} --help that its page has not")
        check_every_option(prefix)


def check_every_option(prefix):
    defaults = run(prefix, os.path.join(prefix, "sbin/usherd"), "--print-config").stdout
    group, keys = "", []
    for line in defaults.splitlines():
        if match := re.match(r"( *)([a-z_.]+):", line):
            group = group if match.group(1) else match.group(2)
            keys += [f"{group}.{match.group(2)}"] if match.group(1) else []
    check(len(keys) > 50, f"options: {keys}")
    with gzip.open(os.path.join(prefix, "share/man/man5/usherd.yaml.5.gz"), "rt") as file:
        described = re.findall(r"^\.B (\S+\.\S+)$", file.read(), re.M)
    check_equal(described, keys, "the options in usherd.yaml(5)")
    check_equal(
        offered(prefix, "usherd", "--set", ""),
        [f"{key}=" for key in keys],
        "the options that are completed",
    )


if SANITIZED:
    print("     a sanitizer build is not installed; the other presets run this play")
    play()
else:
    play(scene_client_library, scene_backend_library, scene_example, scene_installed_programs)
