# SPDX-License-Identifier: Apache-2.0
"""Command lines in the documentation, beside what the programs themselves say in their --help: each
command, each option and each setting is there."""

import os
import re
import subprocess

NAMES = (
    "usherd",
    "usher",
    "usherctl",
    "usher-store",
    "usher-token",
    "usher-bench",
    "usher-echo",
)
# Where a program's name is a command: at the beginning of a line or of a quote, or behind what takes one.
BEFORE = r"(?:^|[|;&(`]|\$ |\b(?<!podman )(?:sudo|exec|until|do|then|if|!|env)\b)[ \t]*(?:-u usher )?(?:[A-Z_]+=\S+ )*"
PROGRAM = re.compile(
    BEFORE + r"(?:[\w./]*/)?(" + "|".join(sorted(NAMES, key=len, reverse=True)) + r")(?![\w.-])"
    r"((?:[ \t]+(?:'[^']*'|\"[^\"]*\"|[^\s|;&()<>#`]+))*)",
    re.M,
)
WORD = re.compile(r"'[^']*'|\"[^\"]*\"|\S+")
SETTING = re.compile(r"--set[ =]'?\"?([a-z]+\.[a-z_.]+)=")


class Programs:
    """What each program takes: options, those of them with a value, and commands."""

    def __init__(self, build):
        self.options, self.valued, self.commands = {}, {}, {}
        for name in NAMES:
            told = subprocess.run(
                [os.path.join(build, "bin", name), "--help"],
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
            )
            self.read(name, told.stdout + told.stderr)
        self.commands["usher"] |= {"chat"}

    def read(self, name, text):
        self.options[name] = set(re.findall(r"(?<![\w-])(--?[a-zA-Z][\w-]*)", text)) | {"--help"}
        self.options[name] |= {"--version"}
        self.valued[name] = set(
            re.findall(r"(?<![\w-])(--?[a-zA-Z][\w-]*)[ =](?:[A-Z][\w:|-]*|[a-z]+=|<)", text)
        ) | set(re.findall(r"\[(--?[a-z-]+) (?:[A-Z]+|[a-z]+)\]", text))
        first = re.escape(name) + r" +([a-z][a-z-]+)\b"
        self.commands[name] = set(re.findall(r"^(?:usage: |Usage: |       |)" + first, text, re.M))
        listed = re.search(r"^(?:Commands|Scenarios):$(.*?)(?=^\S|\Z)", text, re.M | re.S)
        if listed:
            self.commands[name] |= set(re.findall(r"^  ([a-z][a-z-]+)", listed[1], re.M))

    def faults_of(self, name, rest):
        """What is wrong with the words behind a program's name."""
        words, command, value = WORD.findall(rest), None, False
        for word in words:
            option = re.match(r"--?[a-zA-Z][\w-]*", word)
            if value:
                value = False
            elif word == "--":
                return
            elif option and not re.match(r"-\d", word):
                if option[0] not in self.options[name]:
                    yield f"{name} has no option {option[0]}"
                value = option[0] in self.valued[name] and "=" not in word
            elif command is None and self.commands[name] and re.fullmatch(r"[a-z][a-z-]+", word):
                command = word
                if word not in self.commands[name]:
                    yield f"{name} has no command {word}"
            else:
                command = command or word


def code_of(text):
    """Blocks and quotes, with all else blanked out, so that places stay; lines that go on are one."""
    blank = lambda part: re.sub(r"[^\n]", " ", part)  # noqa: E731
    kept, at = [], 0
    for found in re.finditer(
        r"^```(\w*)\n.*?^```|(?:(?<=\n\n)|\A)(?:    \S[^\n]*\n?)+|`[^`\n]+`", text, re.M | re.S
    ):
        kept.append(blank(text[at : found.start()]))
        kept.append(re.sub(r"^    (?=\S)", "    ", found[0], flags=re.M))
        at = found.end()
    kept.append(blank(text[at:]))
    return re.sub(r"\\\n", "  ", "".join(kept))


def command_lines(source, page, text):
    code = code_of(text)
    flat = re.sub(
        r"^    ", "", code, flags=re.M
    )  # only to find commands at the beginning of a line
    for found in PROGRAM.finditer(flat):
        for fault in source.programs.faults_of(found[1], found[2].split(" #")[0]):
            yield place_of(text, found[1] + found[2]), fault
    for found in SETTING.finditer(code):
        if found[1] not in source.options:
            yield text.find(found[1]), f"no option {found[1]}"


def place_of(text, words):
    """Where in the page that stands; its first word, when it goes over lines."""
    place = text.find(words)
    return place if place >= 0 else max(0, text.find(words.split()[0]))


def yaml_blocks(source, page, text):
    """Keys of a block of YAML that is a configuration of usherd: it has a section of it."""
    for block in re.finditer(r"^```yaml\n(.*?)^```", text, re.M | re.S):
        section = None
        for found in re.finditer(r"^( *)([a-z_.]+):(.*)$", block[1], re.M):
            place, key = block.start(1) + found.start(), found[2]
            if not found[1]:
                section = key if key in source.sections else None
                if "." in key and key.split(".")[0] in source.sections:
                    if key not in source.options:
                        yield place, f"no option {key}"
            elif section and len(found[1]) == 2 and f"{section}.{key}" not in source.options:
                yield place, f"no option {section}.{key}"


KINDS = (command_lines, yaml_blocks)

PLANTED = (
    ("type `usherctl whoo`", "usherctl has no command whoo"),
    ("type `usherctl who --prefx a`", "usherctl has no option --prefx"),
    ("    usherctl --url ipc://x whoo\n", "usherctl has no command whoo"),
    ("    sudo -u usher usherd --chek-config\n", "usherd has no option --chek-config"),
    ("    usher lisen --user a\n", "usher has no command lisen"),
    ("```\n$ usher listen \\\n    --usr a\n```\n", "usher has no option --usr"),
    ("    build/release/bin/usher-store chek data\n", "usher-store has no command chek"),
    ("    ./dev run --set limits.nothing=1\n", "no option limits.nothing"),
    ("    usherd --set 'nothing.at_all=1'\n", "no option nothing.at_all"),
    ("```yaml\nlimits:\n  nothing: 5\n```\n", "no option limits.nothing"),
    ("```yaml\nlimits.nothing: 5\n```\n", "no option limits.nothing"),
)
SOUND = """`usherctl --url ipc://x --token-file link.token who --prefix a`, `usher --user alice`, `usherctl`

    usher send --user alice --to bob "hello" | usherctl count && echo usherctl whoo
    export A=b; usherctl push bob "text with words" --transient     # usherctl nothing
    usher-token sign --keys k --sub alice --ttl -5 --out t
    usherd --set limits.users=5 --config usherd.yaml

```yaml
scrape_configs:
  - job: usher
limits:
  users: 5
```
"""
