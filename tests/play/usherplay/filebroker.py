# SPDX-License-Identifier: Apache-2.0
"""An usherd with a configuration file that a play changes while it runs."""

import json
import os
import signal
import subprocess

from usherplay.broker import Broker, program
from usherplay.stage import eventually


class FileBroker(Broker):
    """Takes what is in `changes` (as in `write`) from a file, beside `options`."""

    def __init__(self, changes, options=None, **others):
        self.changes = changes
        super().__init__(options, **others)

    def command(self):
        self.path = os.path.join(self.folder, "usher.yaml")
        self.write(**self.changes)
        for key in self.changes:  # the command line would win
            self.options.pop(key.replace("__", "."), None)
        arguments = super().command()
        return arguments[:1] + ["--config", self.path] + arguments[1:]

    def write(self, **changes):
        """Keyword `a__b` is option a.b. The file is replaced whole."""
        with open(self.path, "w", encoding="utf-8") as file:
            file.write("# not empty, which would be refused\n")
            for key, value in changes.items():
                file.write(f"{key.replace('__', '.')}: {json.dumps(value)}\n")

    def reload(self, *arguments):
        """By usherctl; gives its exit code and its lines."""
        done = subprocess.run(
            [program("usherctl"), "--url", self.link_url, *arguments, "reload"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.reload_errors = done.stderr
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    def hup(self):
        """By signal; gives the event that says how it went."""

        def outcomes():
            with self._changed:
                return [
                    line
                    for line in self.lines
                    if line.get("event") in ("reloaded", "reload_refused")
                ]

        before = len(outcomes())
        self.process.send_signal(signal.SIGHUP)
        eventually(lambda: len(outcomes()) > before or not self.alive(), "the reload", 20)
        self.check_alive()
        return outcomes()[-1]
