#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A member of a room that shares no code with the libraries: room_player.py PORT USER ROOM COUNT. It publishes
COUNT texts, and ends with the message "last", printing all that came as JSON: offset and text in pairs."""

import json
import sys

from usherplay import Client, Failed


class Player(Client):
    """Keeps what comes of the room, whatever is being waited for."""

    def __init__(self, port):
        super().__init__(("127.0.0.1", port))
        self.got = []

    def saw(self, frame):
        super().saw(frame)
        if frame.WhichOneof("body") == "room_messages":
            for i, message in enumerate(frame.room_messages.messages):
                text = getattr(message, "from") + ": " + message.payload.decode()
                self.got.append((frame.room_messages.offset + i, text))


def main(port, user, room, count):
    with Player(int(port)) as player:
        player.login(user)
        number = player.ask("join", room=room).room_state.room
        print("joined", flush=True)
        for n in range(int(count)):
            player.ask("publish", room=number, payload=f"{n}".encode())
        while not any(text.endswith(": last") for _, text in player.got):
            if player.next_frame() is None:
                raise Failed("the last one does not come")
        print(json.dumps(player.got))


if __name__ == "__main__":
    main(*sys.argv[1:])
