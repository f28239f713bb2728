# SPDX-License-Identifier: Apache-2.0
"""usher-bench, the load generator: every scenario, small, against a real usherd; and that it says
so when messages are lost, change places or are broken on the way."""

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading

from usherplay import (
    Backend,
    Broker,
    Client,
    check,
    check_equal,
    client_pb,
    eventually,
    play,
    program,
    scaled,
)
from usherplay.broker import free_port
from usherplay.client import take_frame

DONE, FAILED, NO_BROKER, USAGE = 0, 1, 2, 64
SECONDS = "0.3"
PATIENCE = "2"  # seconds; what is missing for so long is lost, also on a slow machine
BOUND_SECONDS = 60
STORE_BYTES_AT_REST = 16 << 10
USERS = scaled(400, 40)
SCENARIOS = ("forward", "call", "push", "push-all", "presence", "login", "idle", "herd")
LINKED = {"call", "push", "push-all"}
TRAFFIC = {"forward", *LINKED}
STREAM = TRAFFIC | {"room"}
# These need a broker that has rooms, and friends; they have scenes of their own.
COMPANY = ("room", "friends")
# Options that mean nothing in some scenarios, and are refused there.
MEANS_SOMETHING = {
    "link": LINKED | {"presence"},
    "token-file": LINKED | {"presence"},
    "window": STREAM,
    "size": STREAM | {"idle", "herd"},
    "rate": STREAM | {"presence", "login"},
    "seconds": STREAM | {"idle"},
    "warmup": STREAM,
    "settle": {"idle", "friends"},
    "after": {"idle"},
    "post": {"forward", "room"},
    "confirm": {"forward", "room"},
    "burst": {"room", "push-all"},
    "rooms": {"room"},
    "room": {"room"},
    "publishers": {"room"},
    "away": {"room"},
    "watch": {"friends"},
    "service": LINKED,
}
# As usherd has them by itself; plays set them aside.
DEFAULT_LIMITS = {
    "limits.prelogin_per_source": 32,
    "limits.requests_per_second": 1000,
    "limits.requests_per_second_per_source": 20000,
    "limits.logins_per_minute_per_source": 12000,
}


def bench(scenario, *arguments, port=None, broker=None, url=None, expect=DONE):
    """Runs usher-bench to its end; gives its figures."""
    command = [program("usher-bench"), scenario, "--json"]
    for option, value in (("--seconds", SECONDS), ("--warmup", "0.1"), ("--settle", "0.1")):
        command += [option, value] if scenario in MEANS_SOMETHING[option[2:]] else []
    if broker is not None:
        command += ["--url", url] if url is not None else ["--port", str(broker.port)]
        command += ["--pid", str(broker.process.pid)]
        command += ["--link", broker.link_url] if scenario in MEANS_SOMETHING["link"] else []
    else:
        command += ["--port", str(port)]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=False, timeout=BOUND_SECONDS
    )
    check(
        done.returncode == expect,
        f"{' '.join(command)} {' '.join(arguments)}: exit "
        f"{done.returncode} instead of {expect}: {done.stdout[-800:]} {done.stderr[-800:]}",
    )
    bench.errors = done.stderr
    if not done.stdout:
        return {}
    result = json.loads(done.stdout)
    check_equal((result["scenario"], result["ok"]), (scenario, expect == DONE), "the verdict")
    return result


def measured(*arguments, **how):
    """A run that measured something: it gets more time when the machine stood still for all of it."""
    for seconds in (SECONDS, "1.5", "6"):
        result = bench(*arguments, "--seconds", seconds, **how)
        if result["messages_per_s"] > 0:
            break
    return result


def check_traffic(result, at_least=1):
    check(result["received"] >= at_least, f"only {result['received']} messages")
    check_equal(result["sent"], result["received"] + result["refused"], "sent")
    for name in ("lost", "disordered", "doubled", "strange", "repeated"):
        check_equal(result[name], 0, name)
    check(
        0
        < result["p50_us"]
        <= result["p90_us"]
        <= result["p99_us"]
        <= result["p99_9_us"]
        <= result["max_us"],
        f"the latencies do not rise: {result}",
    )
    check(result["messages_per_s"] > 0, "no rate")
    check(result["broker_cpu_percent"] >= 0, "no CPU time of the broker")
    print(
        f"     {result['scenario']}: {result['messages_per_s']:,}/s, p50 {result['p50_us']} us, "
        f"broker {result.get('broker_cpu_us_each', 0)} us each"
    )


def delivered(broker):
    return Backend(broker).numbers("stats")["messages_delivered"]


def sessions_left(broker):
    out = subprocess.run(
        [program("usherctl"), "--url", broker.link_url, "--json", "count"],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    ).stdout
    return {line["name"]: line["value"] for line in map(json.loads, out.splitlines())}["sessions"]


def scene_forward():
    with Broker() as broker:
        check_traffic(measured("forward", "-u", "10", broker=broker))
        check_traffic(measured("forward", "-u", str(USERS), "-w", "16", "-s", "512", broker=broker))
        check_traffic(measured("forward", "-u", "20", "-w", "4", "--acks", broker=broker))
        check_traffic(
            measured("forward", "-u", "20", "-w", "4", "--post", "-t", "2", broker=broker)
        )
        check_traffic(measured("forward", "-u", "1", "-w", "2", "-s", "16", broker=broker))
        check_equal(sessions_left(broker), 0, "sessions that a run leaves behind")


def scene_open_loop():
    """The rate is the one that was asked for, whatever the answers do."""
    with Broker() as broker:
        result = bench("forward", "-u", "50", "--rate", "500", broker=broker)
        check_traffic(result)
        due = 500 * result["measured_s"]
        # Begun on a grid: what the warm-up and a late start leave is far less than half.
        check(due / 2 <= result["received"] <= due * 3, f"{result['received']} instead of {due}")


def scene_call():
    with Broker() as broker:
        check_traffic(measured("call", "-u", "20", "-w", "4", broker=broker))
        check_traffic(measured("call", "-u", "20", "--rate", "300", "-t", "2", broker=broker))
    with Broker({"limits.calls_per_user": 2}) as broker:
        result = bench("call", "-u", "5", "-w", "8", broker=broker)
        check(result["refused"] > 0 and result["lost"] == 0, f"refusals are not counted: {result}")


def scene_push():
    with Broker() as broker:
        check_traffic(measured("push", "-u", "20", "-w", "4", broker=broker))
        check_traffic(measured("push-all", "-u", str(USERS), "-w", "4", broker=broker), USERS)
        check_traffic(
            measured("push-all", "-u", "30", "-t", "2", "--acks", "--rate", "50", broker=broker), 30
        )


def scene_presence():
    with Broker() as broker:
        result = bench("presence", "-u", str(USERS), broker=broker)
        check_equal(
            (result["events_online"], result["events_offline"], result["events_disordered"]),
            (USERS, USERS, 0),
            "the events",
        )
        check(0 < result["p50_us"] <= result["max_us"], f"no latency: {result}")
        print(f"     presence: p50 {result['p50_us']} us, p99 {result['p99_us']} us")
        check_equal(
            bench("presence", "-u", "20", "--rate", "100", broker=broker)["events_online"],
            20,
            "events at a rate",
        )


def scene_login():
    with Broker() as broker:
        result = bench("login", "-u", str(USERS), "-t", "2", broker=broker)
        check(result["logins_per_s"] > 0 and result["p50_us"] > 0, f"no figures: {result}")
        check_equal(result["broker_cpu_percent"] >= 0, True, "CPU of the broker")
        check_equal(sessions_left(broker), 0, "sessions that a run leaves behind")


def scene_logins_that_are_put_off():
    with Broker({"limits.prelogin_connections": 4}) as broker:
        result = bench("login", "-u", "12", "-j", "12", broker=broker)
        print(f"     {result['retries']} logins were put off and came again")


def store_bytes(broker):
    """Of the store's file, how much counts as memory of usherd."""
    total, ours = 0, False
    with open(f"/proc/{broker.process.pid}/smaps", encoding="utf-8") as file:
        for line in file:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                ours = line.rstrip().endswith("/data.mdb")
            elif ours and line.startswith("Rss:"):
                total += int(line.split()[1]) * 1024
    return total


def scene_idle():
    with Broker() as broker:
        users = scaled(2000, 200)
        result = bench("idle", "-u", str(users), "--after", "2", broker=broker)
        check_equal((result["sent"], result["received"]), (2 * users, 2 * users), "messages")
        check(result["broker_empty_bytes"] > 100000, f"no memory of the broker: {result}")
        print(
            f"     idle: {result['broker_idle_bytes_each']} bytes per user, "
            f"{result['broker_after_bytes_each']} after traffic"
        )
        # What the storm has looked at is given back when it is quiet.
        eventually(
            lambda: store_bytes(broker) <= STORE_BYTES_AT_REST,
            "the store's pages are no memory of usherd any more",
            20,
        )


def scene_herd():
    with Broker() as broker:
        for arguments in ((), ("--acks",), ("--acks", "-t", "2", "-j", "20")):
            result = bench("herd", "-u", str(USERS), *arguments, broker=broker)
            acks = "--acks" in arguments
            check_equal(
                (result["lost"], result["rejected"], result["disordered"]),
                (0, 0, 0),
                "lost, rejected, disordered",
            )
            check_equal(
                (result["received"], result["repeated"]),
                (USERS * (2 if acks else 1), USERS if acks else 0),
                "received, repeated",
            )
            check(0 < result["p50_us"] <= result["p99_us"], f"no times: {result}")


def scene_herd_that_is_put_off():
    """The note has the broker's words to their end, and counts what the figures count."""
    with Broker({"limits.prelogin_per_source": 1}) as broker:
        result = bench("herd", "-u", "12", broker=broker)
        count = int(result["note"].split()[0]) if "note" in result else 0
        check_equal(count, result["retries"], f"put off: {result}")
        check(count == 0 or "; try again later)" in result["note"], f"its words: {result['note']}")
        print(f"     {count} resumes were put off")


class Between:
    """A broker seen through somebody who changes what it delivers. `change` gets the frames of one
    read and gives those to pass on."""

    def __init__(self, broker, change):
        self.address, self.change = broker.address, change
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        try:
            while True:
                client = self.listener.accept()[0]
                server = socket.create_connection(self.address)
                for source, sink, change in ((client, server, None), (server, client, self.change)):
                    threading.Thread(
                        target=self._pump, args=(source, sink, change), daemon=True
                    ).start()
        except OSError:
            pass

    @staticmethod
    def _pump(source, sink, change):
        buffer = bytearray()
        try:
            while data := source.recv(65536):
                if change is not None:
                    buffer += data
                    frames = []
                    while (body := take_frame(buffer)) is not None:
                        frames.append(body)
                    data = b"".join(prefixed(body) for body in change(frames))
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.listener.close()


def prefixed(body):
    length, size = bytearray(), len(body)
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes(length) + bytes(body)


def is_message(body):
    return client_pb.BrokerFrame.FromString(bytes(body)).WhichOneof("body") == "message"


def scene_a_stall_is_not_hidden():
    """In an open loop everything that was due while nobody could send is late, even if it was
    answered at once when it left."""
    pause, seen, flowing = 0.5, [], threading.Event()

    def watch(frames):
        seen.extend(frame for frame in frames if is_message(frame))
        if len(seen) > 300:  # the warm-up, which takes no time here, is long over
            flowing.set()
        return frames

    with Broker() as broker, Between(broker, watch) as between:
        command = [
            program("usher-bench"),
            "forward",
            "--json",
            "-u",
            "4",
            "--rate",
            "500",
            "--seconds",
            "3",
            "--warmup",
            "0",
            "--port",
            str(between.port),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
            try:
                check(flowing.wait(20), "nothing flows")
                running.send_signal(signal.SIGSTOP)
                threading.Event().wait(pause)  # the length of the stall, not a wait for anything
            finally:
                running.send_signal(signal.SIGCONT)
            result = json.loads(running.communicate(timeout=BOUND_SECONDS)[0])
        check_equal(result["lost"], 0, "lost")
        check(result["max_us"] >= pause * 0.8e6, f"the stall is not seen: {result}")
        check(result["p99_us"] >= pause * 0.1e6, f"what was due in the stall is not late: {result}")


class Once:
    """Does something to the messages of a read, at the first chance, once."""

    def __init__(self, act):
        self.act, self.lock, self.done = act, threading.Lock(), False

    def __call__(self, frames):
        messages = [frame for frame in frames if is_message(frame)]
        with self.lock:
            if self.done or len(messages) < 2:
                return frames
            self.done = True
        return [frame for frame in frames if not is_message(frame)] + self.act(messages)


def turn_a_bit(messages):
    frame = client_pb.BrokerFrame.FromString(bytes(messages[0]))
    frame.message.payload = frame.message.payload[:-1] + bytes([frame.message.payload[-1] ^ 1])
    return [frame.SerializeToString(), *messages[1:]]


def scene_it_finds_what_is_wrong():
    faults = {
        "disordered": lambda messages: [messages[1], messages[0], *messages[2:]],
        "strange": turn_a_bit,
        # The first message comes again at the end.
        "doubled": lambda messages: [*messages, messages[0]],
    }
    with Broker() as broker:
        for fault, act in faults.items():
            change = Once(act)
            with Between(broker, change) as between:
                result = bench(
                    "forward",
                    "-u",
                    "2",
                    "-w",
                    "64",
                    "--patience",
                    PATIENCE,
                    port=between.port,
                    expect=FAILED,
                )
            check(change.done, f"{fault}: there was no chance to do it")
            check_equal(
                {name: result[name] for name in faults},
                {name: int(name == fault) for name in faults},
                f"one {fault} message",
            )


CLASS = "create=client join=any members=100000 roster=none history=256/60s"
ROOMS = {
    "rooms.classes": f"bench:* {CLASS},tick:* {CLASS} tick=20ms",
    "rooms.publish_per_second": 0,
    "rooms.deliveries_per_second": 0,
}


def check_room(result, at_least):
    check_traffic(result, at_least)
    for name in ("missed", "gaps", "uneven", "refused"):
        check_equal(result[name], 0, name)


def scene_room():
    members = scaled(200, 20)
    place = f"127.0.0.1:{free_port()}"
    with Broker({"listen.ws": place, **ROOMS}) as broker:
        for arguments in (
            ("-w", "4", "--publishers", "1"),
            ("-w", "4", "--burst"),
            ("--rooms", "10", "--rate", "300"),
            ("--rooms", "10", "--room", "tick:", "-w", "2", "-t", "2", "--post"),
            ("--rooms", "10", "--acks", "-s", "5000"),
        ):
            result = measured("room", "-u", str(members), *arguments, broker=broker)
            check_room(result, members)
        check_room(measured("room", "-u", "20", broker=broker, url=f"ws://{place}"), 20)
        check_equal(sessions_left(broker), 0, "sessions that a run leaves behind")
        bench("room", "-u", "2", "--room", "other:", broker=broker, expect=FAILED)
        check("no class of rooms" in bench.errors, f"it does not say why: {bench.errors}")


def scene_a_room_that_is_told_in_slices():
    """More members than one turn posts to."""
    members = scaled(1500, 1100)
    with Broker(ROOMS) as broker:
        for arguments in (("-w", "3", "--burst"), ("-w", "20"), ("-w", "3", "--room", "tick:")):
            result = measured("room", "-u", str(members), *arguments, broker=broker)
            check_room(result, members)


def scene_members_who_are_away():
    """They get what the history has, and are told of the rest."""
    with Broker(ROOMS) as broker:
        for arguments in (("--rate", "20"), ("-w", "8", "--rooms", "2")):
            result = bench("room", "-u", "20", "--away", "5", *arguments, broker=broker)
            check_room(result, 15)
            check(result["recovered"] > 0, f"nothing is recovered: {result}")


def is_room_message(body):
    return client_pb.BrokerFrame.FromString(bytes(body)).WhichOneof("body") == "room_messages"


def scene_it_finds_what_a_room_leaves_out():
    class Dropper:
        """One frame of a room's messages, for one of the members, is not passed on."""

        def __init__(self):
            self.lock, self.seen, self.done = threading.Lock(), 0, False

        def __call__(self, frames):
            kept = []
            for frame in frames:
                with self.lock:
                    self.seen += is_room_message(frame)
                    if self.seen == 20 and not self.done:
                        self.done = True
                        continue
                kept.append(frame)
            return kept

    with Broker(ROOMS) as broker:
        change = Dropper()
        with Between(broker, change) as between:
            result = bench(
                *("room", "-u", "4", "-r", "200", "--patience", PATIENCE),
                port=between.port,
                expect=FAILED,
            )
        check(change.done, "there was no chance to do it")
        check(result["gaps"] == 1 and result["lost"] >= 1, f"it is not seen: {result}")


def scene_friends():
    users, watch = scaled(300, 30), 20
    with Broker({"friends.mode": "open", "friends.batch_ms": 50}) as broker:
        result = bench("friends", "-u", str(users), "--watch", str(watch), broker=broker)
        check_equal(
            (result["herd_states"], result["herd_beyond"], result["flaps"], result["strange"]),
            (users * watch, 0, 0, 0),
            "states of the herd, frames beyond, flaps, strange",
        )
        check(result["states"] >= users * watch, f"too few states: {result}")
        check(0 < result["last_login_s"] <= result["all_known_s"], f"no times: {result}")
        check_equal(
            bench("friends", "-u", "5", "--watch", "0", broker=broker)["frames"], 0, "frames"
        )
        check_equal(sessions_left(broker), 0, "sessions that a run leaves behind")
    with Broker() as broker:
        bench("friends", "-u", "5", broker=broker, expect=FAILED)
        check("FORBIDDEN" in bench.errors, f"it does not say why: {bench.errors}")


def scene_it_finds_what_is_lost():
    """A message that never comes is told after the rest has come to a halt."""
    with Broker() as broker:
        change = Once(lambda messages: messages[1:])
        with Between(broker, change) as between:
            result = bench(
                "forward",
                "-u",
                "2",
                "-w",
                "64",
                "--patience",
                PATIENCE,
                port=between.port,
                expect=FAILED,
            )
        check(change.done, "there was no chance to lose one")
        check_equal((result["lost"], result["disordered"]), (1, 0), "lost, disordered")


def scene_what_a_limit_refuses_is_not_called_lost():
    """Without an answer to each message the two look alike, and usher-bench says so."""
    limit = "limits.requests_per_second_per_source"
    with Broker({limit: 100}) as broker:
        told = bench("forward", "-u", "4", "--patience", PATIENCE, broker=broker)
        check_equal(told["lost"], 0, "lost")
        check(told["refused"] > 0, f"nothing was refused: {told}")
        check(limit in told["note"] and limit in bench.errors, f"which limit? {told}")
        asked = bench(
            "forward", "-u", "4", "--patience", PATIENCE, "--post", broker=broker, expect=FAILED
        )
        check(asked["lost"] > 0, f"nothing is missing: {asked}")
        check("--post" in bench.errors, f"it does not say what it may be: {bench.errors}")


def scene_a_broker_as_it_comes():
    """The first command that somebody tries, on a broker that nobody has prepared for it."""
    with Broker(DEFAULT_LIMITS) as broker:
        for arguments in (("-u", "1000"), ("-u", "5", "-w", "16")):
            result = bench("forward", "-w", "4", *arguments, broker=broker)
            check_equal(result["lost"], 0, f"lost with {arguments}")
            check(result["received"] > 0, f"nothing came: {result}")
            print(f"     {arguments}: {result['messages_per_s']:,}/s, {result['refused']} refused")
            check_equal("note" in result, result["refused"] > 0, "that there is a note")
        for scenario in SCENARIOS[1:]:
            result = bench(scenario, "-u", "50", broker=broker)
            check_equal(result.get("lost", 0), 0, f"lost in {scenario}")


def scene_who_goes_on_at_a_limit_is_not_closed():
    """limits.requests_per_second closes who hammers at it; a client that waits as told is not one."""
    with Broker({"limits.requests_per_second": 20}) as broker:
        result = bench("forward", "-u", "3", "-w", "8", "--seconds", "3", broker=broker)
        check(result["refused"] > 0 and result["received"] > 0, f"{result}")
        check("limits.requests_per_second" in result["note"], result["note"])


class Guarded:
    """A broker with TLS and nothing else, that wants tokens; and what a client needs for it."""

    def __init__(self, folder, **options):
        self.keys, public = os.path.join(folder, "keys"), os.path.join(folder, "public")
        self.tokens = os.path.join(folder, "tokens")
        certificate, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
        for command in (
            [program("usher-token"), "keygen", "--out", self.keys],
            [program("usher-token"), "public", "--keys", self.keys, "--out", public],
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-keyout",
                key,
                "-out",
                certificate,
                "-days",
                "2",
                "-subj",
                "/CN=game.test",
                "-addext",
                "subjectAltName=DNS:game.test",
            ],
        ):
            subprocess.run(command, capture_output=True, check=True, timeout=30)
        port = free_port()
        self.broker = Broker(
            {
                "listen.tcp": "",
                "listen.tls": f"127.0.0.1:{port}",
                "tls.certificate_file": certificate,
                "tls.key_file": key,
                "auth.mode": "token",
                "auth.keys_file": public,
                **options,
            },
            wait=False,
        )
        self.broker.port = port
        self.broker.wait_log("ready")
        self.tls = ("--ca", certificate, "--server-name", "game.test")

    def sign(self, user, *arguments):
        return subprocess.run(
            [program("usher-token"), "sign", "--keys", self.keys, "--sub", user, *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        ).stdout

    def bench(self, scenario, *arguments, **named):
        return bench(scenario, "-u", "12", *self.tls, *arguments, broker=self.broker, **named)


def scene_tls_and_tokens():
    with tempfile.TemporaryDirectory() as folder:
        guarded = Guarded(folder, **{"auth.issuer": "lobby", "auth.audience": "usher"})
        with guarded.broker:
            made = ("--token-key", guarded.keys, "--issuer", "lobby", "--audience", "usher")
            for scenario in SCENARIOS:
                result = guarded.bench(scenario, *made)
                check_equal(result.get("lost", 0), 0, f"lost in {scenario}")
            result = guarded.bench("forward", *made, "-w", "16", "-s", "20000")
            check_traffic(result)  # frames of more than one record
            check_equal(guarded.bench("herd", *made, "--acks")["repeated"], 12, "repeated")
            with open(guarded.tokens, "w", encoding="ascii") as file:
                for number in range(12):
                    file.write(
                        guarded.sign(f"bench-{number}", "--issuer", "lobby", "--audience", "usher")
                    )
            check_traffic(guarded.bench("forward", "--tokens", guarded.tokens))


def scene_websocket():
    """Every scenario, with as many frames in a message as wait and with one in each."""
    place = f"127.0.0.1:{free_port()}"
    with Broker({"listen.ws": place}) as broker:
        way = {"url": f"ws://{place}", "broker": broker}
        for frames in ("0", "1"):
            alone = ("-u", "20", "--ws-frames", frames)
            for scenario in SCENARIOS:
                check_equal(bench(scenario, *alone, **way).get("lost", 0), 0, f"lost in {scenario}")
            check_traffic(measured("forward", *alone, "-w", "16", **way))
            check_traffic(measured("forward", *alone, "-w", "4", "-s", "20000", **way))
            check_traffic(measured("call", *alone, "-w", "8", "-t", "2", **way))
            check_equal(bench("herd", *alone, "--acks", **way)["repeated"], 20, "repeated")
        check_equal(sessions_left(broker), 0, "sessions that a run leaves behind")


def scene_websocket_with_tls_and_tokens():
    with tempfile.TemporaryDirectory() as folder:
        place = f"127.0.0.1:{free_port()}"
        guarded = Guarded(folder, **{"listen.wss": place})
        with guarded.broker:
            way = ("--token-key", guarded.keys)
            for scenario in SCENARIOS:
                result = guarded.bench(scenario, *way, url=f"wss://{place}")
                check_equal(result.get("lost", 0), 0, f"lost in {scenario}")
            check_traffic(
                guarded.bench("forward", *way, "-w", "16", "-s", "20000", url=f"wss://{place}")
            )


def scene_a_broker_that_is_full_by_websocket():
    """Its 503 puts a login off, and is not the end of the run."""
    place = f"127.0.0.1:{free_port()}"
    with Broker({"listen.ws": place, "limits.prelogin_connections": 4}) as broker:
        result = bench("login", "-u", "12", "-j", "12", broker=broker, url=f"ws://{place}")
        print(f"     {result['retries']} logins were put off and came again")
    with Broker({"listen.ws": place}) as broker:
        bench("login", url=f"ws://{place}/elsewhere", broker=broker, expect=NO_BROKER)
        check("404" in bench.errors, f"it does not say why: {bench.errors}")


def scene_who_is_not_let_in_hears_why():
    """And gets no table of zeros."""
    with tempfile.TemporaryDirectory() as folder:
        guarded = Guarded(folder)
        with open(guarded.tokens, "w", encoding="ascii") as file:
            file.write(guarded.sign("bench-0", "--ttl", "-100") * 12)
        with guarded.broker:
            for arguments, words in (
                ((), "UNAUTHENTICATED"),
                (("--tokens", guarded.tokens), "UNAUTHENTICATED"),
                (
                    (
                        "--token-key",
                        guarded.keys,
                        "--issuer",
                        "x",
                        "-u",
                        "2",
                        "--server-name",
                        "other.test",
                    ),
                    "hostname mismatch",
                ),
                (("--tokens", guarded.tokens, "-u", "13"), "12 tokens"),
                (("--token-key", "/dev/null"), "no key"),
                (("--key", "/dev/null", "--certificate", "/dev/null"), "cannot be used"),
            ):
                guarded.bench("forward", *arguments, expect=NO_BROKER)
                check(words in bench.errors, f"{arguments}: it said {bench.errors}")
            done = subprocess.run(
                [
                    program("usher-bench"),
                    "forward",
                    "-u",
                    "3",
                    *guarded.tls,
                    "--port",
                    str(guarded.broker.port),
                ],
                capture_output=True,
                text=True,
                check=False,
                timeout=BOUND_SECONDS,
            )
            check_equal((done.returncode, done.stdout), (NO_BROKER, ""), "no table")
    with Broker({"limits.users": 1}) as broker, Client(broker) as alice:
        alice.login("alice")
        bench("forward", "-u", "2", "--patience", "6", broker=broker, expect=NO_BROKER)
        check("BUSY" in bench.errors, f"it does not say why: {bench.errors}")


def scene_each_option_means_something_or_is_refused():
    """Every scenario with every option that --help names, at a port where nobody is."""
    text = subprocess.run(
        [program("usher-bench"), "--help"], capture_output=True, text=True, check=True, timeout=20
    ).stdout
    options = re.findall(r"^  (?:-\w, |    )--([a-z-]+)( [A-Z]+)?$", text, re.M)
    check(len(options) > 25, f"only {len(options)} options in --help")
    beside = {
        "issuer": ["--token-key", "x"],
        "audience": ["--token-key", "x"],
        "certificate": ["--key", "x"],
        "key": ["--certificate", "x"],
    }
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        place = {
            "url": [],
            "ws-frames": ["--url", f"ws://127.0.0.1:{port}"],
        }
        values = {
            "url": f"ws://127.0.0.1:{port}/game",
            **{"rooms": "1", "publishers": "1", "away": "0", "watch": "0"},
        }
        for name, argument in options:
            for scenario in (*SCENARIOS, *COMPANY):
                command = [
                    program("usher-bench"),
                    scenario,
                    "-u",
                    "1",
                    *place.get(name, ["--port", str(port)]),
                    f"--{name}",
                    *([values.get(name, "20")] if argument else []),
                    *beside.get(name, []),
                ]
                done = subprocess.run(
                    command, capture_output=True, text=True, check=False, timeout=20
                )
                meant = scenario in MEANS_SOMETHING.get(name, (*SCENARIOS, *COMPANY))
                check_equal(
                    done.returncode,
                    NO_BROKER if meant else USAGE,
                    f"{scenario} --{name}: {done.stderr}",
                )


def scene_trouble():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        bench("forward", port=port, expect=NO_BROKER)
        check(f"cannot connect to 127.0.0.1:{port}" in bench.errors, f"it said {bench.errors}")
        bench(
            "call", "--link", "ipc:///nowhere/link.sock", broker=None, port=port, expect=NO_BROKER
        )
    with subprocess.Popen(["true"]) as gone, Broker() as broker:
        gone.wait()
        done = subprocess.run(
            [
                program("usher-bench"),
                "forward",
                "-u",
                "3",
                "--port",
                str(broker.port),
                "--pid",
                str(gone.pid),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=BOUND_SECONDS,
        )
        check_equal((done.returncode, done.stdout), (NO_BROKER, ""), "a process that is not there")
        check("--pid" in done.stderr, f"it does not say why: {done.stderr}")
        # Somebody else takes the name: the run has failed, and says who and why.
        with subprocess.Popen(
            [
                program("usher-bench"),
                "forward",
                "-u",
                "3",
                "--seconds",
                "60",
                "--port",
                str(broker.port),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as running:
            eventually(lambda: sessions_left(broker) == 3, "the users are online", 20)
            with Client(broker) as thief:
                thief.login("bench-1")
                errors = running.communicate(timeout=BOUND_SECONDS)[1]
            check_equal(running.returncode, FAILED, "exit code")
            check("bench-1" in errors and "REPLACED" in errors, f"it does not say why: {errors}")


def scene_it_is_stopped():
    """Ctrl-C: the figures so far, and nobody stays behind."""
    for kind in (signal.SIGINT, signal.SIGTERM):
        with Broker() as broker:
            command = [
                program("usher-bench"),
                "forward",
                "-u",
                "5",
                "--seconds",
                "600",
                "--warmup",
                "0",
                "--json",
                "--port",
                str(broker.port),
            ]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
                # Who is online may not know so yet; who gets messages does.
                eventually(lambda: delivered(broker) > 0, "they talk", 20)
                running.send_signal(kind)
                result = json.loads(running.communicate(timeout=BOUND_SECONDS)[0])
            check_equal(running.returncode, DONE, "exit code")
            check_equal((result["lost"], result["disordered"]), (0, 0), "lost, disordered")
            check(result["measured_s"] < 600, f"it went on: {result}")
            check_equal(sessions_left(broker), 0, "sessions that a run leaves behind")


def scene_it_is_stopped_before_it_begins():
    """While users still log in there is nothing to tell but that; a second signal is not needed."""
    with Broker() as broker:
        command = [
            program("usher-bench"),
            "login",
            "-u",
            "100",
            "--rate",
            "1",
            "--json",
            "--port",
            str(broker.port),
        ]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as running:
            eventually(lambda: sessions_left(broker) > 0, "somebody is online", 20)
            running.send_signal(signal.SIGINT)
            errors = running.communicate(timeout=BOUND_SECONDS)[1]
        check_equal(running.returncode, FAILED, "exit code")
        check("interrupted" in errors, f"it does not say why: {errors}")


def scene_usage():
    def run(*arguments):
        return subprocess.run(
            [program("usher-bench"), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )

    for arguments in (
        (),
        ("nonsense",),
        ("forward", "--nonsense"),
        ("forward", "-u", "none"),
        ("forward", "-s", "15"),
        ("forward", "-u", "0"),
        ("forward", "idle"),
        ("call", "-w", "65"),
        ("forward", "-u", "1.5"),
        ("forward", "--url", "http://127.0.0.1"),
        ("forward", "--url", "ipc://link.sock"),
        ("forward", "--url", "ws://127.0.0.1", "--port", "7400"),
        ("forward", "--url", "ws://127.0.0.1", "--host", "127.0.0.1"),
        ("forward", "--url", "ws://127.0.0.1", "--ca", "ca.pem"),
        ("forward", "--url", "tcp://127.0.0.1", "--tls"),
        ("forward", "--url", "tcp://127.0.0.1", "--ws-frames", "1"),
        ("forward", "--ws-frames", "1"),
        ("room", "-u", "4", "--rooms", "5"),
        ("room", "-u", "4", "--rooms", "2", "-t", "3"),
        ("room", "-u", "4", "--rooms", "2", "--away", "2"),
        ("room", "-u", "4", "--away", "2", "--publishers", "3"),
        ("room", "--room", ""),
        ("friends", "-u", "10", "--watch", "10"),
    ):
        done = run(*arguments)
        check_equal((done.returncode, done.stdout), (USAGE, ""), f"usher-bench {arguments}")
        check("usher-bench" in done.stderr, f"it says nothing of {arguments}: {done.stderr}")
    text = run("--help").stdout
    for word in (
        "forward",
        "call",
        "push",
        "push-all",
        "presence",
        "login",
        "idle",
        "herd",
        "room",
        "friends",
        "--rate",
        "--json",
        "--pid",
    ):
        check(word in text, f"--help does not name {word}")
    check(re.search(r"\d", run("--version").stdout) is not None, "--version")


def scene_table():
    """Without --json: a table that people read, the same figures."""
    with Broker() as broker:
        done = subprocess.run(
            [
                program("usher-bench"),
                "forward",
                "-u",
                "4",
                "--seconds",
                "0.1",
                "--port",
                str(broker.port),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=BOUND_SECONDS,
        )
        check_equal(done.returncode, DONE, "exit code")
        for name in ("messages_per_s", "p99_9_us", "lost", "disordered"):
            check(re.search(rf"^ +{name} +\d", done.stdout, re.M), f"no {name}: {done.stdout}")


if __name__ == "__main__":
    play(
        scene_forward,
        scene_open_loop,
        scene_a_stall_is_not_hidden,
        scene_call,
        scene_push,
        scene_presence,
        scene_login,
        scene_logins_that_are_put_off,
        scene_idle,
        scene_herd,
        scene_herd_that_is_put_off,
        scene_room,
        scene_a_room_that_is_told_in_slices,
        scene_members_who_are_away,
        scene_it_finds_what_a_room_leaves_out,
        scene_friends,
        scene_it_finds_what_is_wrong,
        scene_it_finds_what_is_lost,
        scene_what_a_limit_refuses_is_not_called_lost,
        scene_a_broker_as_it_comes,
        scene_who_goes_on_at_a_limit_is_not_closed,
        scene_tls_and_tokens,
        scene_websocket,
        scene_websocket_with_tls_and_tokens,
        scene_a_broker_that_is_full_by_websocket,
        scene_who_is_not_let_in_hears_why,
        scene_each_option_means_something_or_is_refused,
        scene_trouble,
        scene_it_is_stopped,
        scene_it_is_stopped_before_it_begins,
        scene_usage,
        scene_table,
    )
