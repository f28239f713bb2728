# SPDX-License-Identifier: Apache-2.0
"""One instance of a service as a process of its own, so that a play can kill and freeze it:

    service.py URL SERVICE INSTANCE RECORDS

It answers every call with what the call says: user, epoch and payload. Before it answers, it
appends a line to the file RECORDS, which instances may share: a short write to the end of a file
is whole, so the lines are in the order in which the calls were processed. A line survives the
death of the process that wrote it. 52-instances.py reads them."""

import json
import os
import sys
import time

from usherplay import Backend, Failed, LinkRefused
from usherplay.backend import reply_to

REPLIES_MAX = 16  # in one Submit, so that death meets a batch half answered
PARK_MS = 1000
WORK_SECONDS = 0.01  # between what it wrote down and its answers, so that death meets work
PAUSE_SECONDS = 0.02  # before it asks again, after a loss


class Records:
    def __init__(self, path):
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, **fields):
        os.write(self.file, json.dumps(fields).encode() + b"\n")


def answer(call):
    return b"%s %d %s" % (call.user.encode(), call.epoch, call.payload)


def process(backend, records):
    """All calls that the last Fetch brought. They are acknowledged by the next one."""
    replies = []
    while backend.mail:
        mail = backend.mail.popleft()
        if mail.WhichOneof("body") == "control":
            records.write(what="control", instance=backend.instance, kind=mail.control.kind)
            continue
        call = mail.call
        records.write(
            what="call",
            instance=backend.instance,
            pid=os.getpid(),
            user=call.user,
            epoch=call.epoch,
            payload=call.payload.decode(),
            redelivered=call.redelivered,
        )
        if call.call:
            replies.append(reply_to(call, 0, answer(call)))
    if replies:
        time.sleep(WORK_SECONDS)
    for start in range(0, len(replies), REPLIES_MAX):
        backend.submit(*replies[start : start + REPLIES_MAX])


def serve(backend, records):
    """Until the link breaks."""
    backend.hello()
    records.write(what="hello", instance=backend.instance, pid=os.getpid(), link=backend.link)
    while True:
        backend.fetch(wait_ms=PARK_MS)
        process(backend, records)


def main():
    url, service, instance, path = sys.argv[1:]
    records = Records(path)
    backend = Backend(url, service=service, instance=instance, hello=False)
    while True:
        try:
            serve(backend, records)
        except LinkRefused as refusal:
            if refusal.code == "BANNED":
                sys.exit(str(refusal))
            # What it had fetched belongs to a link that is gone: hello() forgets it.
        except (Failed, OSError):
            # Nobody knows what the last Submit did: a new incarnation begins anew.
            backend.lose()
            backend.incarnation += 1
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main()
