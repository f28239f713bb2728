# SPDX-License-Identifier: Apache-2.0
"""A service manager, as far as plays are one: it hears what it is told, and passes sockets."""

import os
import socket
import subprocess
import tempfile
import threading

from usherplay.broker import Broker
from usherplay.stage import eventually

PATIENCE = 60.0


class Manager:
    """A socket for notifications, and what came to it: [{name: value}]."""

    def __init__(self, abstract=False):
        self.folder = tempfile.TemporaryDirectory()
        path = os.path.join(self.folder.name, "notify")
        self.address = f"@{path}" if abstract else path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.address.replace("@", "\0", 1))
        self.came = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while True:
            text = self.socket.recv(4096).decode()
            self.came.append(dict(line.split("=", 1) for line in text.split("\n")))

    def wait(self, name, value="1", after=0):
        """Waits for the first such message from number `after` on; gives its number."""

        def found():
            for number, message in enumerate(self.came[after:], after):
                if message.get(name) == value:
                    return number + 1
            return 0

        return eventually(found, f"{name}={value} after {self.came[-5:]}", PATIENCE) - 1


def listening(address=("127.0.0.1", 0), family=socket.AF_INET, listens=True):
    stream = socket.socket(family, socket.SOCK_STREAM)
    stream.bind(address)
    if listens:
        stream.listen()
    return stream


class PassingBroker(Broker):
    """Popen closes everything above 2 otherwise."""

    def start(self, wait=True):
        real = subprocess.Popen
        try:
            subprocess.Popen = lambda *a, **k: real(*a, **{**k, "close_fds": False})
            return super().start(wait)
        finally:
            subprocess.Popen = real


def activated(sockets, names=None, options=(), listen_pid=None, wait=True, manager=None, kind=None):
    """A broker that is given these sockets as descriptors 3 and on."""
    moves = " ".join(f"{number}<&{stream.fileno()}" for number, stream in enumerate(sockets, 3))
    for stream in sockets:
        os.set_inheritable(stream.fileno(), True)
    text = f'exec {moves}; LISTEN_PID={listen_pid or "$$"} exec "$@"'
    environment = {"LISTEN_FDS": str(len(sockets))}
    if names is not None:
        environment["LISTEN_FDNAMES"] = ":".join(names)
    if manager is not None:
        environment["NOTIFY_SOCKET"] = manager.address
    return (kind or PassingBroker)(
        dict(options), environment=environment, wait=wait, wrapper=["/bin/bash", "-c", text, "bash"]
    )
