# SPDX-License-Identifier: Apache-2.0
"""What a developer gets: installed libraries, found by pkg-config, that build and run programs."""

import os
import subprocess
import tempfile

from usherplay import Broker, check, check_equal, eventually, play
from usherplay.schema import BIN

SANITIZED = b"__asan_init" in open(os.path.join(BIN, "usherd"), "rb").read() or \
    b"__tsan_init" in open(os.path.join(BIN, "usherd"), "rb").read()

CLIENT = r"""
#include <stdio.h>
#include <stdlib.h>
#include <usher.h>

int main(int argc, char **argv)
{
    struct usher_options options;
    struct usher_client *client;
    struct usher_event event;
    (void)argc;
    usher_options_init(&options);
    options.host = "127.0.0.1";
    options.port = (uint16_t)atoi(argv[1]);
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
    puts(usher_backend_default_url());
    return 0;
}
"""


def install(prefix):
    subprocess.run(["cmake", "--install", os.path.dirname(BIN), "--prefix", prefix],
                   check=True, stdout=subprocess.DEVNULL)


def built(prefix, name, text, package):
    source, output = os.path.join(prefix, name + ".c"), os.path.join(prefix, name)
    with open(source, "w") as file:
        file.write(text)
    environment = dict(os.environ, PKG_CONFIG_PATH=os.path.join(prefix, "lib", "pkgconfig"))
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", package], check=True, text=True,
                           capture_output=True, env=environment).stdout.split()
    subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", source, "-o", output, *flags],
                   check=True)
    return output


def run(prefix, *command):
    environment = dict(os.environ, LD_LIBRARY_PATH=os.path.join(prefix, "lib"))
    return subprocess.run(command, text=True, capture_output=True, env=environment, timeout=20)


def scene_client_library():
    with tempfile.TemporaryDirectory() as prefix, Broker() as broker:
        install(prefix)
        program = built(prefix, "client", CLIENT, "usher")
        result = run(prefix, program, str(broker.port))
        check_equal((result.returncode, result.stdout), (0, "logged in\n"), "the client")
        eventually(lambda: broker.log_events("login"), "the login in the log")


def scene_backend_library():
    with tempfile.TemporaryDirectory() as prefix:
        install(prefix)
        program = built(prefix, "service", SERVICE, "usher-backend")
        result = run(prefix, program)
        check(result.returncode == 0 and result.stdout.startswith("ipc://"), result)


def scene_installed_programs():
    with tempfile.TemporaryDirectory() as prefix:
        install(prefix)
        for name in ("sbin/usherd", "bin/usher", "bin/usherctl", "bin/usher-echo"):
            result = run(prefix, os.path.join(prefix, name), "--help")
            check_equal(result.returncode, 0, f"{name} --help")


if SANITIZED:
    print("     a sanitizer build is not installed; the other presets run this play")
    play()
else:
    play(scene_client_library, scene_backend_library, scene_installed_programs)
