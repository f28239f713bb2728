# SPDX-License-Identifier: Apache-2.0
"""Rows of the tables in broker/base/*.def, as the compiler reads them: a table may include another
one and make rows of each of its rows."""

import os
import re
import subprocess

NUMBERS = ("COUNTER", "GAUGE", "READING", "HISTOGRAM")


def numbers(root):
    """The names of metrics.def, in its order."""
    source = "".join(f"#define {kind}(name, ...) ROW name END\n" for kind in NUMBERS)
    read = subprocess.run(
        ["gcc", "-E", "-P", "-x", "c", "-I", os.path.join(root, "broker"), "-"],
        input=source + '#include "base/metrics.def"\n',
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return re.findall(r"\bROW (\w+) END", read)
