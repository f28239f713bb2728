# SPDX-License-Identifier: Apache-2.0
"""The load generator of ./dev bench loses nothing of its own before the bare loop and before usher: each scenario
once, small. Nothing is measured."""

import importlib.machinery
import importlib.util
import os
import socket
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)


def free_ports():
    """A port from which on a handful is free, below those that the system gives away."""
    for base in range(21000, 31000, 50):
        try:
            for port in range(base, base + 8):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return base
        except OSError:
            continue
    raise SystemExit("no free ports")


os.environ["BASE_PORT"] = str(free_ports())

from bench_servers import Servers  # noqa: E402

loader = importlib.machinery.SourceFileLoader("bench_run", os.path.join(HERE, "run"))
bench = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench_run", loader))
loader.exec_module(bench)

USUAL = ("-u", 60, "-s", 64)
SCENARIOS = {
    "forward": ("-S", "forward", "-w", 2, "-t", 0.3, "-W", 0.1, *USUAL),
    "idle": ("-S", "idle", "-T", 0.2, "-a", 4, *USUAL),
}


def main():
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        bench.OUT = folder
        bench.compile_programs()
        for peer in ("limit", "usher"):
            with Servers(folder) as servers:
                servers.start(peer)
                for name, arguments in SCENARIOS.items():
                    figures = servers.load(peer, *arguments)
                    faults = {key: figures[key] for key in bench.WRONG if figures.get(key)}
                    if faults or "error" in figures:
                        wrong.append(f"{name} before {peer}: {faults or figures}")
                    print(f"{name} before {peer}: {'wrong' if wrong else 'ok'}", flush=True)
    if wrong:
        raise SystemExit("\n".join(wrong))


main()
