# SPDX-License-Identifier: Apache-2.0
"""A client on python3-websockets. README.md says what it does."""

import asyncio
import os
import ssl

import websockets


def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out + bytearray([number]))


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def client_frame(id, kind, body):
    frame = field(1, id) + field(kind, body)
    return varint(len(frame)) + frame


def read_varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
        shift += 7


def read_fields(data):
    fields, at = {}, 0
    while at < len(data):
        tag, at = read_varint(data, at)
        value, at = read_varint(data, at)
        if tag & 7 == 2:
            value, at = data[at : at + value], at + value
        fields[tag >> 3] = value
    return fields


def read_frames(data):
    at = 0
    while at < len(data):
        size, at = read_varint(data, at)
        yield read_fields(data[at : at + size])
        at += size


async def talk(url, name, context):
    async with websockets.connect(url, subprotocols=["usher.v1"], ssl=context) as socket:
        print("open", socket.subprotocol)
        login = field(1, name.encode()) + field(3, b"peer.py") + field(4, 1)
        await socket.send(client_frame(1, 2, login))
        count = 0
        try:
            async for data in socket:
                for frame in read_frames(data):
                    if 3 in frame:
                        count += 1
                        await answer(socket, read_fields(frame[3]), count)
                    elif 8 in frame:
                        close = read_fields(frame[8])
                        print("said", close[1], close.get(2, b"").decode())
        except websockets.ConnectionClosed:
            pass
        print("closed", socket.close_code, socket.close_reason)


async def answer(socket, message, count):
    payload, sender = message.get(4, b""), message.get(2, b"")
    await socket.send(client_frame(0, 6, field(1, message[1])))
    reply = None
    if payload.startswith(b"echo "):
        reply = payload[5:]
    elif payload == b"count":
        reply = b"%d" % count
    elif payload == b"leave":
        await socket.close(1000, "bye")
    if reply is not None:
        await socket.send(client_frame(count + 1, 4, field(1, sender) + field(2, reply)))


def main():
    url = os.environ["PEER_URL"]
    context = ssl.create_default_context(cafile=os.environ["PEER_CA"]) if "wss:" in url else None
    asyncio.run(talk(url, os.environ["PEER_NAME"], context))


if __name__ == "__main__":
    main()
