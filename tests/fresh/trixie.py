# SPDX-License-Identifier: Apache-2.0
"""Debian 13, with its own compiler and libraries: the broker, its programs and the unit tests are built
and run there (`./dev units`)."""

import sys

import root


def inside(place):
    process = place.start("./dev", "units")
    lines = [line.rstrip() for line in process.stdout]
    if process.wait() != 0:
        print("\n".join(lines[-100:]))
        raise AssertionError(f"./dev units ended with {process.returncode}")
    compiler = place.run("gcc", "--version").splitlines()[0]
    verdict = next(line for line in reversed(lines) if "tests passed" in line)
    versions = place.run(
        "dpkg-query", "-W", "-f", "${Package} ${Version}, ", "libnng1", "libprotobuf-c1"
    )
    print(f"     {compiler}; {versions.strip(', ')}")
    print(f"ok   Debian 13: {verdict}")


sys.exit(root.main(__file__, "trixie", inside))
