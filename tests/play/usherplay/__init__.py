# SPDX-License-Identifier: Apache-2.0
"""What plays share: a broker process, a client, a backend, and rules for histories."""

import sys

sys.dont_write_bytecode = True

from usherplay.backend import Backend, Link, LinkClosed, LinkRefused  # noqa: E402
from usherplay.broker import Broker, free_port, program  # noqa: E402
from usherplay.client import Client, ConnectionEnded, frame_bytes, logged_in, varint  # noqa: E402
from usherplay.honest import Honest  # noqa: E402
from usherplay.history import check_presence  # noqa: E402
from usherplay.schema import backend_pb, client_pb  # noqa: E402
from usherplay.stage import Failed, check, check_equal, eventually, play, scaled, seed  # noqa: E402
from usherplay.tls import Identity, RawTls, TlsBroker, TlsClient  # noqa: E402

__all__ = [
    "Backend",
    "Broker",
    "Client",
    "ConnectionEnded",
    "Failed",
    "Honest",
    "Identity",
    "Link",
    "LinkClosed",
    "LinkRefused",
    "RawTls",
    "TlsBroker",
    "TlsClient",
    "backend_pb",
    "check",
    "check_equal",
    "check_presence",
    "client_pb",
    "eventually",
    "frame_bytes",
    "free_port",
    "logged_in",
    "play",
    "program",
    "scaled",
    "seed",
    "varint",
]
