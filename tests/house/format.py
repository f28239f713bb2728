#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""One hand: what is written in C, Python, shell, JavaScript and TypeScript looks as its formatter writes it.

    format.py ROOT check|write [c|python|shell|javascript]

clang-format (.clang-format), black and shfmt are Debian's; prettier is fetched by cmake/npm. Of C it
also sees what clang-format leaves: the argument of a file stands behind its includes, sizeof has its
parentheses, a function has no empty lines (but in tests), and what stands above a section is one
line. Ends with 77 when a tool is not there."""

import os
import re
import shutil
import subprocess
import sys
import tempfile

SKIP = 77
ESSAY_FIRST = re.compile(
    r"\A/\* SPDX[^\n]*\n\n?/\*(?:[^*]|\*(?!/))*\*/\n\n?(?:#include|#define _GNU)"
)
# The line above a section, which clang-format breaks in two when it is longer than the others.
BROKEN_BAR = re.compile(r"^/\* ---(?:[^\n]*---)?\n|^/\* --- [^\n]*\n \*(?:/| -+ \*/| \*/)", re.M)
BARE_SIZEOF = re.compile(r"\bsizeof [*\w]")

# From the brace that begins a function to the one that ends it.
FUNCTION = re.compile(r"^\{\n(.*?)^\}$", re.M | re.S)


def tracked(root, *patterns):
    listed = subprocess.run(
        ["git", "-C", root, "ls-files", "-co", "--exclude-standard", *patterns],
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(
        name
        for name in listed.stdout.split("\n")
        if name and os.path.isfile(os.path.join(root, name))
    )


def scripts(root, program):
    """Those that this program runs, by their first line: some have no ending."""
    found = []
    for name in tracked(root):
        with open(os.path.join(root, name), "rb") as file:
            if re.match(rb"#!.*\b" + program + rb"\b", file.readline()):
                found.append(name)
    return found


def run(root, command, files):
    """Gives the lines that it printed; all files at once, because starting takes the time."""
    if not files:
        return []  # some of them would complain, and one would read what is typed
    done = subprocess.run(command + files, cwd=root, capture_output=True, text=True)
    text = done.stdout + (done.stderr if done.returncode else "")
    return [line for line in text.split("\n") if line] or (["failed"] if done.returncode else [])


def c(root, write):
    files = tracked(root, "*.c", "*.h")
    lines = run(
        root,
        ["clang-format", "--style=file"] + (["-i"] if write else ["--dry-run", "-Werror"]),
        files,
    )
    lines = [line for line in lines if "error:" in line or "failed" in line]
    for name in files:
        with open(os.path.join(root, name), encoding="utf-8") as file:
            text = file.read()
        code = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
        if ESSAY_FIRST.match(text) and name.endswith(".c"):
            lines.append(f"{name}: its argument stands before the includes")
        if BROKEN_BAR.search(text):
            lines.append(f"{name}: a section's line is broken in two")
        if BARE_SIZEOF.search(code):
            lines.append(f"{name}: sizeof without parentheses")
        if not name.startswith("tests/") and any("\n\n" in body for body in FUNCTION.findall(text)):
            lines.append(f"{name}: an empty line in a function")
    return lines


def python(root, write):
    files = sorted({*tracked(root, "*.py"), *scripts(root, b"python3?")})
    return run(root, ["black", "-q", "-l", "100"] + ([] if write else ["--diff"]), files)


def shell(root, write):
    return run(
        root, ["shfmt", "-i", "4", "-ci"] + (["-w"] if write else ["-l"]), scripts(root, b"(ba)?sh")
    )


def javascript(root, write):
    here = os.path.dirname(os.path.abspath(__file__))
    return run(
        root,
        ["node", f"{here}/javascript.mjs", f"{root}/build/prettier", "write" if write else "check"],
        tracked(root, "*.js", "*.mjs", "*.ts"),
    )


LANGUAGES = {
    "c": (c, "clang-format"),
    "python": (python, "black"),
    "shell": (shell, "shfmt"),
    "javascript": (javascript, "node"),
}


def has_tools(root, language):
    prettier = language != "javascript" or os.path.exists(f"{root}/build/prettier/standalone.mjs")
    return shutil.which(LANGUAGES[language][1]) is not None and prettier


def main(root, verb, *languages):
    if verb == "planted":
        return planted(root, languages)
    lines, missing = [], 0
    for language in languages or LANGUAGES:
        if not has_tools(root, language):
            print(f"{language}: {LANGUAGES[language][1]} is not there")
            missing += 1
            continue
        lines += LANGUAGES[language][0](root, verb == "write")
    print("\n".join(lines[:60]))
    if lines and verb == "check":
        print("./dev format writes them anew")
    return 1 if lines else SKIP if missing else 0


PLANTED = {
    "a.c": "int main(void) {return 0;}\n",
    "b.c": "/* SPDX */\n/* Why. */\n#include <stdio.h>\n",
    "c.c": "int a;\n\n/* --- a section ---\n */\n\nint b;\n",
    "d.c": "static const int size = sizeof size;\n",
    "e.c": "int main(void)\n{\n    int x = 0;\n\n    return x;\n}\n",
    "a.py": "x = { 'a':1 }\n",
    "no_ending": "#!/usr/bin/python3\nx = { 'a':1 }\n",
    "a.sh": "#!/bin/sh\nif true\nthen\n  true\nfi\n",
    "a.js": "const a = {b:1}\n",
    "a.ts": "const a: {b:number} = {b:1}\n",
}


def planted(root, languages):
    """One file of each fault, alone in a repository: the check finds it."""
    for language in languages or LANGUAGES:
        if not has_tools(root, language):
            return SKIP
    for name, text in PLANTED.items():
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["git", "init", "-q", folder], check=True)
            shutil.copy(f"{root}/.clang-format", folder)
            os.makedirs(f"{folder}/build")
            os.symlink(f"{root}/build/prettier", f"{folder}/build/prettier")
            with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
                file.write(text)
            if not any(check(folder, False) for check, _ in LANGUAGES.values()):
                print(f"nobody found anything in {name}: {text}")
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
