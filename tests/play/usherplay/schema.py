# SPDX-License-Identifier: Apache-2.0
"""The generated schemas and usher_backend: from PYTHONPATH, as CTest sets it, or of the build of USHER_BIN."""

import os
import sys

REPOSITORY = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
BIN = os.path.abspath(
    os.environ.get("USHER_BIN", os.path.join(REPOSITORY, "build", "release", "bin"))
)

# At the end: what the caller chose goes first.
sys.path.append(os.path.join(BIN, "..", "tests", "play", "generated"))
sys.path.append(os.path.join(BIN, "..", "clients", "python", "package"))

try:
    import backend_pb2 as backend_pb
    import client_pb2 as client_pb
except ImportError as error:
    sys.exit(
        f"no generated schemas ({error}): build first (./dev build), use /usr/bin/python3 "
        f"with python3-protobuf, and let USHER_BIN name the bin folder of a build "
        f"(now {BIN})"
    )

__all__ = ["BIN", "REPOSITORY", "backend_pb", "client_pb"]
