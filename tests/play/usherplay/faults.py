# SPDX-License-Identifier: Apache-2.0
"""People at a broker whose store fails, and what they were told: who was welcomed is there, who was
refused left nothing behind, and those who only talk notice nothing."""

import collections
import time

from usherplay.backend import Backend, kind_name
from usherplay.client import Client, describe
from usherplay.history import check_presence
from usherplay.schema import backend_pb, client_pb
from usherplay.stage import Failed, check, check_equal

SECONDS = 20  # for anything that must come; a slow machine keeps it
PAUSE = 0.05

# Nobody expires, nobody is thrown out while a commit is held, and nobody is told to log in less.
OPTIONS = {
    "session.resume_ms": 3600000,
    "limits.login_deadline_ms": 60000,
    "limits.takeovers_per_minute": 0,
}


class People:
    """Remembers what each was told. `outcomes` counts answers to logins and resumes."""

    def __init__(self, broker):
        self.broker = broker
        self.outcomes = collections.Counter()
        self.welcomes = collections.defaultdict(list)  # name -> Welcomes of its logins
        self.gone = set()  # names whose Logout was answered Done
        self.clients = []
        self.talkers = None
        self.talked = 0

    def connect(self):
        client = Client(self.broker, timeout=SECONDS)
        self.clients.append(client)
        return client

    def close(self):
        for client in self.clients:
            client.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()

    # --- logins and resumes --------------------------------------------------------------------

    def answer(self, client, id):
        """The outcome of a Login or Resume with that id: "welcome" or the name of the code."""
        frame = client.answer_to(id)
        kind = frame.WhichOneof("body")
        if kind == "welcome":
            client.welcome = frame.welcome
        elif kind != "error":
            raise Failed(f"{client.name} was answered {describe(frame)}")
        outcome = kind if kind == "welcome" else client_pb.Error.Code.Name(frame.error.code)
        if outcome == "UNAVAILABLE":
            check(frame.error.retry_after_ms > 0, "UNAVAILABLE without retry_after_ms")
        self.outcomes[outcome] += 1
        if outcome not in ("welcome", "UNAVAILABLE"):
            raise Failed(f"{client.name} was answered {describe(frame)}")
        return outcome

    def post_login(self, name, client=None):
        client = client or self.connect()
        client.name = name
        return client, client.post("login", username=name, acks=True)

    def login_answer(self, client, id):
        outcome = self.answer(client, id)
        if outcome == "welcome":
            epochs = [welcome.epoch for welcome in self.welcomes[client.name]]
            check(
                client.welcome.epoch > max(epochs, default=0),
                f"{client.name}: epoch {client.welcome.epoch} after {epochs}",
            )
            self.welcomes[client.name].append(client.welcome)
            self.gone.discard(client.name)
        return outcome

    def login(self, name, client=None):
        """One login; gives the connection and the outcome."""
        client, id = self.post_login(name, client)
        return client, self.login_answer(client, id)

    def logins(self, names):
        """Many at once, so that they share commits; gives the connections of the welcomed."""
        waiting = [self.post_login(name) for name in names]
        return [client for client, id in waiting if self.login_answer(client, id) == "welcome"]

    def must_login(self, name):
        client, outcome = self.login(name)
        check_equal(outcome, "welcome", f"the login of {name}")
        return client

    def resume(self, name, welcome, last_seq=0, client=None):
        client = client or self.connect()
        client.name = name
        id = client.post(
            "resume", username=name, epoch=welcome.epoch, secret=welcome.secret, last_seq=last_seq
        )
        return client, self.answer(client, id)

    def log_out(self, client):
        """The outcome: "done" or the name of the code."""
        frame = client.answer_to(client.post("logout"))
        if frame.WhichOneof("body") == "done":
            self.gone.add(client.name)
            return "done"
        return client_pb.Error.Code.Name(frame.error.code)

    def recover(self, name, timeout=SECONDS):
        """Tries until a login is welcomed; gives the seconds that it took."""
        began = time.monotonic()
        outcome = self.login(name)[1]
        while outcome != "welcome":
            check(
                time.monotonic() - began < timeout,
                f"no login within {timeout} s after the disk was sound again: {outcome}",
            )
            time.sleep(PAUSE)
            outcome = self.login(name)[1]
        return time.monotonic() - began

    # --- talk ----------------------------------------------------------------------------------

    def talk(self, count=20):
        """Two people who were here before: each message is accepted and arrives."""
        if self.talkers is None:
            self.talkers = self.must_login("talker"), self.must_login("listener")
        talker, listener = self.talkers
        for _ in range(count):
            self.talked += 1
            payload = b"%d" % self.talked
            talker.send("listener", payload)
            frame = listener.expect("message", payload=payload)
            listener.post("ack", id=0, seq=frame.message.seq)

    # --- the store against all that was told -----------------------------------------------------

    def check_store(self, backend, restarted=False):
        """Chains are right, the map is their end, and the logins in it are those welcomed."""
        stream = backend.all_events()
        living = check_presence(stream, first_seq=1)
        infos = {info.user: info.epoch for info in backend.list_all()[0]}
        check_equal(
            infos,
            {name: epoch for name, (_, epoch) in living.items()},
            "the map against the stream",
        )
        stored = collections.defaultdict(list)
        for event in stream:
            if kind_name(event) == "ONLINE":
                stored[event.user].append(event.epoch)
        told = {
            name: [welcome.epoch for welcome in welcomes]
            for name, welcomes in self.welcomes.items()
            if welcomes
        }
        check_equal(dict(stored), told, "the logins in the stream against those welcomed")
        for name in told:
            check_equal(name in infos, name not in self.gone, f"{name} in the map")
        if restarted:
            for name, (state, _) in living.items():
                check_equal(state, "DETACHED", f"{name} after the restart")
        return stream

    def check_after_kill(self):
        """Kills the broker, starts it anew, and checks."""
        self.broker.kill()
        self.close()
        self.talkers = None
        self.broker.restart()
        with Backend(self.broker, hello=False) as backend:
            return self.check_store(backend, restarted=True)

    def summary(self):
        return ", ".join(f"{count} {name}" for name, count in sorted(self.outcomes.items()))


def read_stream(backend):
    """The stored stream, or None while the store answers UNAVAILABLE."""
    probe = backend_pb.Command(events=backend_pb.Events(after=0, limit=1))
    code = backend.query(probe).code
    if code == backend_pb.Result.UNAVAILABLE:
        return None
    check_equal(code, backend_pb.Result.OK, "the code of a query for events")
    return backend.all_events()
