# SPDX-License-Identifier: Apache-2.0
"""One instance of a service as a process of its own, so that a play can kill and freeze it:

    service.py URL SERVICE INSTANCE RECORDS

It answers every call with what the call says: user, epoch and payload. Before it answers, it
appends a line to the file RECORDS, which instances may share: a short write to the end of a file
is whole, so the lines are in the order in which the calls were begun. A line survives the
death of the process that wrote it. 52-instances.py reads them."""

import asyncio
import json
import os
import sys

from usherplay import schema  # noqa: F401  the path to usher_backend

import usher_backend

WORK_SECONDS = 0.01  # between what it wrote down and its answer, so that death meets work


class Records:
    def __init__(self, path):
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, **fields):
        os.write(self.file, json.dumps(fields).encode() + b"\n")


async def main():
    url, name, instance, path = sys.argv[1:]
    records = Records(path)
    service = usher_backend.service(name, link=url, instance=instance)

    @service.on_state
    def state(state, text):
        if state == "linked":
            records.write(what="hello", instance=instance, pid=os.getpid())

    @service.on_call
    async def answer(call):
        records.write(
            what="call",
            instance=instance,
            pid=os.getpid(),
            user=call.user,
            epoch=call.epoch,
            payload=call.text,
            redelivered=call.redelivered,
        )
        await asyncio.sleep(WORK_SECONDS)
        return f"{call.user} {call.epoch} {call.text}"

    async with service:
        await service.run_forever()


if __name__ == "__main__":
    asyncio.run(main())
