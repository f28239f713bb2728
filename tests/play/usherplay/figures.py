# SPDX-License-Identifier: Apache-2.0
"""What plays measure and print."""

import time

from usherplay.backend import Backend


def percentile(values, part):
    """0.0 when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


def pings(client, seconds):
    """How long each ping of that time took, in seconds."""
    took = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        took.append(client.ping(timeout=20))
        time.sleep(0.002)
    return took


def stats(broker):
    """The broker's numbers, by name."""
    with Backend(broker) as backend:
        return backend.numbers("stats")
