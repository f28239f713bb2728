# SPDX-License-Identifier: Apache-2.0
"""Starts and stops the servers under test, on loopback, and runs the load generators at them."""

import json
import os
import resource
import shutil
import socket
import struct
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BIN = os.environ.get("USHER_BIN", os.path.join(ROOT, "build", "release", "bin"))
BASE_PORT = int(os.environ.get("BASE_PORT", "17100"))
READY_SECONDS = 10
RUN_SECONDS = 240
HOLD_SECONDS = 600
PEERS = ("limit", "usher", "redis", "nats", "mosquitto")
ROOM_LIMIT = "limit of rooms"  # the same loop, with rooms and in usher's own frames
PROTOCOLS = {
    "limit": "raw",
    "usher": "usher",
    "redis": "redis",
    "nats": "nats",
    "mosquitto": "mqtt",
}
MOSQUITTO = """listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_inflight_messages 0
max_queued_messages 0
set_tcp_nodelay true
log_type error
"""
NATS = 'host: "127.0.0.1"\nport: {port}\nmax_connections: 200000\n'

# What the load generators call the same figure.
FROM_LOADGEN = {
    "msgs_per_s": "per_s",
    "broker_cpu_s_per_M": "cpu_us",
    "order_err": "disordered",
    "bad": "strange",
    "conns_per_s": "per_s",
    "conn_cpu_us": "cpu_us",
}
FROM_BENCH = {
    "messages_per_s": "per_s",
    "logins_per_s": "per_s",
    "resumes_per_s": "per_s",
    "broker_cpu_us_each": "cpu_us",
}


def renamed(figures, names):
    return {names.get(name, name): value for name, value in figures.items()}


class Servers:
    """Running servers by name; all are ended at the end of the `with`."""

    def __init__(self, programs):
        self.programs = programs
        self.running = {}
        self.held = []
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    def __enter__(self):
        self.scratch = tempfile.mkdtemp(prefix="usher-bench-")
        return self

    def __exit__(self, kind, value, trace):
        for connection in self.held:
            # Ended at once: thousands of ports in TIME_WAIT would be missing in the next round.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.wait()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def port(self, name):
        return BASE_PORT + (*PEERS, ROOM_LIMIT).index(name)

    def link(self):
        return "ipc://" + os.path.join(self.scratch, "link.sock")

    def written(self, name, text):
        path = os.path.join(self.scratch, name)
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        return path

    def hold(self, name, count):
        """So many connections beside the load that say nothing; at usher they are users."""
        if count == 0:
            return
        if name == "usher":
            command = [
                os.path.join(BIN, "usher-bench"),
                "idle",
                "-q",
                "--prefix",
                "idle-",
                "--users",
                count,
                "--settle",
                HOLD_SECONDS,
                "--port",
                self.port(name),
            ]
            # What it says when the server ends before it is of no interest; who is missing is seen.
            self.running["idle users"] = subprocess.Popen(
                [str(word) for word in command],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            held = self.sessions
        else:
            address = ("127.0.0.1", self.port(name))
            self.held = [socket.create_connection(address) for _ in range(count)]
            held = self.files
        deadline = time.monotonic() + RUN_SECONDS
        while held(name) < count:
            if time.monotonic() > deadline:
                raise SystemExit(f"{name} has {held(name)} connections of {count}")
            time.sleep(0.1)

    def files(self, name):
        return len(os.listdir(f"/proc/{self.running[name].pid}/fd"))

    def sessions(self, _name):
        out = subprocess.run(
            [os.path.join(BIN, "usherctl"), "--url", self.link(), "--json", "count"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        lines = [json.loads(line) for line in out.splitlines()]
        return next(line["value"] for line in lines if line["name"] == "sessions")

    def thread_times(self, name):
        """CPU of each of its threads up to now, in ticks."""
        folder = f"/proc/{self.running[name].pid}/task"
        times = {}
        for thread in os.listdir(folder):
            with open(os.path.join(folder, thread, "stat"), encoding="ascii") as file:
                fields = file.read().rpartition(")")[2].split()
            times[thread] = int(fields[11]) + int(fields[12])
        return times

    def command(self, name):
        port = str(self.port(name))
        if name == "limit":
            return [os.path.join(self.programs, "echo_forward"), port]
        if name == ROOM_LIMIT:
            return [os.path.join(self.programs, "echo_rooms"), port]
        if name == "usher":
            return [
                os.path.join(BIN, "usherd"),
                "--set",
                f"listen.tcp=127.0.0.1:{port}",
                "--set",
                "admin.listen=",
                "--set",
                f"store.path={self.scratch}/store",
                "--set",
                f"link.urls={self.link()}",
                "--set",
                "log.level=warn",
                # One program is all the users.
                "--set",
                "limits.prelogin_per_source=0",
                "--set",
                "limits.logins_per_minute_per_source=0",
                "--set",
                "limits.logins_per_minute_per_user=0",
                "--set",
                "limits.requests_per_second=0",
                "--set",
                "limits.requests_per_second_per_source=0",
            ]
        if name == "nats":
            return ["nats-server", "-c", self.written("nats.conf", NATS.format(port=port))]
        if name == "mosquitto":
            return ["mosquitto", "-c", self.written("mosquitto.conf", MOSQUITTO.format(port=port))]
        return [
            "redis-server",
            "--port",
            port,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--protected-mode",
            "no",
            "--maxclients",
            "200000",
            "--tcp-backlog",
            "4096",
            "--client-output-buffer-limit",
            "pubsub 0 0 0",
        ]

    def start(self, name, *options):
        log = open(os.path.join(self.scratch, f"{name}.log"), "wb")
        command = [*self.command(name), *options]
        self.running[name] = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.scratch
        )
        log.close()
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port(name)), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        with open(os.path.join(self.scratch, f"{name}.log"), encoding="utf-8") as file:
            raise SystemExit(f"{name} does not listen; its log: {file.read()[-800:]}")

    def load(self, name, *arguments):
        """One run of the load generator that speaks everybody's protocol."""
        command = [
            os.path.join(self.programs, "loadgen"),
            "-P",
            PROTOCOLS[name],
            "-p",
            self.port(name),
            "-b",
            self.running[name].pid,
            "-l",
            name,
            *arguments,
        ]
        done = subprocess.run(
            [str(word) for word in command],
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        if done.returncode > 1:
            return {"error": f"exit {done.returncode}: {done.stderr[-300:]}"}
        words = [word.split("=", 1) for word in done.stdout.split()]
        figures = {key: float(value) for key, value in words if key not in ("peer", "scen")}
        return renamed(figures, FROM_LOADGEN)

    def bench(self, *arguments, at="usher"):
        """One run of usher-bench."""
        command = [
            os.path.join(BIN, "usher-bench"),
            *arguments,
            "--json",
            "-q",
            "--port",
            self.port(at),
            "--pid",
            self.running[at].pid,
        ]
        if arguments[0] in ("call", "push", "push-all", "presence"):
            command += ["--link", self.link()]
        done = subprocess.run(
            [str(word) for word in command],
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        if done.returncode > 1:
            return {"error": f"exit {done.returncode}: {done.stderr[-300:]}"}
        figures = json.loads(done.stdout)
        if done.returncode != 0 and not any(figures.get(name) for name in ("lost", "refused")):
            figures["failed"] = done.stderr[-300:]
        return renamed(
            {key: value for key, value in figures.items() if key not in ("scenario", "ok", "note")},
            FROM_BENCH,
        )

    def reqrep(self):
        done = subprocess.run(
            [os.path.join(self.programs, "reqrep"), f"ipc://{self.scratch}/reqrep.sock"],
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=True,
        )
        return json.loads(done.stdout)
