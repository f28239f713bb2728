#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs what a page of the documentation tells its reader to type.

A page is one story: its blocks run in order, in a folder that looks like a fresh clone with the
build done, and what they leave (files, programs in the background, exported variables) stays for
the later ones. A comment above a block, which a reader does not see, says what becomes of it:

    <!-- run -->                        each command ends with 0
    <!-- run: exit 1 -->                the last one ends with that
    <!-- run: until TEXT -->            goes on in the background; waits for TEXT in its output
    <!-- run: input TEXT -->            TEXT, \\n and all, is typed into it
    <!-- run: as NAME -->               not commands: the block becomes that file
    <!-- not run: REASON -->            for what a test cannot or must not do
    <!-- first: COMMAND -->             what the page takes for granted: a command of its own,
    <!-- first until TEXT: COMMAND -->  or one in the background

In a block with `$ ` before its commands the lines in between are what they print; `...` stands for
any text, alone on its line for any lines, and long numbers, dates and times may differ. A block that
begins like a command and has no comment is an error: nothing in the book goes untested by
oversight.

    book.py ROOT BUILD PAGE"""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time

PROGRAMS = re.compile(
    r"(\$ |sudo |\./|usherd?\b|usher-|usherctl\b|curl\b|cc\b|cmake\b|git\b|export\b|protoc\b|nngcat\b|"
    r"kill\b|systemctl\b|journalctl\b|apt|dpkg\b|podman\b|docker\b|openssl\b|build/|ctest\b|cp\b|cd\b|"
    r"/usr/bin/|python3\b|for \w+ in\b|pkg-config\b|promtool\b|mkdir\b|cat\b|echo\b)"
)
MARK = re.compile(r"<!-- (run|not run)(?:: (.*))? -->$")
FIRST = re.compile(r"<!-- first(?: until (.*?))?: (.*) -->$")
SECRET = re.compile(r"\blink\w*( \w+)? \d{9,}")  # of a link; its number for people is small
SECONDS = 60.0  # for one block; only a hanging one takes that long


class Wrong(Exception):
    """What the page says is not what happens."""


class Block:
    """A block of code: where it stands, its text, and what is to be done with it."""

    def __init__(self, line, text, mark):
        self.line, self.text = line, text
        self.verb, self.argument = mark if mark else (None, None)

    def looks_like_commands(self):
        lines = [
            line
            for line in self.text.split("\n")
            if line.strip() and not line.lstrip().startswith("#")
        ]
        return bool(lines) and PROGRAMS.match(lines[0].lstrip()) is not None


def read_blocks(path):
    with open(path, encoding="utf-8") as file:
        lines = file.read().split("\n")
    blocks, mark, at = [], None, 0
    while at < len(lines):
        first = FIRST.match(lines[at].strip())
        if first:
            what = f"until {first[1]}" if first[1] else None
            blocks.append(Block(at + 1, first[2], ("run", what)))
        found = MARK.match(lines[at].strip())
        if found:
            mark = (found[1], found[2])
        elif lines[at].startswith("```"):
            end = next(i for i in range(at + 1, len(lines)) if lines[i].startswith("```"))
            blocks.append(Block(at + 2, "\n".join(lines[at + 1 : end]), mark))
            mark, at = None, end
        elif lines[at].startswith("    ") and lines[at - 1] == "":
            end = at
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end]):
                end += 1
            text = "\n".join(line[4:] for line in lines[at:end]).rstrip("\n")
            blocks.append(Block(at + 1, text, mark))
            mark, at = None, end - 1
        elif lines[at].strip():
            mark = None
        at += 1
    return blocks


def expected(lines):
    """A regular expression for printed lines."""
    parts = []
    for line in lines:
        if line.strip() == "...":
            parts.append(r"(?:.*\n)*?")
            continue
        pieces = []
        for piece in re.split(r"(\.\.\.|\d{8,}|\d+-\d\d-\d\d|\d+:\d\d:\d\d|\s+)", line.rstrip()):
            if piece == "...":
                pieces.append(".*")
            elif re.fullmatch(r"\d{8,}", piece):
                pieces.append(r"\d+")
            elif re.fullmatch(r"\d+[-:]\d\d[-:]\d\d", piece):
                pieces.append(r"[\d:-]+")
            else:
                pieces.append(r"\s+" if piece.isspace() else re.escape(piece))
        parts.append("".join(pieces) + r"\s*\n")
    return "".join(parts)


class Session:
    """The terminal of one reader."""

    def __init__(self, root, build, folder):
        self.clone = os.path.join(folder, "usher")
        os.makedirs(os.path.join(self.clone, "build"))
        for name in os.listdir(root):
            if name not in ("build", ".git"):
                os.symlink(os.path.join(root, name), os.path.join(self.clone, name))
        os.symlink(build, os.path.join(self.clone, "build", "release"))
        self.state = os.path.join(folder, "state")
        with open(self.state, "w", encoding="utf-8") as file:
            file.write(f"cd {shlex.quote(self.clone)}\n")
        self.environment = dict(
            os.environ,
            HOME=folder,
            LC_ALL="C.UTF-8",
            PATH=f"{build}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        self.background = []
        self.log = open(os.path.join(folder, "output"), "w+", encoding="utf-8")

    def script(self, text):
        return (
            f"set -eo pipefail; . {self.state}\n{text}\n"
            f"{{ export -p; printf 'cd %q\\n' \"$PWD\"; }} >{self.state}"
        )

    def run(self, text, code=0, typed=None):
        """What it printed."""
        with subprocess.Popen(
            ["bash", "-c", self.script(text)],
            env=self.environment,
            stdin=subprocess.PIPE if typed else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            try:
                out, _ = process.communicate(typed and typed.encode(), timeout=SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                out = process.communicate()[0].decode(errors="replace")
                raise Wrong(f"hangs: {text}\n{out}") from None
        printed = out.decode(errors="replace")
        if process.returncode != code:
            raise Wrong(f"ended with {process.returncode} instead of {code}: {text}\n{printed}")
        return printed

    def start(self, text, until):
        output = os.path.join(self.clone, f".output-{len(self.background)}")
        with open(output, "wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", f". {self.state}\n{text}"],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.background.append(process)
        deadline = time.monotonic() + SECONDS
        while True:
            with open(output, encoding="utf-8", errors="replace") as file:
                printed = file.read()
            if SECRET.search(printed):
                raise Wrong(f"shows the secret number of its link: {text}\n{printed}")
            if until in printed:
                return
            if process.poll() is not None or time.monotonic() > deadline:
                raise Wrong(f"never printed {until!r}: {text}\n{printed}")
            time.sleep(0.05)

    def write(self, name, text):
        where = self.run("pwd").strip()
        with open(os.path.join(where, name), "w", encoding="utf-8") as file:
            file.write(text + "\n")

    def close(self):
        for process in reversed(self.background):
            try:
                os.killpg(process.pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
        for process in self.background:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            process.stdin.close()
        self.log.close()


def run_prompted(session, block, code):
    """Commands after `$ `, and between them what they print."""
    rows = []
    for line in block.text.split("\n"):
        if line.startswith("$ "):
            rows.append((line[2:], []))
        elif rows:
            rows[-1][1].append(line)
    for command, lines in rows:
        while lines and not lines[-1].strip():
            lines.pop()
        last = command is rows[-1][0]
        printed = session.run(command, code if last else 0)
        if lines and not re.fullmatch(expected(lines), printed):
            raise Wrong(f"{command}\nshould print\n" + "\n".join(lines) + f"\nprinted\n{printed}")


def run_block(session, block):
    """False: it is not to be run."""
    if block.verb is None:
        if block.looks_like_commands():
            raise Wrong("looks like commands and has no <!-- run --> above it")
        return False
    if block.verb == "not run":
        if not block.argument:
            raise Wrong("does not say why it is not run")
        return False
    kind, _, value = (block.argument or "").partition(" ")
    if kind == "as":
        session.write(value, block.text)
    elif kind == "until":
        session.start(block.text.removeprefix("$ "), value)
    elif kind == "input":
        session.run(block.text, typed=value.encode().decode("unicode_escape"))
    elif kind in ("", "exit"):
        code = int(value or 0)
        if block.text.startswith("$ "):
            run_prompted(session, block, code)
        else:
            session.run(block.text, code)
    else:
        raise Wrong(f"unknown mark: {block.argument}")
    return True


def in_use(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main():
    root, build, page = sys.argv[1:]
    ran = left = 0
    taken = [port for port in (7400, 7480) if in_use(port)]
    with tempfile.TemporaryDirectory(prefix="usher-book-") as folder:
        session = Session(os.path.realpath(root), os.path.realpath(build), folder)
        try:
            for block in read_blocks(os.path.join(root, page)):
                try:
                    if run_block(session, block):
                        ran += 1
                    else:
                        left += block.verb == "not run"
                except Wrong as wrong:
                    print(f"{page}:{block.line}: {wrong}")
                    if taken:
                        print(
                            f"(before the first command somebody listened at {taken}, where the "
                            "book's broker wants to: is it yours?)"
                        )
                    return 1
        finally:
            session.close()
    print(f"{page}: {ran} blocks run, {left} left out with a reason")
    return 0


if __name__ == "__main__":
    sys.exit(main())
