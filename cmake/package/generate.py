# SPDX-License-Identifier: Apache-2.0
"""Man pages and shell completion, made from what the programs say of themselves, so that they
cannot differ from them.

    generate.py man PAGE.in VERSION DATE PROGRAM OUTPUT
    generate.py completion PROGRAM OUTPUT"""

import os
import re
import subprocess
import sys

# What follows these on a command line is a file.
FILES = {"--config", "--token-file", "--ca", "--certificate", "--key", "--keys", "--out", "--add"}

SCRIPT = """# SPDX-License-Identifier: Apache-2.0
# bash completion for @NAME@; generated from its --help.
_@FUNCTION@()
{
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} words
    COMPREPLY=()
    case $previous in
    --set)
        compopt -o nospace 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -S = -W '@SETTINGS@' -- "$word")
        return
        ;;
    @FILES@)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
        ;;
    esac
    words='@OPTIONS@'
    [[ $word != -* ]] && ((COMP_CWORD > 0)) && words='@COMMANDS@'
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _@FUNCTION@ @NAME@
"""


def output_of(program, argument):
    return subprocess.run([program, argument], check=True, text=True, capture_output=True).stdout


def options_of(text):
    return sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z-]*|(?<![\w-])-[A-Za-z]\b", text)))


def commands_of(name, text):
    """Words behind the name in the usage, and the first words of what is listed as a command."""
    found = set(re.findall(rf"^(?:[Uu]sage:)? *{name} +\[?([a-z][a-z-]*)\]?(?= |$)", text, re.M))
    for block in re.findall(r"^(?:Commands|Scenarios):\n((?:  .*\n)+)", text, re.M):
        found |= set(re.findall(r"^  ([a-z][a-z-]*)", block, re.M))
    return sorted(found)


def options_table(program):
    """[(key, default, accepted, help)] of usherd."""
    rows = []
    for line in output_of(program, "--print-options-markdown").splitlines()[2:]:
        cells = re.split(r"(?<!\\) \| ", line[2:-2])
        rows.append([cell.replace("\\|", "|").strip("`") for cell in cells])
    return rows


def relations_table(program):
    """[(what has to hold, what goes wrong, refused or told)] of usherd's options."""
    return [
        re.split(r"(?<!\\) \| ", line[2:-2])
        for line in output_of(program, "--print-relations-markdown").splitlines()[2:]
    ]


def completion(program):
    name = os.path.basename(program)
    text = output_of(program, "--help")
    settings = []
    if name == "usherd":
        settings = [row[0] for row in options_table(program)]
        text = text.partition("\nOptions:")[0]
    values = {
        "NAME": name,
        "FUNCTION": name.replace("-", "_"),
        "SETTINGS": " ".join(settings),
        "FILES": " | ".join(sorted(FILES)),
        "OPTIONS": " ".join(options_of(text)),
        "COMMANDS": " ".join(commands_of(name, text)),
    }
    return re.sub("@([A-Z]+)@", lambda match: values[match.group(1)], SCRIPT)


def escape(text):
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return re.sub(r"^\.", "\\\\&.", text, flags=re.M)


def man(page, version, date, program):
    with open(page, encoding="utf-8") as file:
        source = file.read()
    text = output_of(program, "--help")
    if os.path.basename(program) == "usherd":
        text = text.partition("\nOptions:")[0]
    values = {
        "VERSION": lambda: version,
        "DATE": lambda: date,
        "HELP": lambda: f".nf\n{escape(text.strip())}\n.fi",
        "OPTIONS": lambda: "\n".join(
            f".TP\n.B {escape(key)}\nDefault {escape(default)}; {escape(accepted)}. Changes by {changes}.\n.br\n"
            f"{escape(meaning)}"
            for key, default, accepted, changes, meaning in options_table(program)
        ),
        "RELATIONS": lambda: "\n".join(
            f".TP\n{escape(holds)}\n{escape(how)}; otherwise {escape(why)}."
            for holds, why, how in relations_table(program)
        ),
    }
    return re.sub("@([A-Z]+)@", lambda match: values[match.group(1)](), source)


def main():
    *arguments, output = sys.argv[1:]
    made = {"man": man, "completion": completion}[arguments[0]](*arguments[1:])
    with open(output, "w", encoding="utf-8") as file:
        file.write(made)


main()
