# SPDX-License-Identifier: Apache-2.0
"""The preload library of tests/shim under a usherd: its disk fails on request, what it writes is
recorded, and its wall clock is moved. All of it can change while the broker runs."""

import errno
import mmap
import os
import shutil
import tempfile

from usherplay.broker import program
from usherplay.schema import BIN

LIBRARY = os.path.join(BIN, "libusher_shim.so")

WRITES, SYNCS, SYNCED_WRITES = 1, 2, 4
ANY = WRITES | SYNCS | SYNCED_WRITES
REFUSED, DONE_AND_DENIED, HALF, DONE_THEN_DEAD = 0, 1, 2, 3
ALWAYS = 1 << 62

# struct shim_control of shim.h, in its order.
FIELDS = (
    "magic",
    "calls",
    "error",
    "manner",
    "skip",
    "count",
    "failed",
    "realtime_offset_ms",
    "hold",
    "held",
    "records",
    "delay_us",
)
MAGIC = 0x6D696873


class Shim:
    """One control file, in a folder of its own; the store is to be at `store`. Give a Broker
    options={"store.path": shim.store} and environment=shim.environment()."""

    def __init__(self, record=False):
        program("libusher_shim.so")
        self.folder = tempfile.mkdtemp(prefix="usher-shim-")
        self.store = os.path.join(self.folder, "store")
        self.log = os.path.join(self.folder, "log") if record else None
        self.control = os.path.join(self.folder, "control")
        with open(self.control, "w+b") as file:
            file.truncate(8 * len(FIELDS))
            self._memory = mmap.mmap(file.fileno(), 8 * len(FIELDS))
        # A store to one of its elements is a single store of eight bytes.
        self._numbers = memoryview(self._memory).cast("q")
        self["magic"] = MAGIC

    def __getitem__(self, name):
        return self._numbers[FIELDS.index(name)]

    def __setitem__(self, name, value):
        self._numbers[FIELDS.index(name)] = value

    def environment(self):
        environment = {
            "LD_PRELOAD": LIBRARY,
            "USHER_SHIM_CONTROL": self.control,
            "USHER_SHIM_FOLDER": self.store,
        }
        if self.log:
            environment["USHER_SHIM_LOG"] = self.log
        # The address sanitizer wants to come first and would end the process. The library calls
        # what comes behind it, so the sanitizer still sees every call.
        options = os.environ.get("ASAN_OPTIONS", "")
        environment["ASAN_OPTIONS"] = f"{options}:verify_asan_link_order=0".lstrip(":")
        return environment

    def fail(self, calls, error=errno.EIO, count=ALWAYS, skip=0, manner=REFUSED):
        """The next `count` calls of these kinds fail, after `skip` that do not."""
        self.heal()
        self["error"], self["manner"], self["skip"] = error, manner, skip
        self["count"], self["failed"] = count, 0
        self["calls"] = calls

    def heal(self):
        self["calls"] = 0

    def hold(self, calls):
        """From now on calls of these kinds wait; `held` counts those that do."""
        self["held"] = 0
        self["hold"] = calls

    def release(self):
        self["hold"] = 0

    def close(self):
        self.release()
        if os.environ.get("USHER_PLAY_KEEP"):
            print(f"     kept: {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()


# struct control of shim_memory.c, in its order.
MEMORY_FIELDS = ("every", "least", "asked", "failed", "live")


class MemoryShim:
    """Lets allocations of a usherd fail, one in `every` of at least `least` bytes, and sums in
    `live` what its heap holds; not under a sanitizer. Give a Broker environment=shim.environment().
    """

    def __init__(self):
        self.library = program("libusher_shim_memory.so")
        self._file = tempfile.NamedTemporaryFile(prefix="usher-shim-")
        self._file.truncate(8 * len(MEMORY_FIELDS))
        self._memory = mmap.mmap(self._file.fileno(), 8 * len(MEMORY_FIELDS))
        self._numbers = memoryview(self._memory).cast("q")

    def __getitem__(self, name):
        return self._numbers[MEMORY_FIELDS.index(name)]

    def __setitem__(self, name, value):
        self._numbers[MEMORY_FIELDS.index(name)] = value

    def environment(self):
        return {"LD_PRELOAD": self.library, "USHER_SHIM_MEMORY": self._file.name}
