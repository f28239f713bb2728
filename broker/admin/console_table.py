#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""console_table.py OUT.c FILE ...: the files as the table of admin/console.h. At build."""

import gzip
import hashlib
import os
import sys

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
}


def array(name, data):
    rows = [
        ", ".join(str(byte) for byte in data[at : at + 24]) for at in range(0, len(data), 24)
    ] or ["0"]
    return f"static const unsigned char {name}[] = {{\n" + ",\n".join(rows) + "};\n"


def main():
    out, *paths = sys.argv[1:]
    parts = ["/* Made by console_table.py. */\n", '#include "admin/console.h"\n\n']
    table = []
    for number, path in enumerate(sorted(paths)):
        name = os.path.basename(path)
        kind = os.path.splitext(name)[1]
        if kind not in TYPES:
            sys.exit(f"console_table.py: no content type for {path}")
        with open(path, "rb") as file:
            data = file.read()
        packed = gzip.compress(data, 9, mtime=0)
        etag = hashlib.sha256(data).hexdigest()[:20]
        parts += [array(f"data{number}", data), array(f"gzip{number}", packed)]
        table.append(
            f'    {{"/{name}", "{TYPES[kind]}", "\\"{etag}\\"", data{number}, '
            f"{len(data)}, gzip{number}, {len(packed)}}},\n"
        )
    parts += [
        "\nconst struct console_file console_files[] = {\n",
        *table,
        "};\n",
        f"const size_t console_file_count = {len(table)};\n",
    ]
    with open(out, "w") as file:
        file.write("".join(parts))


main()
