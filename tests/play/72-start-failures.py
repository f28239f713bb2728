# SPDX-License-Identifier: Apache-2.0
"""A start that cannot work says why and with which exit code, and harms nobody."""

import os
import random
import shutil
import subprocess

from usherplay import Backend, Broker, Client, check, check_equal, free_port, play, program

USAGE, DAMAGED, IN_USE, CONFIGURATION = 64, 65, 69, 78


def usherd(*arguments, folder=None):
    """Runs usherd to its end; gives (exit code, stdout, stderr)."""
    try:
        done = subprocess.run(
            [program("usherd"), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            cwd=folder,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        check(
            False,
            f"usherd {' '.join(arguments)} did not end; it said: "
            f"{(error.stderr or b'')[-500:].decode(errors='replace')}",
        )
    return (
        done.returncode,
        done.stdout.decode(errors="replace"),
        done.stderr.decode(errors="replace"),
    )


def start_beside(broker, **options):
    """Tries to start a second broker that shares only what the options say."""
    settings = {
        "listen.tcp": f"127.0.0.1:{free_port()}",
        "store.path": os.path.join(broker.folder, "other-store"),
        "link.urls": f"ipc://{broker.folder}/other-link.sock",
        "log.format": "json",
        "admin.listen": "",
        "listen.wait_ms": "0",  # 87 waits
    }
    settings.update({key.replace("__", "."): value for key, value in options.items()})
    arguments = []
    for key, value in settings.items():
        arguments += ["--set", f"{key}={value}"]
    return usherd(*arguments, folder=broker.folder)


def check_failed(result, code, *words, what):
    got, _, text = result
    check(got == code, f"{what}: exit {got} instead of {code}; it said: {text[-800:]}")
    for word in words:
        check(word in text, f"{what}: the message does not name {word!r}: {text[-800:]}")
    check("CHECK" not in text and "Sanitizer" not in text, f"{what}: {text[-2000:]}")


def scene_things_in_use():
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        backend = Backend(broker, service="chat")
        address = broker.options["listen.tcp"]
        check_failed(
            start_beside(broker, listen__tcp=address),
            IN_USE,
            str(broker.port),
            what="a port in use",
        )
        check_failed(
            start_beside(broker, store__path=broker.store),
            IN_USE,
            broker.store,
            what="a store in use",
        )
        check_failed(
            start_beside(broker, link__urls=broker.link_url),
            IN_USE,
            broker.link_path,
            what="a link address in use",
        )
        alice.ping()  # the first one is undisturbed
        alice.post("call", service="chat", method="m")
        backend.reply(backend.expect_call())
        alice.expect("reply")
        with Backend(broker, service="other") as other:
            alice.post("call", service="other", method="m")
            other.reply(other.expect_call())
            alice.expect("reply")
        backend.close()


def scene_things_in_the_way():
    with Broker() as broker:
        path = os.path.join(broker.folder, "file")
        with open(path, "w", encoding="ascii") as file:
            file.write("in the way")
        code, _, text = start_beside(broker, store__path=path)
        check(code not in (0, USAGE) and path in text, f"a file as store: exit {code}: {text}")
        code, _, text = start_beside(broker, store__path=os.path.join(path, "below"))
        check(code not in (0, USAGE) and path in text, f"a folder below a file: {code}: {text}")
        code, _, text = start_beside(broker, link__urls=f"ipc://{path}")
        check(code not in (0, USAGE) and path in text, f"a file as link: exit {code}: {text}")
        with open(path, encoding="ascii") as file:
            check_equal(file.read(), "in the way", "the file that was in the way")
        for address in (
            "256.0.0.1:1",
            "nowhere",
            "127.0.0.1:99999",
            "127.0.0.1:",
            ":",
            "203.0.113.1:1",
        ):
            options = {"listen__tcp": address, "auth__allow_open_network": "true"}
            code, _, text = start_beside(broker, **options)
            check(code in (CONFIGURATION, IN_USE) and text, f"listen.tcp={address}: exit {code}")
        code, _, text = start_beside(broker, link__urls="http://127.0.0.1:1")
        check(code == CONFIGURATION and "link.urls" in text, f"link.urls=http: exit {code}: {text}")
        for name, make, wanted in (
            ("data.mdb", os.mkfifo, CONFIGURATION),
            ("lock.mdb", os.mkdir, CONFIGURATION),
            ("usher.lock", os.mkdir, CONFIGURATION),
            ("data.mdb.new", os.mkdir, CONFIGURATION),
        ):
            folder = os.path.join(broker.folder, f"with-{name}")
            os.mkdir(folder)
            make(os.path.join(folder, name))
            code, _, text = start_beside(broker, store__path=folder)
            check(
                code == wanted and folder in text, f"{name} is something else: exit {code}: {text}"
            )


def damage(path, how):
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        if how == "garbage":
            file.write(random.Random(1).randbytes(size))
        elif how == "text":
            file.write(b"this is not a database\n" * 100)
        elif how == "zeros":
            file.write(bytes(size))
        elif how == "half":
            file.truncate(size // 2 // 4096 * 4096)
        elif how == "one page":
            file.truncate(4096)
        elif how == "nothing":
            file.truncate(0)
        elif how == "a flipped bit of a record":
            data = file.read()
            place = -1
            found = 0
            while (place := data.find(b"damaged-user", place + 1)) >= 0:
                file.seek(place + len(b"damaged-user") + 8)
                byte = file.read(1)
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte[0] ^ 4]))
                found += 1
            check(found, "no record of the user in the file")


def scene_damaged_store():
    """Never silently empty, never a crash."""
    with Broker() as broker:
        with Client(broker) as client:
            client.login("damaged-user")
        broker.stop()
        good = broker.store + "-good"
        shutil.copytree(broker.store, good)
        for how in (
            "garbage",
            "text",
            "zeros",
            "half",
            "one page",
            "nothing",
            "a flipped bit of a record",
        ):
            shutil.rmtree(broker.store)
            shutil.copytree(good, broker.store)
            damage(os.path.join(broker.store, "data.mdb"), how)
            with open(os.path.join(broker.store, "data.mdb"), "rb") as file:
                before = file.read()
            result = start_beside(broker, store__path=broker.store)
            check_failed(result, DAMAGED, "store", what=how)
            with open(os.path.join(broker.store, "data.mdb"), "rb") as file:
                check(file.read() == before, f"{how}: the damaged file was changed")
            line = result[2].strip().splitlines()[-1]
            print(f"     {how}: {line[:150]}")
        shutil.rmtree(broker.store)
        shutil.copytree(good, broker.store)
        broker.restart()  # the undamaged one still works
        check_equal(
            [info.user for info in Backend(broker).list_all()[0]],
            ["damaged-user"],
            "who is remembered",
        )


def scene_configuration():
    with Broker() as broker:

        def with_file(text):
            path = os.path.join(broker.folder, "usher.yaml")
            with open(path, "wb") as file:
                file.write(text if isinstance(text, bytes) else text.encode())
            return usherd("--config", path, "--check-config", folder=broker.folder)

        good = "# comment\nlisten:\n  tcp: 127.0.0.1:0\nlimits.frame_bytes: 4096\n"
        code, _, text = with_file(good)
        check(code == 0, f"a good file: exit {code}: {text}")
        wrong = {
            "an unknown key": ("node:\n  name: a\n  colour: red\n", ":3:", "colour"),
            "a near miss": ("limits:\n  frame_byte: 1\n", ":2:", "frame_bytes"),
            "not a number": ("limits.users: many\n", ":1:", "limits.users"),
            "a trailing unit": ("limits.users: 10x\n", ":1:", "limits.users"),
            "too small": ("limits.frame_bytes: 1\n", ":1:", "1024"),
            "too large": ("threads.io: 1000\n", ":1:", "64"),
            "negative": ("limits.users: -1\n", ":1:", "limits.users"),
            "another word": ("\nlog.level: loud\n", ":2:", "warn"),
            "the same key twice": ("node.name: a\nnode.name: b\n", ":2:", "node.name"),
            "a list at the top": ("- a\n- b\n", "usher.yaml"),
            "broken YAML": ("a: [1, 2\n", "usher.yaml"),
            "an anchor": ("node: &n\n  name: a\nlog: *n\n", "usher.yaml"),
            "bytes that are no text": (b"\xff\xfe\x00\x01", "usher.yaml"),
        }
        for what, (text, *words) in wrong.items():
            check_failed(with_file(text), CONFIGURATION, *words, what=what)
        check_failed(
            usherd("--config", os.path.join(broker.folder, "missing.yaml")),
            CONFIGURATION,
            "missing.yaml",
            what="a missing file",
        )
        check_failed(usherd("--config", broker.folder), CONFIGURATION, what="a folder as file")
        code, _, text = usherd("--set", "limits.colour=red", folder=broker.folder)
        check(code in (USAGE, CONFIGURATION) and "colour" in text, f"--set: exit {code}: {text}")
        code, printed, text = usherd("--print-config", folder=broker.folder)
        check(code == 0 and "listen" in printed, f"--print-config: exit {code}: {text}")
        code, _, text = with_file(printed)
        check(code == 0, f"what --print-config says is refused: {text}")


def scene_usage():
    for arguments in (["--colour"], ["--set"], ["--set", "novalue"], ["extra"], ["--config"]):
        code, _, text = usherd(*arguments)
        check(code == USAGE and text, f"usherd {arguments}: exit {code}: {text}")
    code, out, _ = usherd("--version")
    check(code == 0 and any(digit in out for digit in "0123456789"), f"--version: {code} {out!r}")
    code, out, _ = usherd("--help")
    check(code == 0 and "--config" in out and "--set" in out, f"--help: exit {code}: {out[:300]}")
    print(f"     --help has {len(out.splitlines())} lines")
    for what in ("--print-config", "--help", "--version"):
        with open("/dev/full", "w", encoding="ascii") as full:
            code = subprocess.run([program("usherd"), what], stdout=full, timeout=20).returncode
        check_equal(code, 74, f"{what} onto a full disk")


def scene_open_network():
    with Broker() as broker:
        for host in ("0.0.0.0", "[::]"):
            check_failed(
                start_beside(broker, listen__tcp=f"{host}:{free_port()}"),
                CONFIGURATION,
                "auth.allow_open_network",
                what=f"auth.mode open on {host}",
            )


if __name__ == "__main__":
    play(
        scene_things_in_use,
        scene_things_in_the_way,
        scene_damaged_store,
        scene_configuration,
        scene_usage,
        scene_open_network,
    )
