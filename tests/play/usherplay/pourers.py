# SPDX-License-Identifier: Apache-2.0
"""Clients whose frames never end."""

import socket
import time

from usherplay.client import frame_bytes, logged_in


class Pourers:
    """Logged in, each with a Send of that many bytes that it says all but the end of."""

    def __init__(self, broker, count, size):
        self.clients = logged_in(broker, [f"pourer{number}" for number in range(count)])
        self.frames = []
        for client in self.clients:
            self.frames.append(
                frame_bytes(client.request("send", to="nobody", payload=b"p" * size))
            )
            client.socket.setblocking(False)
        self.done = [0] * count

    def pour(self, number, spare=10):
        """As much as the socket takes; gives whether that was anything."""
        rest = self.frames[number][self.done[number] : len(self.frames[number]) - spare]
        try:
            sent = self.clients[number].socket.send(rest) if rest else 0
        except OSError:  # full, or closed
            sent = 0
        self.done[number] += sent
        return sent > 0

    def trickle(self, number):
        """A byte more, but never the last ones."""
        at = self.done[number]
        if at < len(self.frames[number]) - 10:
            try:
                self.done[number] += self.clients[number].socket.send(
                    self.frames[number][at : at + 1]
                )
            except OSError:  # full, or closed
                pass

    def is_closed(self, number):
        try:
            return self.clients[number].socket.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def pour_all(self, number_of, seconds=2.0):
        """Until nothing more is taken; gives the most that was held."""
        most, still = 0, time.monotonic()
        while time.monotonic() < still + seconds:
            if any([self.pour(number) for number in range(len(self.clients))]):
                still = time.monotonic()
            most = max(most, number_of("memory_held_bytes"))
        return most

    def close(self):
        for client in self.clients:
            client.close()
