# SPDX-License-Identifier: Apache-2.0
"""What a play has started in the place of a newer usherd (process.upgrade_program): it speaks the channel of
process/handover.h, as far as it is told to, and then does something that no usherd would.

    heir.py FILE USHERD ARGUMENTS...     FILE: what to do, as JSON

    {"at": WHERE, "does": WHAT, ...}     it goes along until WHERE, and then does WHAT (an Heir's method)
    {"limits": {NAME: N}, "arguments": [...]}     it becomes USHERD, under those limits
    {"more": true}                       it starts USHERD and stands between, as a release that says more
    {"kill": WHO, "at": WHERE}           it starts USHERD and stands between; WHO (old, new) is killed when
                                         the word of WHERE has come, before it is passed on
"""

import array
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import sys
import time

HELLO, DESCRIPTORS, STATE, READY, GO, REFUSED = range(1, 7)
END = 15  # the record behind which there is none
CHANNEL = 3
F_ADD_SEALS, ALL_SEALS = 1033, 15


def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def take_varint(data, at):
    number = shift = 0
    while True:
        number |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return number, at


# Two fields that nobody knows yet.
MORE = varint(1000 << 3) + varint(7) + varint(1001 << 3 | 2) + varint(3) + b"new"


def say_more(state):
    """Each record, and what it has in it, with those fields behind all others."""
    at, out = 0, bytearray()
    while at < len(state):
        size, at = take_varint(state, at)
        tag, start = take_varint(state, at)
        length, start = take_varint(state, start)
        body = state[start : start + length] + MORE
        record = varint(tag) + varint(len(body)) + body + MORE
        out += varint(len(record)) + record
        at += size
    return bytes(out)


def is_last(word, fds):
    """Is this the run of records that has the last one?"""
    if word != STATE:
        return False
    state = os.pread(fds[0], os.fstat(fds[0]).st_size, 0)
    at = number = 0
    while at < len(state):
        size, at = take_varint(state, at)
        number, at = take_varint(state, at)[0] >> 3, at + size
    return number == END


def sealed(data):
    fd = os.memfd_create("more", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    fcntl.fcntl(fd, F_ADD_SEALS, ALL_SEALS)
    return fd


class Channel:
    def __init__(self, sock):
        self.socket = sock

    def raw(self, data, fds=()):
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([data], rights)

    def say(self, word, body=b"", fds=()):
        self.raw(struct.pack("=IHBB", len(body), len(fds), word, 0) + body, fds)

    def hear(self):
        """The word, its bytes and descriptors; None at the end."""
        data, rights, _, _ = self.socket.recvmsg(65536, socket.CMSG_SPACE(253 * 4))
        fds = array.array("i")
        for _, _, bytes_ in rights:
            fds.frombytes(bytes_[: len(bytes_) - len(bytes_) % fds.itemsize])
        return (data[6], data, list(fds)) if data else None


class Heir:
    """One that goes along until it is told to do something else."""

    def __init__(self, order):
        self.order = order
        self.channel = Channel(socket.socket(fileno=CHANNEL))

    def at(self, where):
        if self.order["at"] == where:
            getattr(self, self.order["does"])()

    def run(self):
        self.at("start")
        self.channel.hear()
        self.at("hello")
        self.channel.say(HELLO, self.order.get("hello", "").encode() or b"\x08\xff\xff\x03")
        self.at("freeze")
        last = False
        while not last:
            heard = self.channel.hear()
            if heard is None:
                return
            self.at("descriptors" if heard[0] == DESCRIPTORS else "between")
            last = is_last(heard[0], heard[2])
        self.at("ready")
        self.channel.say(READY)
        self.at("go")
        self.channel.hear()

    # --- what it may do ---------------------------------------------------------------------------

    def ends(self):
        os._exit(self.order.get("code", 0))

    def hangs(self):
        time.sleep(600)

    def crashes(self):
        os.kill(os.getpid(), signal.SIGSEGV)

    def lets_go(self):
        """It lives, and its end of the channel is closed."""
        self.channel.socket.close()
        time.sleep(600)

    def says(self):
        """Another word than the one that is awaited."""
        self.channel.say(self.order["word"], self.order.get("body", "").encode())
        time.sleep(600)

    def babbles(self):
        self.channel.raw(bytes(range(5)))
        time.sleep(600)

    def overstates(self):
        """A message that is not as long as it says."""
        self.channel.raw(struct.pack("=IHBB", 5000, 0, self.order["word"], 0) + b"x" * 10)
        time.sleep(600)

    def gives(self):
        """Descriptors that nobody has asked for."""
        self.channel.say(self.order["word"], fds=[1, 2, 1, 2])
        time.sleep(600)


class Between:
    """Between an old process and a real new one."""

    def __init__(self, order, command):
        self.order, self.killed, self.parent = order, False, os.getppid()
        self.given = self.gotten = 0
        self.old = Channel(socket.socket(fileno=os.dup(CHANNEL)))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.new = Channel(ours)
        self.process = os.fork()
        if self.process == 0:
            os.dup2(theirs.fileno(), CHANNEL)
            os.execv(command[0], command)
        os.close(CHANNEL)
        theirs.close()

    def pass_on(self, where, from_, to):
        """Was it the last run of records?"""
        heard = from_.hear()
        if heard is None:
            raise OSError("the end")
        if self.order.get("at") == where:
            self.kill()
        last = is_last(heard[0], heard[2])
        data, fds = self.change(*heard)
        to.raw(data, fds)
        for fd in fds:
            os.close(fd)
        return last

    def change(self, word, data, fds):
        """READY says how many bytes came: as many as were given."""
        if word == STATE and "more" in self.order:
            size = os.fstat(fds[0]).st_size
            more = sealed(say_more(os.pread(fds[0], size, 0)))
            os.close(fds[0])
            fds[0] = more
            self.given += size
            self.gotten += os.fstat(more).st_size
        if word == READY and "more" in self.order:
            body = data[8:].replace(b"\x20" + varint(self.gotten), b"\x20" + varint(self.given))
            data = struct.pack("=IHBB", len(body), 0, READY, 0) + body
        return data, fds

    def kill(self):
        """Once: after that somebody else is our parent."""
        if self.killed or "kill" not in self.order:
            return
        self.killed = True
        victim = self.parent if self.order["kill"] == "old" else self.process
        os.kill(victim, signal.SIGKILL)
        while self.order["kill"] == "old" and os.getppid() == victim:
            time.sleep(0.001)

    def run(self):
        self.pass_on("gifts", self.old, self.new)
        self.pass_on("hello", self.new, self.old)
        while not self.pass_on("descriptors", self.old, self.new):
            pass
        self.pass_on("ready", self.new, self.old)
        self.pass_on("go", self.old, self.new)
        if self.order.get("at") == "end":
            self.kill()
        self.old.hear()  # its end


def main(path, *command):
    with open(path, encoding="utf-8") as file:
        order = json.load(file)
    if "does" in order:
        Heir(order).run()
        return
    if "kill" in order or "more" in order:
        Between(order, list(command)).run()
        return
    for name, value in order.get("limits", {}).items():
        resource.setrlimit(getattr(resource, name), (value, value))
    os.execv(command[0], [*command, *order.get("arguments", [])])


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except OSError:
        pass  # whoever it spoke to is gone
