# SPDX-License-Identifier: Apache-2.0
"""The files that the configuration names, judged once for all: by --check-config, by the start, by a
reload, and by the reload of the unit, which asks first. And what is counted by address, behind a
proxy."""

import base64
import hashlib
import hmac
import json
import os
import re
import subprocess
import tempfile
import time

from usherplay import Client, check, check_equal, free_port, play, program
from usherplay.filebroker import FileBroker
from usherplay.schema import REPOSITORY
from usherplay.tls import Identity

CONFIGURATION = 78
SECRET = b"0123456789abcdef0123456789abcdef"


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def token_of(user):
    text = (
        encoded(b'{"alg":"HS256"}')
        + b"."
        + encoded(json.dumps({"sub": user, "exp": int(time.time()) + 600}).encode())
    )
    return text + b"." + encoded(hmac.new(SECRET, text, hashlib.sha256).digest())


class Files:
    """A folder with files of each kind, good ones and bad ones."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="usher-play-files-")
        self.one, self.two = (Identity(self.folder.name, name) for name in ("one", "two"))
        self.keys = self.write(
            "keys.json",
            json.dumps({"keys": [{"alg": "HS256", "kty": "oct", "k": encoded(SECRET).decode()}]}),
        )
        self.token = self.write("token", "a token that is long enough\n".replace(" ", "-"))
        self.view_token = self.write("view-token", "another-token-for-looking\n")
        self.empty = self.write("empty", "")
        self.short = self.write("short", "abc\n")
        self.missing = os.path.join(self.folder.name, "missing")
        self.pipe = os.path.join(self.folder.name, "pipe")
        os.mkfifo(self.pipe, 0o600)  # nobody writes to it
        self.endless = self.write("endless", "")
        os.truncate(self.endless, 3 << 30)
        self.closed = self.write("closed", "not-for-you-but-long-enough\n")
        os.chmod(self.closed, 0)

    def write(self, name, text):
        path = os.path.join(self.folder.name, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o600)  # for others it would be told
        return path

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.folder.cleanup()

    def tls(self, certificate, key, **more):
        return {
            "listen.tls": f"127.0.0.1:{free_port()}",
            "tls.certificate_file": certificate,
            "tls.key_file": key,
            **more,
        }

    def good(self):
        """Every kind of file, each of them usable."""
        return {
            **self.tls(self.one.certificate, self.one.key),
            "auth.mode": "token",
            "auth.keys_file": self.keys,
            "link.token_file": self.token,
            "admin.listen": "127.0.0.1:0",
            "admin.token_file": self.token,
            "admin.view_token_file": self.view_token,
        }

    def faults(self):
        """{what is wrong: (the options, the option that is to be named)}"""
        found = {
            "no certificate": ({"tls.certificate_file": self.missing}, "tls.certificate_file"),
            "a certificate that is none": (
                {"tls.certificate_file": self.short},
                "tls.certificate_file",
            ),
            "no key": ({"tls.key_file": self.missing}, "tls.key_file"),
            "the key of another certificate": ({"tls.key_file": self.two.key}, "tls.key_file"),
            "no authority of clients": ({"tls.client_ca_file": self.missing}, "tls.client_ca_file"),
            "no key set": ({"auth.keys_file": self.missing}, "auth.keys_file"),
            "a key set that is none": ({"auth.keys_file": self.short}, "auth.keys_file"),
            "no token of the link": ({"link.token_file": self.missing}, "link.token_file"),
            "an empty token of the link": ({"link.token_file": self.empty}, "link.token_file"),
            "no token of the admin endpoint": (
                {"admin.token_file": self.missing},
                "admin.token_file",
            ),
            "a short token of the admin endpoint": (
                {"admin.token_file": self.short},
                "admin.token_file",
            ),
            "one token for looking and for changing": (
                {"admin.view_token_file": self.token},
                "admin.view_token_file",
            ),
            "a short token for looking": (
                {"admin.view_token_file": self.short},
                "admin.view_token_file",
            ),
        }
        for option in (
            "tls.certificate_file",
            "tls.key_file",
            "tls.client_ca_file",
            "auth.keys_file",
            "link.token_file",
            "admin.token_file",
            "admin.view_token_file",
            "recorder.file",
        ):
            found[f"a pipe as {option}"] = ({option: self.pipe}, option)
        for option in ("tls.key_file", "tls.client_ca_file", "auth.keys_file", "link.token_file"):
            found[f"a file without an end as {option}"] = ({option: self.endless}, option)
        found["a group that is not there"] = (
            {"link.socket_group": "nobody-has-this", "link.socket_mode": "0660"},
            "link.socket_group",
        )
        found["the store's folder as the recorder's file"] = (
            {"recorder.file": "/tmp"},
            "recorder.file",
        )
        if os.geteuid() != 0:  # who may read everything
            found["a token that may not be read"] = (
                {"link.token_file": self.closed},
                "link.token_file",
            )
        return found


def run(options, *arguments, folder):
    """usherd to its end; gives its exit code and the lines on stderr."""
    settings = {
        "listen.tcp": f"127.0.0.1:{free_port()}",
        "store.path": os.path.join(folder, "s"),
        "admin.listen": "",
        "log.format": "json",
        **options,
    }
    done = subprocess.run(
        [program("usherd"), *arguments]
        + [part for key, value in settings.items() for part in ("--set", f"{key}={value}")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stderr.splitlines()


def scene_check_and_start_agree():
    """What may be wrong with files: the same line and code of both, and no store is made
    for a start that cannot be."""
    with Files() as files, tempfile.TemporaryDirectory(prefix="usher-play-") as folder:
        check_equal(run(files.good(), "--check-config", folder=folder), (0, []), "good files")
        for what, (options, named) in files.faults().items():
            told = run({**files.good(), **options}, "--check-config", folder=folder)
            started = run({**files.good(), **options}, folder=folder)
            check_equal(told, started, f"{what}: what --check-config and the start say")
            check_equal(told[0], CONFIGURATION, f"{what}: the exit code")
            check(
                len(told[1]) == 1 and told[1][0].startswith(f"configuration: {named}"),
                f"{what}: {told[1]}",
            )
        check(not os.path.exists(os.path.join(folder, "s")), "a store was made")
        code, lines = run({}, "--check-config", "--config", files.pipe, folder=folder)
        check(code == CONFIGURATION and "is a pipe" in lines[0], f"settings from a pipe: {lines}")


def scene_all_at_once():
    """Every fault is told, not only the first one."""
    with Files() as files, tempfile.TemporaryDirectory(prefix="usher-play-") as folder:
        wrong = {
            **files.good(),
            "auth.keys_file": files.missing,
            "link.token_file": files.empty,
            "tls.key_file": files.two.key,
        }
        code, lines = run(wrong, "--check-config", folder=folder)
        check_equal((code, len(lines)), (CONFIGURATION, 3), f"the code and the lines: {lines}")
        # What is not used is not looked at, but that it does nothing is told.
        unused = {
            "tls.certificate_file": files.missing,
            "auth.keys_file": files.missing,
            "admin.token_file": files.missing,
        }
        code, lines = run(unused, "--check-config", folder=folder)
        check_equal(
            (code, sorted(line.split(": ")[:2] for line in lines)),
            (0, [["note", key] for key in sorted(unused)]),
            f"files that are not used: {lines}",
        )
        os.chmod(files.one.key, 0o604)
        lines = run({"tls.key_file": files.one.key}, "--check-config", folder=folder)[1]
        check(
            "tls.key_file: others may read" in lines[0],
            f"a key for a socket that is passed: {lines}",
        )


def as_written(options):
    return {key.replace(".", "__"): value for key, value in options.items()}


def scene_reload_agrees():
    """A reload refuses what a start would refuse, with the same words, and changes nothing."""
    with Files() as files:
        good = files.good()
        with FileBroker(as_written(good)) as broker:
            for what, (options, named) in files.faults().items():
                broker.write(**as_written({**good, **options}), log__level="debug")
                code, lines = broker.reload("--token-file", files.token)
                check_equal((code, len(lines)), (1, 1), f"{what}: code and lines: {lines}")
                check_equal(lines[0]["event"], "reload_refused", f"{what}: the event")
                check(lines[0]["error"].startswith(named), f"{what}: {lines}")
            check_equal(broker.log_events("option_changed"), [], "options that changed")
            broker.write(**as_written(good), log__level="debug")
            check_equal(broker.hup()["event"], "reloaded", "with good files")


def unit_lines(name):
    with open(os.path.join(REPOSITORY, "cmake/package/usher.service"), encoding="utf-8") as file:
        return [line.split() for line in re.findall(rf"^{name}=(.*)$", file.read(), re.M)]


def scene_the_unit_asks_first():
    """What `systemctl reload` does with the unit's lines: one after the other, and none after one that
    fails. So a faulty file fails it, and usherd is not even asked."""
    [start], commands = unit_lines("ExecStart"), unit_lines("ExecReload")
    check_equal(commands[0], [start[0], "--check-config", *start[1:]], "what is asked first")

    def reload(broker):
        for command in commands:
            words = [
                {
                    start[0]: program("usherd"),
                    start[2]: broker.path,
                    "$MAINPID": str(broker.process.pid),
                }.get(word, word)
                for word in command
            ]
            if words[0] == program("usherd"):  # the rest of this broker's options
                words += broker.command()[3:]
            if subprocess.run(words, capture_output=True, timeout=30, check=False).returncode != 0:
                return False
        return True

    with Files() as files:
        good = {"link__token_file": files.token}
        with FileBroker(good) as broker:
            broker.changes = {"link__token_file": files.empty, "log__level": "debug"}
            check(not reload(broker), "a reload of a faulty file succeeded")
            check_equal(broker.log_events("reload_refused"), [], "what usherd was asked")
            broker.changes = {**good, "log__level": "debug"}
            check(reload(broker), "a reload of a good file failed")
            check_equal(broker.wait_log("option_changed")["option"], "log.level", "what changed")


def fail(broker, count):
    """The reasons of so many logins with a bad token."""
    reasons = []
    for _ in range(count):
        with Client(broker) as client:
            client.post("login", username="alice", token=b"bad")
            client.expect("error")
            reasons.append(client.expect("close").close.reason)
    return reasons


def scene_behind_a_proxy():
    """All come from one address: with the settings of the book nobody is kept out by others, and the last
    one of them, when it was forgotten, is told at the start and comes by a reload."""
    with Files() as files:
        options = {
            "auth__mode": "token",
            "auth__keys_file": files.keys,
            "limits__prelogin_per_source": 0,
            "limits__requests_per_second_per_source": 0,
            "limits__logins_per_minute_per_source": 0,
        }
        with FileBroker({**options, "limits__failed_logins_per_source": 3}) as broker:
            odd = broker.wait_log("options_at_odds")
            check_equal(
                (odd["option"], odd["other"]),
                ("limits.prelogin_per_source", "limits.failed_logins_per_source"),
                "odd",
            )
            check_equal(len(set(fail(broker, 4))), 2, "the reasons of 3 and of 1 more")
            with Client(broker) as alice:
                alice.post("login", username="alice", token=token_of("alice"))
                alice.expect_error("RATE_LIMITED")
            broker.write(**options, limits__failed_logins_per_source=0)
            check_equal(broker.hup()["event"], "reloaded", "the reload")
            check_equal(len(broker.log_events("options_at_odds")), 1, "odd pairs told in all")
            check_equal(len(set(fail(broker, 20))), 1, "the reasons without a limit")
            with Client(broker) as alice:
                alice.login("alice", token=token_of("alice"))
                alice.ping()


play(
    scene_check_and_start_agree,
    scene_all_at_once,
    scene_reload_agrees,
    scene_the_unit_asks_first,
    scene_behind_a_proxy,
)
