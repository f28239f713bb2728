# SPDX-License-Identifier: Apache-2.0
"""What goes on beside upgrades, and what is looked at when one has come to nothing."""

import os
import stat
import subprocess


from usherplay.broker import program
from usherplay.client import Client
from usherplay.stage import check, check_equal, eventually

SLOW_SECONDS = 60


class Echo:
    """usher-echo beside the broker."""

    def __init__(self, broker):
        self.process = subprocess.Popen(
            [program("usher-echo"), "--url", broker.link_url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.process.kill()
        self.process.wait()


def talk(sender, receiver):
    """Messages of all sizes, each of which comes once, in order, under the next number."""

    def once(number):
        payload = b"%d " % number + b"x" * (number * 37 % 5000)
        sender.send(receiver.name, payload)
        message = receiver.expect("message").message
        check_equal(message.payload, payload, "the payload")
        check_equal(message.seq, number + 1, "its number")
        receiver.post("ack", id=0, seq=message.seq)

    return once


def call(client):
    """Calls, each of which has the one answer that is right."""

    def once(number):
        payload = b"%d" % number
        answer = client.ask("call", service="echo", method="echo", payload=payload)
        check_equal(answer.WhichOneof("body"), "reply", f"the answer to call {number}: {answer}")
        check_equal(answer.reply.payload, payload, "what it says")

    return once


def come_and_go(broker, prefix="newcomer"):
    """Newcomers: nobody is refused, or waits for long."""

    def once(number):
        with Client(broker) as client:
            client.login(f"{prefix}{number}")
            check_equal(client.ask("logout").WhichOneof("body"), "done", "the answer to a Logout")

    return once


def log_in(broker, names, over):
    clients = []
    for name in names:
        client = Client(broker, over=over)
        client.login(name, acks=True)
        clients.append(client)
    return clients


def same_as_before(broker, clients, pid, descriptors):
    check_equal(broker.process.pid, pid, "the process")
    check(broker.alive(), "it serves")
    for client in clients:
        client.ping()
    eventually(
        lambda: broker.descriptors() == descriptors, "the descriptors of before", SLOW_SECONDS
    )
    children = subprocess.run(
        ["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True, check=False
    ).stdout.split()
    check_equal(children, [], "children that are left")


def write_program(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    os.chmod(path, stat.S_IRWXU)
    return path
