# SPDX-License-Identifier: Apache-2.0
"""Where a node may be: the URLs of one node, tried in turn, and all addresses of the host that a URL
names. One that led nowhere is tried after those that did not, so a family of addresses that is broken
here, or a machine that has gone, costs one try and not all of them."""

import asyncio
import ipaddress
import itertools
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass

URLS_MAX = 8
URL_BYTES_MAX = 255
ADDRESSES_MAX = 32


@dataclass(frozen=True, slots=True)
class Target:
    """One place to connect to: a path (ipc), or an address and a port."""

    path: str | None = None
    host: str = ""
    port: int = 0


def default_url() -> str:
    """Where a node on this machine is likely to listen: $USHER_LINK, else the first socket found of
    ./build/data/link.sock, ./usher-data/link.sock and /run/usher/link.sock, else the second of these.
    """
    if url := os.environ.get("USHER_LINK"):
        return url
    places = ("./build/data/link.sock", "./usher-data/link.sock", "/run/usher/link.sock")
    return "ipc://" + next((place for place in places if os.path.exists(place)), places[1])


def parse(url: str) -> Target:
    """ipc://PATH, tcp://HOST:PORT, tcp://[ADDRESS]:PORT. ValueError."""
    scheme, found, rest = url.partition("://")
    if not found or len(url.encode()) > URL_BYTES_MAX or "\0" in url:
        raise ValueError(f"not a link: {url!r}; it is ipc://PATH or tcp://HOST:PORT")
    if scheme == "ipc" and rest:
        return Target(path=rest)
    host, _, port = rest.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if scheme != "tcp" or not host or not (port.isascii() and port.isdigit()):
        raise ValueError(f"not a link: {url!r}; it is ipc://PATH or tcp://HOST:PORT")
    if not 0 < int(port) < 65536:
        raise ValueError(f"a port is 1 to 65535: {url!r}")
    return Target(host=host, port=int(port))


def by_turns(hosts: Iterable[str]) -> list[str]:
    """IPv6 and IPv4 by turns, each once, beginning with the system's first choice."""
    unique = list(dict.fromkeys(hosts))
    first = [host for host in unique if (":" in host) == (":" in unique[0])]
    other = [host for host in unique if host not in first]
    mixed = itertools.chain.from_iterable(itertools.zip_longest(first, other))
    return [host for host in mixed if host is not None][:ADDRESSES_MAX]


class Places:
    """The URLs of one node, and which of their addresses have failed."""

    def __init__(self, urls: Iterable[str]) -> None:
        self.urls = list(urls)
        if not 0 < len(self.urls) <= URLS_MAX:
            raise ValueError(f"a node has 1 to {URLS_MAX} URLs")
        self._targets = [parse(url) for url in self.urls]
        self._at = 0
        self._failed: dict[Target, None] = {}  # the oldest failure first

    @property
    def url(self) -> str:
        return self.urls[self._at]

    def next_url(self) -> None:
        self._at = (self._at + 1) % len(self.urls)

    def failed(self, target: Target) -> None:
        self._failed.pop(target, None)
        self._failed[target] = None
        while len(self._failed) > URLS_MAX * ADDRESSES_MAX:
            del self._failed[next(iter(self._failed))]

    def works(self, target: Target) -> None:
        self._failed.pop(target, None)

    async def targets(self) -> list[Target]:
        """What the URL means now, the best one first. OSError: the name is not known."""
        target = self._targets[self._at]
        if target.path is not None or _is_address(target.host):
            return [target]
        found = await asyncio.get_running_loop().getaddrinfo(
            target.host, target.port, type=socket.SOCK_STREAM
        )
        hosts = by_turns(str(each[4][0]) for each in found)
        order = {failed: number for number, failed in enumerate(self._failed, 1)}
        targets = [Target(host=host, port=target.port) for host in hosts]
        return sorted(targets, key=lambda each: order.get(each, 0))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
        return True
    except ValueError:
        return False
