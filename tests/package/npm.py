# SPDX-License-Identifier: Apache-2.0
"""The npm packages: packed by npm, looked through, installed from the .tgz into an empty project, and
used there: imported, required, typed, and logged in with at a real usherd.

npm is that of `./dev` (build/npm), or the machine's. `npm.py --keep FOLDER` leaves the archives there."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

from packages import BUILD, SKIPPED, run
from usherplay import Broker, Client, check, check_equal, eventually
from usherplay.schema import REPOSITORY

NPM = os.path.join(REPOSITORY, "build", "npm", "bin", "npm-cli.js")
TYPES = os.path.join(REPOSITORY, "tests", "js", "support", "types.mts")
PATIENCE = 60
ALWAYS = {"package.json", "README.md", "LICENSE"}
# Each with where it is, and a program that is given the broker's addresses for clients and for services; it
# says hello and ends when it has heard it: from itself, or from a user who calls.
PACKAGES = {
    "usher-client": (
        "clients/js/package",
        "usher-client/node",
        "const { connect } = PACKAGE; const client = connect({ url: process.argv[2], user: 'alice' });"
        " client.ready.then(() => client.post('alice', 'hello'));"
        " client.on('message', (m) => { console.log(m.text); client.close(); });",
    ),
    "usher-backend": (
        "clients/js-backend/package",
        "usher-backend",
        "PACKAGE.service('greeter', { link: process.argv[3] }).then((greeter) =>"
        " greeter.on('greet', (call) => { console.log(call.text);"
        " setTimeout(() => greeter.close(), 50); return call.text; }));",
    ),
}


def npm(*words, **options):
    """Without the network, and without what the machine's user has set."""
    command = ["node", NPM] if os.path.exists(NPM) else ["npm"]
    with tempfile.TemporaryDirectory(prefix="usher-npm-") as home:
        environment = {"PATH": os.environ["PATH"], "HOME": home, "npm_config_offline": "true"}
        environment |= {"npm_config_audit": "false", "npm_config_fund": "false"}
        return run(*command, *words, env=environment, **options)


def paths_in(value):
    """The files that a package.json names. (The names of its exports look like it.)"""
    if isinstance(value, dict):
        return [path for inner in value.values() for path in paths_in(inner)]
    return [value[2:]] if isinstance(value, str) and value.startswith("./") else []


def reachable(folder, manifest):
    """What the package names, and what that names."""
    found, todo = set(), paths_in(manifest)
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            text = file.read()
        mapped = re.search(r"^//# sourceMappingURL=(\S+)$", text, re.M)
        todo += [mapped.group(1)] if mapped else []
        if name.endswith((".d.ts", ".d.cts")):
            script, types = (".cjs", ".d.cts") if name.endswith(".d.cts") else (".js", ".d.ts")
            for other in re.findall(r'from "\./([^"]+)"', text):
                check(other.endswith(script), f"{name} names {other}")
                todo.append(other.removesuffix(script) + types)
    return found


def check_packed(name, folder, files):
    """Nothing is missing and nothing is stray, and it says what it is."""
    with open(os.path.join(folder, "package.json"), encoding="utf-8") as file:
        manifest = json.load(file)
    check_equal(sorted(files), sorted(reachable(folder, manifest) | ALWAYS), f"{name}: files")
    check_equal(manifest["name"], name, "name")
    check_equal(manifest["license"], "Apache-2.0", f"{name}: license")
    check_equal(manifest["version"], version_of_project(), f"{name}: version")
    for word in ("dependencies", "scripts", "bin"):
        check(word not in manifest, f"{name} has {word}")
    for file in files:
        with open(os.path.join(folder, file), encoding="utf-8") as text:
            check(REPOSITORY not in text.read(), f"{name}: {file} names this machine's folders")


def version_of_project():
    with open(os.path.join(REPOSITORY, "CMakeLists.txt"), encoding="utf-8") as file:
        return re.search(r"project\(usher VERSION (\S+)", file.read()).group(1)


def pack(name, folder, target):
    """Gives the path of the archive."""
    told = json.loads(npm("pack", "--json", "--pack-destination", target, cwd=folder))[0]
    check_packed(name, folder, [file["path"] for file in told["files"]])
    print(f"     {told['filename']}: {told['entryCount']} files, {told['size']} bytes")
    return os.path.join(target, told["filename"])


def entries(project, name):
    with open(f"{project}/node_modules/{name}/package.json", encoding="utf-8") as file:
        exports = json.load(file)["exports"]
    return [name + path[1:] for path, way in exports.items() if isinstance(way, dict)]


def write(project, name, text):
    with open(os.path.join(project, name), "w", encoding="utf-8") as file:
        file.write(text)


def check_loads(project, name):
    """Each entry, as each kind of program has it; the names are the same."""
    for entry in entries(project, name):
        show = "console.log(Object.keys(it).filter((name) => name !== 'default').sort().join())"
        write(project, "load.mjs", f"import * as it from '{entry}'; {show}")
        write(project, "load.cjs", f"const it = require('{entry}'); {show}")
        names = [run("node", f"load.{kind}", cwd=project) for kind in ("mjs", "cjs")]
        check_equal(names[0], names[1], f"{entry} imported and required")
        check(names[0].strip(), f"{entry} exports nothing")


def check_types(project, name):
    """As a module and as CommonJS: all entries, and for the client all of its names."""
    text = "".join(
        f"import * as e{i} from '{entry}'; void e{i};\n"
        for i, entry in enumerate(entries(project, name))
    )
    if name == "usher-client":
        with open(TYPES, encoding="utf-8") as file:
            text = file.read()
    options = "--strict --noEmit --target es2020 --lib es2020,dom --module node16".split()
    for kind in ("mts", "cts"):
        write(project, f"program.{kind}", text)
        run("tsc", *options, f"program.{kind}", cwd=project)


def check_used(project, entry, program):
    with Broker(ws=True) as broker:
        write(project, "use.mjs", f"import * as PACKAGE from '{entry}'; {program}")
        write(project, "use.cjs", f"const PACKAGE = require('{entry}'); {program}")
        for kind in ("mjs", "cjs"):
            words = ["node", f"use.{kind}", f"tcp://127.0.0.1:{broker.port}", broker.link_url]
            with subprocess.Popen(words, cwd=project, stdout=subprocess.PIPE, text=True) as process:
                if "service" in program:
                    greet(broker)
                said, _ = process.communicate(timeout=PATIENCE)
            check_equal((said, process.returncode), ("hello\n", 0), f"what use.{kind} said")


def greet(broker):
    """Until the service is linked there is none."""
    with Client(broker, over="tcp", timeout=PATIENCE) as alice:
        alice.login("alice")
        eventually(
            lambda: alice.ask(
                "call", service="greeter", method="greet", payload=b"hello"
            ).WhichOneof("body")
            == "reply",
            "the service answers",
            PATIENCE,
        )


def check_package(name, archive, entry, program):
    with tempfile.TemporaryDirectory(prefix="usher-npm-project-") as project:
        write(project, "package.json", '{"name": "game", "version": "1.0.0", "private": true}')
        npm("install", archive, cwd=project)
        installed = os.listdir(os.path.join(project, "node_modules"))
        check_equal([one for one in installed if not one.startswith(".")], [name], "installed")
        check_loads(project, name)
        check_types(project, name)
        check_used(project, entry, program)
    print(f"ok   {name}: packed, installed, imported, required, typed, used")


def main(keep=None):
    if not shutil.which("node") or not (os.path.exists(NPM) or shutil.which("npm")):
        print("skipped: node and npm are needed; ./dev test fetches npm")
        sys.exit(SKIPPED)
    there = {name for name, (path, *_) in PACKAGES.items() if os.path.isdir(f"{BUILD}/{path}")}
    if "usher-client" not in there:
        print("skipped: no usher-client was built (node-typescript, esbuild)")
        sys.exit(SKIPPED)
    with tempfile.TemporaryDirectory(prefix="usher-npm-packed-") as folder:
        for name, (path, entry, program) in PACKAGES.items():
            if name in there:
                archive = pack(name, os.path.join(BUILD, path), folder)
                check_package(name, archive, entry, program)
                if keep:
                    os.makedirs(keep, exist_ok=True)
                    shutil.copy(archive, keep)


if __name__ == "__main__":
    main(sys.argv[2] if sys.argv[1:2] == ["--keep"] else None)
