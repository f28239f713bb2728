# SPDX-License-Identifier: Apache-2.0
"""An admin endpoint without a broker, as docs/admin.md tells: what the console is tested against.

Its numbers grow at rates that a play sets, its time may run faster, and it can be degraded,
unreachable or closed by a token on demand. By hand, to work at the console's pages:

    PYTHONPATH=tests/play /usr/bin/python3 -m usherplay.fakeadmin
"""

import http.server
import json
import os
import threading
import time
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
CONSOLE = os.path.join(ROOT, "broker", "admin", "console")
UPLOT = os.path.join(ROOT, "build", "uplot")
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
BOUNDS = (0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1, None)

# Per second: what the broker would count.
RATES = {
    "messages_accepted": 4200,
    "messages_delivered": 4150,
    "messages_refused": 12,
    "logins": 31,
    "resumes": 9,
    "takeovers": 3,
    "calls": 640,
    "bytes_in": 410000,
    "bytes_out": 2900000,
    "calls_answered": 636,
    "calls_timed_out": 2,
    "detached": 11,
    "logouts": 17,
    "expired": 2,
    "kicked": 0,
    "closed_slow_consumer": 1,
    "closed_heartbeat": 4,
    "refused_source": 0.4,
    "logins_refused_signature": 0.7,
    "connections_accepted": 44,
    "connections_accepted_tcp": 40,
    "connections_accepted_wss": 4,
    "process_cpu_seconds_total": 0.42,
    "room_messages": 900,
    "room_deliveries": 36000,
    "room_messages_refused": 3,
    "room_missed": 7,
    "room_behind": 11,
    "room_refused_members": 0.6,
    "room_pulls": 12,
    "room_partial": 1,
    "friends_events": 20,
    "friends_changes": 16,
    "friends_states": 800,
    "friends_frames": 500,
    "friends_watchers_full": 2,
}
# Of each histogram: the share that lies at or below each bound.
SHARES = {
    "delivery_latency": (0, 0.2, 0.5, 0.9, 0.97, 0.995, 1, 1, 1, 1, 1),
    "call_latency": (0, 0, 0.1, 0.4, 0.8, 0.93, 0.99, 1, 1, 1, 1),
    "login_latency": (0, 0, 0, 0.3, 0.6, 0.9, 0.98, 1, 1, 1, 1),
}


def event(time_ms, level, name, **fields):
    return {"time_ms": time_ms, "level": level, "event": name, **fields}


QUANTILES = (("p50", 1), ("p90", 3), ("p99", 10))
SAMPLED = {
    "messages_accepted",
    "messages_delivered",
    "messages_refused",
    "logins",
    "resumes",
    "takeovers",
    "calls",
    "calls_answered",
    "bytes_in",
    "bytes_out",
    "process_cpu_seconds_total",
}


class World:
    """What the endpoint knows. Plays change it; `lock` is held while it is read."""

    def __init__(self, speed=1):
        self.lock = threading.Lock()
        self.speed = speed
        self.began = time.monotonic()
        self.began_ms = int(time.time() * 1000)
        self.mode = "normal"  # degraded, draining, unreachable
        self.gauges = {}  # beside those that are made up
        self.token = self.view_token = None
        self.uplot = True
        self.unavailable = set()  # paths that answer 503
        self.requests = []  # (method, path, body)
        self.rates = dict(RATES)
        self.counted = {name: 100 * rate for name, rate in RATES.items()}
        self.counted_at = 0.0
        self.sessions, self.timelines, self.recorder, self.presence = {}, {}, [], []
        self.presence_first = 5001
        self.services, self.slowest = [], []
        self.pasts = {}  # by user: records of the history, newest first
        self.traces = {}
        self.rooms = {}  # by name: a ROOM, and its members under "who"

    def seconds(self):
        return (time.monotonic() - self.began) * self.speed

    def now_ms(self):
        return self.began_ms + int(self.seconds() * 1000)

    # --- what a play makes happen ----------------------------------------------------------------

    def login(
        self,
        user,
        epoch,
        state="online",
        ago_s=0,
        address="203.0.113.7:40112",
        client="game/3.1",
        inbox=0,
        transport="tcp",
    ):
        since_ms = self.now_ms() - int(ago_s * 1000)
        self.sessions[user] = {
            "user": user,
            "epoch": epoch,
            "state": state,
            "since_ms": since_ms,
            "address": address,
            "transport": transport,
            "client": client,
            "inbox_messages": inbox,
        }
        self.tell(user, "ONLINE", epoch, "LOGIN")

    def tell(self, user, kind, epoch, cause):
        session = self.sessions.get(user, {})
        self.presence.append(
            {
                "seq": self.presence_first + len(self.presence),
                "time_ms": self.now_ms(),
                "user": user,
                "kind": kind,
                "epoch": epoch,
                "previous_epoch": 0,
                "cause": cause,
                "address": session.get("address", ""),
                "client": session.get("client", ""),
            }
        )

    def happen(self, user, name, level="info", ago_s=0, **fields):
        line = event(self.now_ms() - int(ago_s * 1000), level, name, user=user, **fields)
        self.timelines.setdefault(user, []).append(line)
        self.recorder.append(line)

    def past(self, user, kind, text, ago_s=0, cause="", **fields):
        """One record of the history, older than those before."""
        self.pasts.setdefault(user, []).append(
            {
                "time_ms": self.now_ms() - int(ago_s * 1000),
                "kind": kind,
                "cause": cause,
                "text": text,
                "missing": 0,
                **fields,
            }
        )

    def rooms_of(self, user):
        return [
            {
                "room": name,
                "incarnation": room["incarnation"],
                "members": room["members"],
                "offset": 40,
                "newest": 42,
                "behind": name.endswith("9"),
                "away": False,
            }
            for name, room in self.rooms.items()
            if any(member["user"] == user for member in room["who"])
        ]

    def open_room(self, name, members=(), rate=0, kind="talk:*", owner="", history=0):
        self.rooms[name] = {
            "room": name,
            "number": 600 + len(self.rooms),
            "incarnation": 88000 + len(self.rooms),
            "class": kind,
            "owner": owner,
            "opened_ms": self.now_ms(),
            "members": len(members),
            "away": sum(away for _, away in members),
            "history_messages": history,
            "history_bytes": history * 100,
            "messages_per_s": rate,
            "who": [
                {"user": user, "epoch": 7000 + place, "away": away, "carry": place % 5 == 0}
                for place, (user, away) in enumerate(members)
            ],
        }

    def restart(self):
        self.counted = {name: 0 for name in self.counted}

    def asked(self, method, path):
        return [body for how, what, body in self.requests if (how, what) == (method, path)]

    # --- answers ---------------------------------------------------------------------------------

    def stats(self):
        now = self.seconds()
        for name, rate in self.rates.items():
            self.counted[name] = self.counted.get(name, 0) + rate * (now - self.counted_at)
        self.counted_at = now
        online = sum(session["state"] == "online" for session in self.sessions.values())
        counters = {
            name: int(value) if name != "process_cpu_seconds_total" else value
            for name, value in self.counted.items()
        }
        total = counters["messages_accepted"]
        histograms = {
            name: {
                "unit": "seconds",
                "count": total,
                "sum": total * 0.003,
                "buckets": [
                    {"le": le, "count": int(total * share)} for le, share in zip(BOUNDS, shares)
                ],
            }
            for name, shares in SHARES.items()
        }
        return {
            "now_ms": self.now_ms(),
            "counters": counters,
            "histograms": histograms,
            "gauges": {
                "sessions_online": online,
                "sessions_detached": len(self.sessions) - online,
                **self.gauges,
                "connections_open": online + 3,
                "connections_open_tcp": online + 1,
                "connections_open_wss": 2,
                "inbox_messages": 1841,
                "mailbox_messages": 12,
                "output_bytes": 3 << 20,
                "memory_held_bytes": 55 << 20,
                "memory_limit_bytes": 256 << 20,
                "room_history_bytes": 9 << 20,
                "store_file_bytes": 41 << 20,
                "calls_waiting": 17,
                "rooms": len(self.rooms),
                "friends_pairs": 4242,
                "actors": len(self.sessions) + 3,
                "uptime_seconds": int(now) + 86400,
                "process_resident_memory_bytes": 212 << 20,
                "process_open_fds": online + 40,
            },
        }

    def samples(self):
        """An hour, one in five seconds; the rates were what they are."""
        times = [self.began_ms - 5000 * back for back in range(719, -1, -1)]
        online = sum(session["state"] == "online" for session in self.sessions.values())
        counters = {
            name: [max(0, 100 * rate - 5 * rate * back) for back in range(719, -1, -1)]
            for name, rate in self.rates.items()
            if name in SAMPLED
        }
        return {
            "period_ms": 5000,
            "now_ms": self.now_ms(),
            "times_ms": times,
            "counters": counters,
            "gauges": {
                "sessions_online": [online + place % 7 for place in range(720)],
                "sessions_detached": [place % 5 for place in range(720)],
                "memory_held_bytes": [(40 << 20) + place * 20000 for place in range(720)],
            },
            "quantiles": {
                name: {part: [0.002 * factor] * 720 for part, factor in QUANTILES}
                for name in SHARES
            },
        }

    def ready(self):
        failing = {"store": "no space left on device, 12 s", "link": "no listener works"}
        checks = [
            {"name": name, "ok": True, "detail": ""}
            for name in ("store", "link", "feed", "accept", "reaper", "drain")
        ]
        if self.mode == "degraded":
            checks = [
                {
                    **check,
                    "ok": check["name"] not in failing,
                    "detail": failing.get(check["name"], ""),
                }
                for check in checks
            ]
        if self.mode == "draining":
            checks[-1].update(ok=False, detail="12 of 40 clients are still here")
        ready = all(check["ok"] for check in checks)
        return 200 if ready else 503, {
            "ready": ready,
            "checks": checks,
            "token_wanted": bool(self.token or self.view_token),
            "state": "draining" if self.mode == "draining" else "serving",
        }

    def node(self, may_change):
        return {
            "node": "usher-1",
            "boot": 7,
            "version": "0.1.0",
            "pid": 4711,
            "auth_mode": "token",
            "state": "serving",
            "may_change": may_change,
            "now_ms": self.now_ms(),
            "started_ms": self.began_ms - 86400000,
            "uptime_ms": 86400000,
            "listeners": [
                {"kind": "tls", "address": "0.0.0.0:7443"},
                {"kind": "link", "address": "ipc:///run/usher/link.sock"},
            ],
        }

    def page(self, arguments):
        names = sorted(
            name
            for name in self.sessions
            if name > arguments.get("after", "") and name.startswith(arguments.get("prefix", ""))
        )
        limit = int(arguments.get("limit", 100))
        # So few are looked at that pages with a state are short.
        rows = [self.sessions[name] for name in names[:limit]]
        answer = {
            "sessions": [
                session
                for session in rows
                if arguments.get("state", session["state"]) == session["state"]
            ],
            "more": len(names) > limit,
            "presence_seq": self.presence_last(),
        }
        return {**answer, "next": names[limit - 1]} if answer["more"] else answer

    def show_room(self, room):
        offset = int(room["messages_per_s"] * (self.now_ms() - room["opened_ms"]) / 1000)
        return {
            **{key: value for key, value in room.items() if key != "who"},
            "offset": offset,
            "deliveries": offset * room["members"],
            "deliveries_per_s": room["messages_per_s"] * room["members"],
        }

    def list_rooms(self, arguments):
        by = arguments.get("by", "name")
        after = arguments.get("after", "") if by == "name" else ""
        limit = int(arguments.get("limit", 100))
        rows = sorted(
            (
                self.show_room(room)
                for name, room in self.rooms.items()
                if name > after and name.startswith(arguments.get("prefix", ""))
            ),
            key=lambda row: (
                -row[{"members": "members"}.get(by, f"{by}_per_s")] if by != "name" else 0,
                row["room"],
            ),
        )
        answer = {"rooms": rows[:limit], "more": len(rows) > limit}
        if answer["more"] and by == "name":
            answer["next"] = rows[limit - 1]["room"]
        return answer

    def one_room(self, name, arguments):
        room = self.rooms.get(name)
        if room is None:
            return 404, {"error": "not_found", "detail": "there is no such room"}
        after, limit = int(arguments.get("after", 0)), int(arguments.get("limit", 100))
        answer = {
            "now_ms": self.now_ms(),
            "room": self.show_room(room),
            "members": room["who"][after : after + limit],
            "more": len(room["who"]) > after + limit,
            "news_seq": 3,
        }
        return 200, {**answer, "next": str(after + limit)} if answer["more"] else answer

    def close_room(self, name, body):
        room = self.rooms.get(name)
        if room is None:
            return 404, {"error": "not_found", "detail": "there is no such room"}
        if body.get("incarnation", 0) not in (0, room["incarnation"]):
            return 409, {"error": "refused", "code": "STALE_EPOCH"}
        del self.rooms[name]
        return 200, {"code": "OK"}

    def presence_last(self):
        return self.presence_first + len(self.presence) - 1

    def events(self, arguments):
        limit = int(arguments.get("limit", 100))
        after = int(arguments.get("after", self.presence_last() - limit))
        found = [entry for entry in self.presence if entry["seq"] > after][:limit]
        return {
            "events": found,
            "presence_last": self.presence_last(),
            "reset": after < self.presence_first - 1 and "after" in arguments,
        }

    def trace(self, user, after):
        trace = self.traces.get(user)
        if trace is None:
            return 404, {"error": "not_found", "detail": "never followed"}
        if trace["active"]:
            self.add_records(trace)
        return 200, {
            "active": trace["active"],
            "until_ms": trace["until_ms"],
            "dropped": 3,
            "records": [row for row in trace["records"] if row["seq"] > after],
        }

    def add_records(self, trace):
        seq, time_us = len(trace["records"]), self.now_ms() * 1000
        for offset, (stage, direction, wait_us) in enumerate(
            (
                ("arrived", "in", 0),
                ("turn", "in", 184),
                ("queued", "out", 0),
                ("sent", "out", 2310),
                ("acked", "in", 41200),
            )
        ):
            trace["records"].append(
                {
                    "seq": seq + offset + 1,
                    "time_us": time_us + offset * 431,
                    "stage": stage,
                    "direction": direction,
                    "kind": "message",
                    "id": 77 + seq,
                    "peer": trace["peer"],
                    "bytes": 214,
                    "wait_us": wait_us,
                }
                | ({"trace_id": trace["trace_id"]} if trace.get("trace_id") else {})
            )

    # --- commands --------------------------------------------------------------------------------

    def command(self, user, what, body):
        session = self.sessions.get(user)
        if session is None:
            return 409, {"error": "refused", "code": "NOT_ONLINE"}
        if body.get("epoch", 0) not in (0, session["epoch"]):
            return 409, {"error": "refused", "code": "STALE_EPOCH"}
        if what == "kick":
            self.tell(user, "OFFLINE", session["epoch"], "KICKED")
            self.happen(user, "kicked", epoch=session["epoch"], detail=body.get("detail", ""))
            del self.sessions[user]
        return 200, {"code": "OK"}

    def answer(self, method, path, arguments, body, may_change):
        """(status, object)"""
        part = [urllib.parse.unquote(piece.removeprefix("~")) for piece in path.split("/")[1:]]
        if path in self.unavailable:
            return 503, {"error": "unavailable", "detail": "not in this build"}
        if method == "POST" and part[:2] == ["api", "sessions"] and len(part) == 4:
            return self.command(part[2], part[3], body)
        if part[:2] == ["api", "rooms"] and len(part) == 3:
            return self.one_room(part[2], arguments)
        if method == "POST" and part[:2] == ["api", "rooms"] and len(part) == 4:
            return self.close_room(part[2], body)
        if method == "POST" and path == "/api/trace":
            self.traces[body["user"]] = {
                "active": True,
                "records": [],
                "peer": "bob",
                "until_ms": self.now_ms() + body["seconds"] * 1000,
            }
            return 200, {}
        if method == "DELETE" and part[:2] == ["api", "trace"]:
            self.traces[part[2]]["active"] = False
            return 200, {}
        if part[:2] == ["api", "trace"] and len(part) == 3:
            return self.trace(part[2], int(arguments.get("after", 0)))
        if part[:2] == ["api", "sessions"] and len(part) == 4 and part[3] == "rooms":
            if part[2] not in self.sessions:
                return 404, {"error": "not_found", "detail": "no session of that name"}
            return 200, {"rooms": self.rooms_of(part[2])}
        if part[:2] == ["api", "sessions"] and len(part) == 3:
            past = self.pasts.get(part[2], [])
            found = self.sessions.get(part[2]), self.timelines.get(part[2], []), past
            answer = {
                "session": found[0],
                "timeline": found[1],
                "stored": {"messages": 3, "bytes": 1536} if past else {"messages": 0, "bytes": 0},
                "history": past,
                "history_more": False,
                "history_first_ms": self.began_ms - 86400000,
            }
            return (
                (200, answer)
                if any(found)
                else (404, {"error": "not_found", "detail": "no session of that name"})
            )
        table = {
            "/api/node": lambda: self.node(may_change),
            "/api/stats": self.stats,
            "/api/samples": self.samples,
            "/api/sessions": lambda: self.page(arguments),
            "/api/rooms": lambda: self.list_rooms(arguments),
            "/api/presence": lambda: self.events(arguments),
            "/api/slowest": lambda: {"users": self.slowest},
            "/api/services": lambda: {"services": self.services},
            "/api/recorder": lambda: {"events": self.recorder[-500:]},
        }
        if path in table and method == "GET":
            return 200, table[path]()
        return 404, {"error": "not_found", "detail": path}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    world = None
    keep = "no-store"

    def log_message(self, *arguments):
        pass

    def send(self, status, data, kind, keep="no-store"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", keep)
        self.send_header("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(data)

    def send_json(self, status, value):
        self.send(status, json.dumps(value).encode(), "application/json")

    def send_file(self, path):
        name = os.path.basename(path) or "index.html"
        folders = (CONSOLE, UPLOT) if self.world.uplot else (CONSOLE,)
        for folder in folders:
            file = os.path.join(folder, name)
            if os.path.exists(file):
                with open(file, "rb") as content:
                    self.send(200, content.read(), TYPES[os.path.splitext(name)[1]], self.keep)
                return
        self.send_json(404, {"error": "not_found", "detail": path})

    def handle_one(self):
        world = self.world
        path, _, arguments = self.path.partition("?")
        arguments = dict(urllib.parse.parse_qsl(arguments))
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        with world.lock:
            if path.startswith("/api/") or path == "/readyz":
                world.requests.append((self.command, self.path.partition("?")[0], body))
            if world.mode == "unreachable":
                self.close_connection = True
                return
            if path == "/readyz":
                self.send_json(*world.ready())
                return
            if not path.startswith("/api/"):
                self.send_file(path)
                return
            shown = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            tokens = [token for token in (world.token, world.view_token) if token]
            if tokens and shown not in tokens:
                self.send_json(401, {"error": "unauthorized", "detail": "a token is needed"})
                return
            may_change = bool(world.token) and shown == world.token
            if self.command != "GET" and not may_change:
                self.send_json(403, {"error": "forbidden", "detail": "looking only"})
                return
            self.send_json(*world.answer(self.command, path, arguments, body, may_change))

    do_GET = do_POST = do_DELETE = handle_one


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A browser that leaves in the middle is nothing to tell."""


class FakeAdmin:
    """The server, on a free port of the loopback. keep: how long a browser may keep the files."""

    def __init__(self, world, port=0, keep="no-store"):
        self.handler = type("BoundHandler", (Handler,), {"world": world, "keep": keep})
        self.server = Server(("127.0.0.1", port), self.handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self):
        return self

    def show(self, world):
        """Another world from now on, at the same address."""
        self.handler.world = world

    def __exit__(self, kind, value, trace):
        self.server.shutdown()
        self.server.server_close()


def populated(speed=1):
    """A world in which something goes on."""
    world = World(speed)
    for number in range(120):
        world.login(
            f"player-{number:03}",
            1836031541000 + number,
            ago_s=40 * number + 7,
            state="detached" if number % 9 == 4 else "online",
            inbox=number % 7,
            client="game/3.1 (android)" if number % 3 else "game/3.0 (switch)",
        )
    world.login("alice", 1836031541254, ago_s=312, inbox=4, address="198.51.100.23:51544")
    for ago_s, level, name, fields in (
        (
            5400,
            "info",
            "login",
            {"epoch": 1836031541190, "address": "198.51.100.23:50110", "client": "game/3.1 (ios)"},
        ),
        (3720, "info", "detached", {"epoch": 1836031541190, "cause": "LOST"}),
        (3704, "info", "resumed", {"epoch": 1836031541190, "last_seq": 912}),
        (1260, "warn", "slow_consumer", {"epoch": 1836031541190}),
        (1255, "info", "resumed", {"epoch": 1836031541190, "last_seq": 1377}),
        (
            312,
            "info",
            "takeover",
            {
                "epoch": 1836031541254,
                "previous_epoch": 1836031541190,
                "address": "198.51.100.23:51544",
            },
        ),
        (
            290,
            "warn",
            "takeover_damped",
            {"epoch": 1836031541254, "retry_after_ms": 2000, "address": "203.0.113.99:6001"},
        ),
    ):
        world.happen("alice", name, level, ago_s, **fields)
    for ago_s, kind, cause, text, missing in (
        (
            312,
            "ONLINE",
            "LOGIN",
            'logged in from 198.51.100.23:51544 by tls, client "game/3.1 (ios)"',
            0,
        ),
        (
            200 * 60,
            "OFFLINE",
            "KICKED",
            'kicked by service match/m1, reason "afk"; it was connected from 198.51.100.23:50110',
            17,
        ),
        (
            201 * 60,
            "LOGIN_REFUSED",
            "",
            "login refused 3 times: the token has expired; from 203.0.113.99:6001 by tls",
            0,
        ),
        (
            300 * 60,
            "DETACHED",
            "SLOW_CONSUMER",
            "slow consumer: the client does not read what it is sent: 65536 bytes waited for it "
            "(limits.output_soft_ms is 10000); it was connected from 198.51.100.23:50110",
            0,
        ),
    ):
        world.past("alice", kind, text, ago_s, cause, missing=missing)
    world.open_room("lobby", [(f"player-{n:03}", n % 9 == 4) for n in range(120)], 5, history=64)
    world.open_room("match:7", [("alice", False), ("bob", True)], 40, "match:*", "matchmaker")
    for number in range(55):
        world.open_room(f"team:{number:02}", [(f"player-{number:03}", False)], 0.5)
    world.recorder.append(
        event(world.now_ms(), "error", "store_failed", error="no space left on device")
    )
    world.slowest = [
        {
            "user": f"player-{number:03}",
            "output_bytes": 700000 // (number + 1),
            "inbox_messages": 120 // (number + 1),
            "since_ms": world.now_ms() - 9000 * (number + 1),
        }
        for number in range(6)
    ]
    fetched_ms = world.now_ms()
    world.services = [
        {
            "name": "matchmaker",
            "instances": [
                {
                    "instance": "mm-1",
                    "state": "serving",
                    "mail_waiting": 3,
                    "calls_open": 11,
                    "last_fetch_ms": fetched_ms,
                    "presence": True,
                },
                {
                    "instance": "mm-2",
                    "state": "draining",
                    "mail_waiting": 0,
                    "calls_open": 2,
                    "last_fetch_ms": fetched_ms,
                    "presence": False,
                },
            ],
        },
        {
            "name": "chat",
            "instances": [
                {
                    "instance": "chat-1",
                    "state": "lost",
                    "mail_waiting": 240,
                    "calls_open": 0,
                    "last_fetch_ms": fetched_ms - 8000,
                    "presence": False,
                }
            ],
        },
        {"name": "shop", "instances": []},
    ]
    return world


if __name__ == "__main__":
    world = populated()
    world.token = "try"
    server = FakeAdmin(world, 7480)
    print(f"{server.url}, the token is {world.token}; Ctrl-C ends it")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
