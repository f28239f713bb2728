# SPDX-License-Identifier: Apache-2.0
"""From raw lines to the tables of docs/performance.md and the plots of docs/plots/."""

import json
import os
import statistics
import subprocess

from bench_servers import PEERS


class Lines:
    """The lines of one group: figures by setting and peer."""

    def __init__(self, folder, group):
        self.lines = []
        path = os.path.join(folder, f"{group}.jsonl")
        if os.path.exists(path):
            with open(path, encoding="ascii") as file:
                self.lines = [json.loads(line) for line in file]
        self.lines = [line for line in self.lines if "error" not in line]
        self.settings = list(dict.fromkeys(line["setting"] for line in self.lines))

    def values(self, setting, peer, name, ratio):
        found = {
            line["round"]: line[name]
            for line in self.lines
            if line["setting"] == setting and line["peer"] == peer and name in line
        }
        if not ratio:
            return list(found.values())
        base = {
            line["round"]: line.get(name)
            for line in self.lines
            if line["setting"] == setting and line["peer"] == "limit"
        }
        return [value / base[number] for number, value in found.items() if base.get(number)]

    def median(self, setting, peer, name, ratio=False):
        values = self.values(setting, peer, name, ratio)
        return statistics.median(values) if values else None


def shown(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def cell(values):
    if not values:
        return "-"
    return f"{shown(statistics.median(values))} [{shown(min(values))}..{shown(max(values))}]"


def peer_table(lines, name, ratio=False, peers=PEERS):
    """A row for each setting, a column for each peer."""
    rows = ["| | " + " | ".join(peers) + " |", "| --- " * (len(peers) + 1) + "|"]
    for setting in lines.settings:
        cells = [cell(lines.values(setting, peer, name, ratio)) for peer in peers]
        rows.append(f"| {setting} | " + " | ".join(cells) + " |")
    return rows


IDLE_ROWS = [
    ("rss_per_conn", "RSS per idle user, bytes"),
    ("after_rss_per_conn", "RSS per user after traffic, bytes"),
    ("cpu_us", "CPU per login, us"),
    ("per_s", "logins per second"),
    ("idle_cpu_pct", "CPU while idle, percent"),
]


def idle_table(lines):
    rows = ["| | " + " | ".join(PEERS) + " |", "| --- " * (len(PEERS) + 1) + "|"]
    for name, label in IDLE_ROWS:
        for setting in lines.settings:
            cells = [cell(lines.values(setting, peer, name, False)) for peer in PEERS]
            rows.append(f"| {label}, {setting} | " + " | ".join(cells) + " |")
    return rows


def alone_table(lines):
    rows = [
        "| usher-bench | per second | broker CPU, us each | p50, us | p99, us |",
        "| --- | --- | --- | --- | --- |",
    ]
    for setting in lines.settings:
        peer = "reqrep" if "REQ/REP" in setting else "usher"
        cells = [
            cell(lines.values(setting, peer, name, False))
            for name in ("per_s", "cpu_us", "p50_us", "p99_us")
        ]
        rows.append(f"| {setting} | " + " | ".join(cells) + " |")
    return rows


def beside_table(lines):
    rows = ["| 1,000 users talk | limit, us | usher, us | ratio |", "| --- | --- | --- | --- |"]
    for setting in sorted(lines.settings, key=lambda text: int(text.split(",")[0][2:])):
        cells = [
            cell(lines.values(setting, peer, "cpu_us", ratio))
            for peer, ratio in (("limit", False), ("usher", False), ("usher", True))
        ]
        rows.append(f"| {setting} | " + " | ".join(cells) + " |")
    return rows


def threads_table(lines):
    rows = [
        "| | messages per second | broker CPU, us each | "
        "share of the second busiest thread, % |",
        "| --- | --- | --- | --- |",
    ]
    for setting in lines.settings:
        for peer in ("io=1", "io=2"):
            cells = [
                cell(lines.values(setting, peer, name, False))
                for name in ("per_s", "cpu_us", "second_share")
            ]
            rows.append(f"| {setting}, {peer} | " + " | ".join(cells) + " |")
    return rows


ROOM_PEERS = ("limit", "usher", "PushAll", "redis", "nats", "mosquitto")
TICK_PEERS = ("limit", "usher", "tick 20 ms", "tick 50 ms", "redis", "nats", "mosquitto")
LARGE_COLUMNS = [
    ("per_s", "per second"),
    ("cpu_us", "CPU, us each"),
    ("p50_us", "p50, us"),
    ("p99_us", "p99, us"),
    ("turns_over_1_ms", "turns over 1 ms"),
    ("turns_over_2_5_ms", "over 2.5 ms"),
    ("turns_timed", "of turns timed"),
]
AWAY_COLUMNS = [
    ("per_s", "deliveries per second"),
    ("cpu_us", "CPU, us each"),
    ("broker_grown_bytes", "memory of the broker, bytes more"),
    ("recovered", "recovered"),
    ("unrecovered", "no more there"),
]
FRIENDS_COLUMNS = [
    ("frames", "frames"),
    ("frame_bytes", "bytes"),
    ("broker_cpu_s", "CPU, s"),
    ("last_login_s", "last login, s"),
    ("all_known_s", "all know all, s"),
    ("broker_grown_bytes", "memory, bytes more"),
    ("herd_cpu_s", "herd: CPU, s"),
    ("herd_beyond", "herd: frames beyond snapshots"),
]


STORED_COLUMNS = [
    ("p50_us", "login p50, us"),
    ("p90_us", "p90"),
    ("p99_us", "p99"),
    ("cpu_us", "CPU of usherd for each login, us"),
    ("stored_per_s", "stored a second"),
]


def figure_table(lines, columns, peers=("usher",)):
    """A row for each setting and peer, a column for each figure."""
    rows = [
        "| | " + " | ".join(label for _, label in columns) + " |",
        "| --- " * (len(columns) + 1) + "|",
    ]
    for setting in lines.settings:
        for peer in peers:
            cells = [cell(lines.values(setting, peer, name, False)) for name, _ in columns]
            if any(text != "-" for text in cells):
                label = setting if len(peers) == 1 else f"{setting}: {peer}"
                rows.append(f"| {label} | " + " | ".join(cells) + " |")
    return rows


def stored_table(lines):
    """Logins alone and beside, and by how much the latter take longer in the same round."""
    rows = figure_table(lines, STORED_COLUMNS)
    if len(lines.settings) != 2:
        return rows
    alone, beside = sorted(lines.settings, key=len)
    ratios = []
    for name, _ in STORED_COLUMNS:
        pairs = zip(
            lines.values(alone, "usher", name, False), lines.values(beside, "usher", name, False)
        )
        ratios.append(cell([after / before for before, after in pairs]))
    return rows + ["| of the same round, beside : alone | " + " | ".join(ratios) + " |"]


def replace(text, name, rows):
    """Puts the rows between the marks of that name."""
    opening, closing = f"<!-- measured: {name} -->", "<!-- /measured -->"
    before, mark, rest = text.partition(opening)
    if not mark:
        raise SystemExit(f"docs/performance.md has no mark for {name}")
    behind = rest[rest.index(closing) :]
    return before + opening + "\n" + "\n".join(rows) + "\n" + behind


# --- plots ---------------------------------------------------------------------------------------

HEAD = """set terminal svg size 760,420 font 'sans,12' background 'white'
set output '{path}'
set title "{title}"
set grid ytics lc rgb '#dddddd'
set key outside right top
set datafile missing '-'
"""
COLOURS = {
    "limit": "#888888",
    "usher": "#c03030",
    "redis": "#3060c0",
    "nats": "#30a060",
    "mosquitto": "#c09020",
}


def block(rows):
    return "\n".join(
        " ".join("-" if value is None else str(value) for value in row) for row in rows
    )


def plot(path, title, setup, data, clauses):
    script = HEAD.format(path=path, title=title) + setup
    script += "$data << EOD\n" + block(data) + "\nEOD\nplot " + ", ".join(clauses) + "\n"
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def line_plot(folder, name, title, lines, figure, x_of, setup, ratio=False):
    data = [
        [x_of(setting)] + [lines.median(setting, peer, figure, ratio) for peer in PEERS]
        for setting in lines.settings
    ]
    clauses = [
        f"$data using 1:{number + 2} with linespoints lw 2 pt 7 ps 0.6 "
        f"lc rgb '{COLOURS[peer]}' title '{peer}'"
        for number, peer in enumerate(PEERS)
    ]
    if data:
        plot(os.path.join(folder, f"{name}.svg"), title, setup, data, clauses)


def cost_plot(folder, lines):
    data = [
        [f'"{setting}"'] + [lines.median(setting, peer, "cpu_us", True) for peer in PEERS]
        for setting in lines.settings
    ]
    setup = (
        "set style data histograms\nset style histogram clustered gap 1\n"
        "set style fill solid 0.9 border -1\nset logscale y 2\nset yrange [0.5:32]\n"
        "set ylabel 'CPU per message, limit = 1'\nset xtics rotate by -15\n"
    )
    clauses = [
        f"$data using {number + 2}:xtic(1) lc rgb '{COLOURS[peer]}' title '{peer}'"
        for number, peer in enumerate(PEERS)
    ]
    if data:
        plot(
            os.path.join(folder, "cost.svg"), "Cost of a message, closed loop", setup, data, clauses
        )


def users_of(setting):
    return int(setting.split()[0])


def rate_of(setting):
    return int(setting.rsplit(", ", 1)[1].split("/")[0])


def write_plots(folder, groups):
    os.makedirs(folder, exist_ok=True)
    cost_plot(folder, groups["forward"])
    for figure in ("p50", "p99"):
        line_plot(
            folder,
            f"latency-{figure}",
            f"Latency against rate, {figure}, 1,000 users",
            groups["open"],
            f"{figure}_us",
            rate_of,
            "set logscale xy\nset xlabel 'messages per second'\nset ylabel 'us'\n",
        )
    line_plot(
        folder,
        "cost-rate",
        "Cost of a message against rate, 1,000 users",
        groups["open"],
        "cpu_us",
        rate_of,
        "set logscale x\nset yrange [0:*]\nset xlabel 'messages per second'\n"
        "set ylabel 'us of CPU per message'\n",
    )
    line_plot(
        folder,
        "memory",
        "Memory of the server per idle user",
        groups["idle"],
        "rss_per_conn",
        users_of,
        "set logscale xy\nset xlabel 'users'\nset ylabel 'bytes of RSS per user'\n",
    )
    line_plot(
        folder,
        "cost-users",
        "Cost of a message against users, W=1, 32 B",
        groups["users"],
        "cpu_us",
        users_of,
        "set logscale x\nset yrange [0:*]\nset xlabel 'users'\n"
        "set ylabel 'us of CPU per message'\n",
    )


def write_all(folder, docs):
    """Tables and plots of every group that has raw lines; the others stay as they are."""
    groups = {
        name: Lines(folder, name)
        for name in (
            *("forward", "open", "fanout", "users", "beside", "threads", "idle", "alone"),
            *("rooms", "rooms-open", "rooms-large", "rooms-away", "friends", "stored"),
        )
    }
    tables = {
        "forward-ratio": ("forward", lambda lines: peer_table(lines, "cpu_us", True)),
        "forward-cpu": ("forward", lambda lines: peer_table(lines, "cpu_us")),
        "forward-rate": ("forward", lambda lines: peer_table(lines, "per_s")),
        "open-ratio": ("open", lambda lines: peer_table(lines, "cpu_us", True)),
        "open-p50-ratio": ("open", lambda lines: peer_table(lines, "p50_us", True)),
        "open-p50": ("open", lambda lines: peer_table(lines, "p50_us")),
        "open-p99": ("open", lambda lines: peer_table(lines, "p99_us")),
        "fanout-ratio": ("fanout", lambda lines: peer_table(lines, "cpu_us", True)),
        "fanout-cpu": ("fanout", lambda lines: peer_table(lines, "cpu_us")),
        "users-cpu": ("users", lambda lines: peer_table(lines, "cpu_us")),
        "users-ratio": ("users", lambda lines: peer_table(lines, "cpu_us", True)),
        "beside": ("beside", beside_table),
        "threads": ("threads", threads_table),
        "idle": ("idle", idle_table),
        "alone": ("alone", alone_table),
        "rooms-ratio": ("rooms", lambda lines: peer_table(lines, "cpu_us", True, ROOM_PEERS)),
        "rooms-cpu": ("rooms", lambda lines: peer_table(lines, "cpu_us", False, ROOM_PEERS)),
        "rooms-p50": ("rooms", lambda lines: peer_table(lines, "p50_us", False, ROOM_PEERS)),
        "rooms-open": ("rooms-open", lambda lines: peer_table(lines, "cpu_us", False, TICK_PEERS)),
        "rooms-open-p99": (
            "rooms-open",
            lambda lines: peer_table(lines, "p99_us", False, TICK_PEERS),
        ),
        "rooms-large": (
            "rooms-large",
            lambda lines: figure_table(lines, LARGE_COLUMNS, ("limit", "usher")),
        ),
        "rooms-away": ("rooms-away", lambda lines: figure_table(lines, AWAY_COLUMNS)),
        "friends": ("friends", lambda lines: figure_table(lines, FRIENDS_COLUMNS)),
        "stored": ("stored", stored_table),
    }
    path = os.path.join(docs, "performance.md")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for name, (group, make) in tables.items():
        if groups[group].lines:
            text = replace(text, name, make(groups[group]))
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    write_plots(os.path.join(docs, "plots"), groups)
