#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The reference says what the source says: codes, reasons, exit codes, options, events, numbers.

    reference.py ROOT BUILD"""

import os
import re
import subprocess
import sys

import rows

ROOT, BUILD = sys.argv[1:]


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


def part(text, title):
    """What stands under a heading, up to the next one."""
    return re.search(rf"^#+ {re.escape(title)}$(.*?)(?=^#|\Z)", text, re.M | re.S)[1]


def enum(schema, message, name):
    """{word: number} of an enum inside of a message; NONE stands for no value."""
    body = re.search(
        rf"^message {message} \{{$(.*?)^\}}$", read(f"proto/{schema}.proto"), re.M | re.S
    )[1]
    body = re.search(rf"^  enum {name} \{{$(.*?)^  \}}$", body, re.M | re.S)[1]
    found = {word: int(number) for word, number in re.findall(r"(\w+) = (\d+);", body)}
    found.pop("NONE", None)
    return found


def numbered_rows(text):
    """{word: number} of rows like `| 3 | WORD | ...`."""
    return {word: int(number) for number, word in re.findall(r"^\| (\d+) \| (\w+) \|", text, re.M)}


def first_cells(text):
    return re.findall(r"^\| `([^`]+)` \|", text, re.M)


def table(text, name):
    return re.search(
        rf"^<!-- generated: {name} -->\n(.*?)^<!-- /generated -->$", text, re.M | re.S
    )[1]


def names(path, pattern):
    return re.findall(pattern, re.sub(r"/\*.*?\*/", "", read(path), flags=re.S))


def checks():
    protocol, operations = read("docs/protocol.md"), read("docs/operations.md")
    yield (
        "errors of clients",
        numbered_rows(part(protocol, "1.3 Errors")),
        enum("client", "Error", "Code"),
    )
    yield (
        "close reasons",
        numbered_rows(part(protocol, "1.4 Close reasons")),
        enum("client", "Close", "Reason"),
    )
    told = re.search(r"Result codes: (.*?)\.\n", part(protocol, "2.4 Commands"), re.S)[1]
    yield (
        "result codes",
        {word: int(number) for word, number in re.findall(r"([A-Z_]{2,}) (\d+)", told)},
        enum("backend", "Result", "Code"),
    )
    yield (
        "refusals of the link",
        numbered_rows(part(protocol, "2.5 Refusals")),
        enum("backend", "Refused", "Code"),
    )
    yield (
        "exit codes",
        [int(code) for code in re.findall(r"^\| (\d+) \|", part(operations, "Exit codes"), re.M)],
        sorted(
            {0}
            | {
                int(code)
                for code in names("broker/process/failure.h", r"\bEXIT_\w+ = (\d+)")
                + names("broker/config/config.h", r"\bCONFIG_\w+ = (\d\d+)")
            }
        ),
    )
    yield (
        "exit codes of the manual",
        re.findall(r"^\.B (\d+)$", read("docs/man/usherd.8.in"), re.M),
        re.findall(r"^\| (\d+) \|", part(operations, "Exit codes"), re.M),
    )
    printed = subprocess.run(
        [os.path.join(BUILD, "bin/usherd"), "--print-options-markdown"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    yield "options", table(operations, "options"), printed
    printed = subprocess.run(
        [os.path.join(BUILD, "bin/usherd"), "--print-relations-markdown"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    yield "relations of options", table(operations, "relations"), printed
    yield (
        "log events",
        first_cells(table(operations, "events")),
        names("broker/base/log.def", r"LOG_EVENT\(\w+, \w+,\s*\"(\w+)\""),
    )
    yield (
        "numbers",
        first_cells(table(operations, "metrics")),
        rows.numbers(ROOT),
    )


def main():
    wrong = 0
    for what, told, true in checks():
        if not true or told != true:
            print(
                f"{what}: the page says\n  {told}\nthe source\n  {true}\n(./dev docs writes the "
                "generated tables)"
            )
            wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
