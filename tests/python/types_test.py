# SPDX-License-Identifier: Apache-2.0
"""The types of the library, by mypy --strict; and those that a program sees, right and wrong uses.

    types_test.py PACKAGE"""

import os
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
RIGHT = """\
from collections.abc import AsyncIterator
from typing import assert_type

import usher_backend


async def main() -> None:
    async with usher_backend.service("shop", presence=usher_backend.Presence(after=5)) as shop:

        @shop.on("buy")
        async def buy(call: usher_backend.Call) -> bytes:
            assert_type(call.epoch, int)
            return call.payload

        @shop.on_call
        def other(call: usher_backend.Call) -> str | None:
            raise usher_backend.Status(404, "no " + call.text)

        @shop.on_login
        async def judge(login: usher_backend.Login) -> bool:
            return login.token == b"x"

        @shop.on_presence
        async def changed(event: usher_backend.Event) -> None:
            assert_type(event.kind, str)

        assert_type(buy(usher_backend.Call.__new__(usher_backend.Call)).close(), None)
        assert_type(await shop.push(["ann"], "x"), usher_backend.PushReport)
        assert_type(await shop.kick("ann"), bool)
        assert_type(await shop.lookup(["ann"]), list[usher_backend.Session])
        assert_type(shop.list(), AsyncIterator[usher_backend.Session])
        assert_type(await shop.count(), dict[str, int])

        @shop.on_room_ask
        async def may(ask: usher_backend.RoomAsk) -> bool | str:
            return ask.kind == "JOIN" or "not now"

        @shop.on_room_news
        async def news(one: usher_backend.RoomNews) -> None:
            assert_type(one.news_seq, int)

        @shop.on_watch_ask
        def watch(ask: usher_backend.WatchAsk) -> list[str]:
            return [name for name in ask.targets if name != "bob"]

        assert_type(await shop.room_open("m:1", room_class="m:*"), usher_backend.RoomInfo)
        assert_type(await shop.room_close("m:1", "over"), bool)
        report = await shop.room_add("m:1", ["ann"], epochs=[7], carry=True)
        assert_type(report, usher_backend.PushReport)
        assert_type(await shop.room_remove("m:1", "ann"), usher_backend.PushReport)
        assert_type(await shop.room_publish("m:1", b"go"), int)
        async for page in shop.room_members("m:1", limit=5):
            assert_type(page.members, tuple[usher_backend.RoomMember, ...])
        assert_type(shop.rooms("m:"), AsyncIterator[usher_backend.RoomInfo])
        await shop.watch_list("ann", ["bob"], mode="ADD", epoch=7)
"""
WRONG = {
    '    @shop.on("m")\n    async def m(call: usher_backend.Call) -> int:\n        return 5\n': "on",
    "    @shop.on_login\n    def j(login: usher_backend.Login) -> None: ...\n": "on_login",
    "    await shop.push(5, b'')\n": "push",
    "    await shop.kick('ann', 5)\n": "kick",
    "    usher_backend.service('x', presence=True)\n": "presence",
    "    await shop.watch_list('ann', ['bob'], mode='ALL')\n": "watch_list",
    "    @shop.on_room_ask\n    def a(ask: usher_backend.RoomAsk) -> int: ...\n": "on_room_ask",
}


def mypy(path, *arguments):
    command = ["mypy", "--strict", "--no-error-summary", "--cache-dir", path[1], *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "MYPYPATH": path[0]},
        check=False,
    )


def main():
    if shutil.which("mypy") is None:
        print("mypy is not there")
        return SKIPPED
    package = sys.argv[1]
    settings = ("--config-file", f"{package}/pyproject.toml")
    with tempfile.TemporaryDirectory(prefix="usher-types-") as folder:
        path = (package, f"{folder}/cache")
        whole = mypy(path, *settings, f"{package}/usher_backend")
        print(whole.stdout + whole.stderr)
        if whole.returncode:
            return 1
        head = "import usher_backend\n\nasync def main(shop: usher_backend.Service) -> None:\n"
        programs = {"right": RIGHT, **{f"wrong{n}": head + use for n, use in enumerate(WRONG)}}
        for name, text in programs.items():
            with open(f"{folder}/{name}.py", "w", encoding="utf-8") as file:
                file.write(text)
        said = mypy(path, *settings, *(f"{folder}/{name}.py" for name in programs)).stdout
        found = {
            line.rpartition("/")[2].partition(".py")[0]
            for line in said.splitlines()
            if ": error:" in line
        }
        wanted = set(programs) - {"right"}
        if found != wanted:
            print(f"errors in {sorted(found)}, and there should be in {sorted(wanted)}:\n{said}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
