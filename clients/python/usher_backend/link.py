# SPDX-License-Identifier: Apache-2.0
"""One link: what the node accepted, and the numbers that begin anew with it.

An object for each, so that whatever was begun under an older one is known as such. `secret` is the
number that gives the right to the link: it goes into requests and is shown to nobody."""

import heapq
from collections import Counter

from usher_backend import backend_pb2 as pb
from usher_backend.commands import FRAME_BYTES_DEFAULT, FRAME_BYTES_MAX, FRAME_BYTES_MIN

PARK_MS_DEFAULT = 2000
PARK_MS_MAX = 60000


def clamp(value: int, otherwise: int, low: int, high: int) -> int:
    return min(max(value or otherwise, low), high)


class Link:
    def __init__(self, accepted: pb.Accepted) -> None:
        self.secret = accepted.link
        self.number = accepted.number
        self.node = accepted.node
        self.node_boot = accepted.node_boot
        self.park_seconds = clamp(accepted.park_ms, PARK_MS_DEFAULT, 1, PARK_MS_MAX) / 1000
        self.frame_bytes_max = clamp(
            accepted.frame_bytes_max, FRAME_BYTES_DEFAULT, FRAME_BYTES_MIN, FRAME_BYTES_MAX
        )
        self.mail_have = 0  # the highest that arrived
        self.mail_done = 0  # the highest below and at which all are done
        self.mail_said = 0  # by the last Fetch
        self._finished: list[int] = []  # those beyond it, a heap
        self._seqs: Counter[int] = Counter()  # of the last Submit of each lane

    def next_seq(self, lane: int) -> int:
        self._seqs[lane] += 1
        return self._seqs[lane]

    def finish(self, seq: int) -> None:
        """That mail is done; each is, once."""
        heapq.heappush(self._finished, seq)
        while self._finished and self._finished[0] == self.mail_done + 1:
            self.mail_done = heapq.heappop(self._finished)

    def __repr__(self) -> str:
        return f"<link {self.number} to {self.node}>"
