# SPDX-License-Identifier: Apache-2.0
"""Keeps what plays send, as seeds for fuzzers: with USHER_PLAY_RECORD=FOLDER each different piece
becomes a file of FOLDER/TARGET, named after its contents. `./dev fuzz record` chooses from them."""

import hashlib
import os

FOLDER = os.environ.get("USHER_PLAY_RECORD")
BYTES_MAX = 4096
FILES_MAX = 20000

_seen = {}


def record(target, data):
    """Does nothing without the variable."""
    if not FOLDER or not data or len(data) > BYTES_MAX:
        return
    names = _seen.setdefault(target, set())
    name = hashlib.sha1(data).hexdigest()
    if name in names or len(names) >= FILES_MAX:
        return
    names.add(name)
    folder = os.path.join(FOLDER, target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as file:
        file.write(data)
