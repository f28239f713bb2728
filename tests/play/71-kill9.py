# SPDX-License-Identifier: Apache-2.0
"""kill -9 at random moments under logins: no acknowledged login is lost, no epoch used twice, and
the stored stream has no gap and no double."""

import random as randoms
import threading
import time

from usherplay import (Backend, Broker, Client, ConnectionEnded, check, check_equal,
                       check_presence, play, scaled, seed)

USERS = 60
AT_ONCE = 6


class Players:
    """Logs users in and out until the broker is gone, and remembers what it was promised. Used by
    one thread at a time."""

    def __init__(self, broker, random):
        self.broker = broker
        self.random = random
        self.promised = {}  # user -> epoch of the last Welcome that no Logout followed
        self.left = set()  # users whose Logout was answered and who did not try again
        self.highest = {}  # user -> highest epoch of any Welcome
        self.welcomes = 0
        self.problem = None

    def run(self):
        held = []
        try:
            while True:
                held += self._some_logins()
                while len(held) > 30:
                    self._leave(held.pop(self.random.randrange(len(held))))
        except (ConnectionEnded, OSError):
            pass  # the broker was killed
        except AssertionError as error:
            self.problem = error
        for client in held:
            client.close()

    def _some_logins(self):
        clients = []
        for _ in range(self.random.randrange(1, AT_ONCE + 1)):
            client = Client(self.broker)
            client.name = f"user{self.random.randrange(USERS):02}"
            self.left.discard(client.name)
            client.post("login", username=client.name)
            clients.append(client)
        for client in clients:
            frame = client.next_frame()
            check(frame is not None, "a login without an answer")
            if frame.WhichOneof("body") == "close":
                continue  # replaced by one of the same batch before it was welcomed
            self._welcomed(client.name, frame.welcome.epoch)
        return clients

    def _welcomed(self, name, epoch):
        self.welcomes += 1
        # Two logins of one name in a batch may be welcomed in either order.
        check(epoch != self.highest.get(name), f"epoch {epoch} of {name} was given twice")
        self.highest[name] = max(epoch, self.highest.get(name, 0))
        self.promised[name] = max(epoch, self.promised.get(name, 0))

    def _leave(self, client):
        choice = self.random.random()
        if choice < 0.4:
            client.drop()
        elif choice < 0.7:
            client.close()
        else:
            self._log_out(client)

    def _log_out(self, client):
        try:
            client.post("logout")
            self.promised.pop(client.name, None)  # from here on it may be gone or not
            frame = client.next_frame()
        except (ConnectionEnded, OSError):
            if not self.broker.alive():
                raise
            client.close()
            return  # it had been replaced
        if frame is not None and frame.WhichOneof("body") == "done":
            self.left.add(client.name)
        client.close()


def check_map(players, backend):
    living = {info.user: info.epoch for info in backend.list_all()[0]}
    for name, epoch in players.promised.items():
        check(name in living, f"{name} was welcomed as epoch {epoch} and is forgotten")
        check(living[name] >= epoch, f"{name} was welcomed as {epoch}, the map says {living[name]}")
    for name in players.left:
        check(name not in living, f"{name} logged out and is in the map as {living.get(name)}")
    return living


def scene_kill_loop():
    random = seed()
    cycles = max(3, scaled(15, 5))
    with Broker({"session.resume_ms": 3600000}) as broker:
        players = Players(broker, randoms.Random(random.random()))
        stream, starts = [], []
        for cycle in range(cycles):
            thread = threading.Thread(target=players.run, daemon=True)
            thread.start()
            time.sleep(random.uniform(0.02, 0.4))
            check(broker.alive(), "the broker died by itself")
            broker.kill()
            thread.join(10)
            check(not thread.is_alive(), "the players did not notice the end")
            if players.problem:
                raise players.problem
            broker.restart()
            starts.append(broker.ready_seconds)
            backend = Backend(broker, hello=False)
            living = check_map(players, backend)
            stream += backend.all_events(after=stream[-1].seq if stream else 0)
            last = check_presence(stream, first_seq=1)
            check_equal({name: epoch for name, (_, epoch) in last.items()}, living,
                        "the map against the stream")
            for name, (state, _) in last.items():
                check_equal(state, "DETACHED", f"{name} right after the restart")
            backend.lose()
        backend = Backend(broker, hello=False)
        check_equal(backend.all_events(), stream, "the whole stream, read again")
        backend.lose()
        print(f"     {cycles} kills, {players.welcomes} welcomes, {len(stream)} events; ready in "
              f"{min(starts) * 1000:.0f} to {max(starts) * 1000:.0f} ms")
        check(players.welcomes > cycles, "too few logins to say anything")


if __name__ == "__main__":
    play(scene_kill_loop)
