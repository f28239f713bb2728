# SPDX-License-Identifier: Apache-2.0
"""Tokens of seconds and a session of minutes: usher --token-file reads the file again for each login,
so that an outage longer than the resume window, and a token that has expired meanwhile, are not the
end."""

import json
import os
import subprocess
import tempfile
import threading
import time

from usherplay import Broker, check_equal, eventually, play, program

TTL_SECONDS = 4


class Keys:
    """A key set of a broker's, and tokens that are signed with it."""

    def __init__(self, folder):
        self.private = os.path.join(folder, "private.json")
        self.public = os.path.join(folder, "public.json")
        self.token = os.path.join(folder, "token")
        self._token_program("keygen", "--out", self.private)
        self._token_program("public", "--keys", self.private, "--out", self.public)

    @staticmethod
    def _token_program(*arguments):
        return subprocess.run(
            [program("usher-token"), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        ).stdout

    def write(self, user, ttl):
        """A new token in the place of the old one, whole from the first moment on."""
        text = self._token_program("sign", "--keys", self.private, "--sub", user, "--ttl", str(ttl))
        with open(self.token + ".new", "w", encoding="ascii") as file:
            file.write(text)
        os.rename(self.token + ".new", self.token)
        return text.strip()

    def broker(self):
        return Broker({"auth.mode": "token", "auth.keys_file": self.public, "auth.skew_ms": 0})


class Listener:
    def __init__(self, broker, *arguments):
        self.process = subprocess.Popen(
            [
                program("usher"),
                "listen",
                "--user",
                "bob",
                "--port",
                str(broker.port),
                "--json",
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.events = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.process.kill()
        self.process.wait()


def welcomes(listener):
    return [event for event in list(listener.events) if event["event"] == "WELCOME"]


def outage(broker, meanwhile):
    """The broker is away for longer than a token is good, and what it knew of sessions is gone."""
    broker.kill()
    time.sleep(TTL_SECONDS + 1)
    for name in os.listdir(broker.store):
        os.unlink(os.path.join(broker.store, name))
    meanwhile()
    broker.restart()


def scene_a_token_file_is_read_again():
    with tempfile.TemporaryDirectory(prefix="usher-play-") as folder:
        keys = Keys(folder)
        with keys.broker() as broker:
            keys.write("bob", TTL_SECONDS)
            with Listener(broker, "--token-file", keys.token) as listener:
                eventually(lambda: welcomes(listener), "the first WELCOME")
                outage(broker, lambda: keys.write("bob", 60))
                eventually(lambda: len(welcomes(listener)) == 2, "the second WELCOME", 30)
                check_equal(welcomes(listener)[1]["replay"], "FRESH", "the second login")
                check_equal(len(broker.log_events("login_refused")), 0, "refusals")


def scene_a_token_on_the_command_line_is_what_it_is():
    with tempfile.TemporaryDirectory(prefix="usher-play-") as folder:
        keys = Keys(folder)
        with keys.broker() as broker:
            token = keys.write("bob", TTL_SECONDS)
            with Listener(broker, "--token", token) as listener:
                eventually(lambda: welcomes(listener), "the first WELCOME")
                outage(broker, lambda: None)
                check_equal(listener.process.wait(30), 1, "exit code of usher, its token expired")
                broker.wait_log("login_refused")
                check_equal(len(broker.log_events("login_refused")), 1, "tries with it")


if __name__ == "__main__":
    play(scene_a_token_file_is_read_again, scene_a_token_on_the_command_line_is_what_it_is)
