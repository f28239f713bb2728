# SPDX-License-Identifier: Apache-2.0
"""Who gets what usherd posts: an HTTP server that checks each signature, keeps the seq that it has,
and behaves as a play wants, down to single bytes."""

import hashlib
import hmac
import json
import os
import socket
import ssl
import threading
import time

from usherplay.stage import Failed, check

HEAD_BYTES_MAX = 65536
LONG_SECONDS = 60


def signatures(header):
    """The moment, and all v1 of it."""
    parts = [part.split("=", 1) for part in header.split(",")]
    return next(value for key, value in parts if key == "t"), [
        value for key, value in parts if key == "v1"
    ]


def is_signed(header, body, secret):
    moment, given = signatures(header)
    wanted = hmac.new(secret.encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest()
    return any(hmac.compare_digest(wanted, value) for value in given)


def answer(status, body=b"", *headers):
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Receiver:
    """`behave` is a list of what to do with the next requests, each a name of a method below without
    its underscore; then, and before, they are taken. `secret`: None is any, unsigned too."""

    def __init__(self, secret=None, identity=None, port=0):
        self.secret = secret
        self.behave = []
        self.requests = []  # (headers, body as JSON)
        self.events = []  # taken, each once
        self.resets = []
        self.seq = 0
        self.boot, self.news_seq = None, 0  # of the news of rooms
        self.news, self.news_resets = [], []  # taken, each with its boot
        self.bad_signatures = 0
        self.connections = 0
        self._open = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._tls = None
        if identity:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(identity.certificate, identity.key)
        self._listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if identity else 'http'}://127.0.0.1:{self.port}/hook"
        threading.Thread(target=self._accept, daemon=True).start()

    # --- what it can do with a request; True: the connection goes on --------------------------------

    def _take(self, connection, body, say=True):
        self._take_all(body)
        text = self._says(body) if say else b"thanks\n"
        connection.sendall(answer(200, text))
        return True

    def _plain(self, connection, body):
        return self._take(connection, body, say=False)

    def _fail(self, connection, body):
        connection.sendall(answer(503, b'{"seq": 999999999}'))
        return True

    def _later(self, connection, body):
        connection.sendall(answer(429, b"", "Retry-After: 1"))
        return True

    def _large(self, connection, body):
        connection.sendall(answer(413))
        return True

    def _hang(self, connection, body):
        self._closing.wait(LONG_SECONDS)

    def _lose(self, connection, body):
        """Takes all of it, and its answer is lost."""
        self._take_all(body)

    def _half(self, connection, body):
        """Takes half of it and says so."""
        name = "events" if "events" in body else "room_news"
        self._take_all({**body, name: body[name][: (len(body[name]) + 1) // 2]})
        connection.sendall(answer(200, self._says(body)))
        return True

    def _none(self, connection, body):
        connection.sendall(answer(200, self._says(body)))
        return True

    def _garbage(self, connection, body):
        connection.sendall(os.urandom(3000))

    def _odd(self, connection, body):
        connection.sendall(answer(200, b'{"seq": "far"}'))
        return True

    def _cut(self, connection, body):
        connection.sendall(answer(200, b'{"seq": 123456789}')[:-8])

    def _torn(self, connection, body):
        connection.sendall(answer(200, b'{"seq": 12'))
        return True

    def _slow(self, connection, body):
        for byte in answer(200, b" " * 4096):
            connection.sendall(bytes([byte]))
            if self._closing.wait(0.05):
                return

    def _huge(self, connection, body):
        connection.sendall(answer(200, b"x" * (1 << 20)))

    def _endless(self, connection, body):
        """Interim answers without an end."""
        while not self._closing.is_set():
            connection.sendall(b"HTTP/1.1 100 Continue\r\nX-Filler: " + b"y" * 500 + b"\r\n\r\n")

    def _redirect(self, connection, body):
        connection.sendall(answer(307, b"", f"Location: {self.elsewhere}"))
        return True

    # --- inside ------------------------------------------------------------------------------------

    def _says(self, body):
        with self._lock:
            seq = self.seq if "events" in body else self.news_seq
        return json.dumps({"seq": seq}).encode()

    def _take_all(self, body):
        for event in body.get("events", ()):
            self._take_event(event)
        for event in body.get("room_news", ()):
            self._take_news(body["boot"], event)

    def _take_news(self, boot, event):
        with self._lock:
            if boot != self.boot:
                self.boot, self.news_seq = boot, 0
            if event["kind"] == "RESET":
                self.news_resets.append({**event, "boot": boot})
                if event["reason"] == "ahead" or event["seq"] > self.news_seq:
                    self.news_seq = event["seq"]
            elif event["seq"] == self.news_seq + 1:
                self.news_seq = event["seq"]
                self.news.append({**event, "boot": boot})

    def _take_event(self, event):
        with self._lock:
            if event["kind"] == "RESET":
                self.resets.append(event)
                if event["reason"] == "ahead" or event["seq"] > self.seq:
                    self.seq = event["seq"]  # and it would take the list anew
                return
            if event["seq"] != self.seq + 1:
                return  # it has it, or something before it is missing, which it says by its seq
            self.seq = event["seq"]
            self.events.append(event)

    def _accept(self):
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.append(connection)
                self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            while self._one(connection):
                pass
        except (OSError, ssl.SSLError):
            pass
        finally:
            connection.close()

    def _one(self, connection):
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more or len(data) > HEAD_BYTES_MAX:
                return False
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:])
        }
        headers[":line"] = lines[0]
        while len(body) < int(headers["content-length"]):
            body += connection.recv(65536)
        return self._handle(connection, headers, body)

    def _handle(self, connection, headers, body):
        with self._lock:
            self.requests.append((headers, json.loads(body)))
            name = self.behave.pop(0) if self.behave else self.usual()
        signed = headers.get("usher-signature", "")
        if self.secret is not None and not (signed and is_signed(signed, body, self.secret)):
            self.bad_signatures += 1
            connection.sendall(answer(401))
            return True
        return getattr(self, "_" + name)(connection, json.loads(body))

    def usual(self):
        return "take"

    # --- for plays ---------------------------------------------------------------------------------

    def wait(self, count, what="events", seconds=30):
        """Until so many events were taken."""
        until = time.monotonic() + seconds
        while len(self.events) < count:
            if time.monotonic() > until:
                raise Failed(f"{len(self.events)} of {count} {what} came")
            time.sleep(0.02)
        self.check()

    def wait_news(self, count, seconds=30):
        until = time.monotonic() + seconds
        while len(self.news) < count:
            if time.monotonic() > until:
                raise Failed(f"{len(self.news)} of {count} news came")
            time.sleep(0.02)

    def check(self):
        seqs = [event["seq"] for event in self.events]
        check(len(seqs) == len(set(seqs)), "an event was taken twice")

    def close(self):
        self._closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()
