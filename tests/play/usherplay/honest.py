# SPDX-License-Identifier: Apache-2.0
"""A service that keeps the rules: usher_backend in a thread, for plays whose clients block. Who breaks
rules, or goes step by step, takes Backend."""

import asyncio
import logging
import threading

from usherplay import schema  # noqa: F401  the path to usher_backend
from usherplay.stage import Failed

import usher_backend

SECONDS = 30.0

# What it would say of brokers that are killed is for people who did not kill them.
logging.getLogger("usher_backend").addHandler(logging.NullHandler())


class Honest:
    """`service` is the usher_backend.Service: set its handlers, which run in the thread, and enter the
    block. Leaving it is leaving that of the service."""

    def __init__(self, broker, name="", **options):
        self.service = usher_backend.service(name, link=broker.link_url, **options)
        self._loop = asyncio.new_event_loop()
        self._linked = threading.Event()
        self._failure = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as error:
            self._failure = error
        finally:
            self._linked.set()
            self._loop.close()

    async def _serve(self):
        async with self.service:
            await self.service.linked()
            self._linked.set()
            await self.service.run_forever(())

    def do(self, work):
        """What a coroutine of the service gives."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)

    def __enter__(self):
        self._thread.start()
        if not self._linked.wait(SECONDS) or self._failure:
            raise Failed(f"no link: {self._failure or self.service.error_text}")
        return self

    def __exit__(self, kind, value, trace):
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self.service.stop)
        self._thread.join(SECONDS)
        if kind is None and self._failure:
            raise Failed(f"the service ended: {self._failure}")
