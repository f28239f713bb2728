# SPDX-License-Identifier: Apache-2.0
"""TLS for plays: certificates, a client, and one that does what Python's ssl module would not."""

import ctypes
import ctypes.util
import os
import socket
import ssl
import subprocess
import tempfile

from usherplay.broker import Broker, free_port
from usherplay.client import Client
from usherplay.stage import OVER, Failed


def _openssl(*arguments):
    subprocess.run(
        ["openssl", *arguments],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


class Identity:
    """A key and a certificate in a folder; signed by `by`, or an authority of its own."""

    def __init__(self, folder, name, by=None):
        self.key = os.path.join(folder, f"{name}.key")
        self.certificate = os.path.join(folder, f"{name}.pem")
        new_key = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            self.key,
            "-subj",
            f"/CN={name}",
        ]
        if by is None:
            _openssl("req", "-x509", *new_key, "-days", "2", "-out", self.certificate)
            return
        request, extensions = self.key + ".csr", self.key + ".ext"
        with open(extensions, "w", encoding="ascii") as file:
            file.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        _openssl("req", *new_key, "-out", request)
        _openssl(
            "x509",
            "-req",
            "-in",
            request,
            "-CA",
            by.certificate,
            "-CAkey",
            by.key,
            "-days",
            "2",
            "-extfile",
            extensions,
            "-out",
            self.certificate,
        )


class TlsBroker(Broker):
    """A broker that listens for TLS too; `authority` has signed its certificate."""

    def __init__(self, options=None, **others):
        self.certificates = tempfile.TemporaryDirectory(prefix="usher-play-tls-")
        self.authority = Identity(self.certificates.name, "authority")
        self.identity = Identity(self.certificates.name, "broker", self.authority)
        self.tls_port = free_port()
        self.tls_address = ("127.0.0.1", self.tls_port)
        listen = {"listen.tls": f"127.0.0.1:{self.tls_port}"}
        if others.get("ws", OVER == "ws"):
            self.wss_port = free_port()
            self.wss_address = ("127.0.0.1", self.wss_port)
            listen["listen.wss"] = f"127.0.0.1:{self.wss_port}"
        super().__init__(
            {
                **listen,
                "tls.certificate_file": self.identity.certificate,
                "tls.key_file": self.identity.key,
                **(options or {}),
            },
            **others,
        )

    def context(self, identity=None):
        """What a client goes by."""
        context = ssl.create_default_context(cafile=self.authority.certificate)
        if identity is not None:
            context.load_cert_chain(identity.certificate, identity.key)
        return context

    def close(self):
        super().close()
        self.certificates.cleanup()


class TlsClient(Client):
    """A client over TLS, also below WebSocket. Options of Client, and the ssl context."""

    def __init__(self, broker, context=None, **others):
        self._context = context or broker.context()
        super().__init__(broker, **others)

    def _address_of(self, where):
        return where.wss_address if self.over == "ws" else where.tls_address

    def _connect(self):
        super()._connect()
        self.socket = self._context.wrap_socket(self.socket, server_hostname="localhost")


class RawTls:
    """OpenSSL itself, for what the ssl module keeps away from its users."""

    TLS_1_2, TLS_1_3 = 0x0303, 0x0304
    _SET_MIN, _SET_MAX = 123, 124

    def __init__(self, address, version):
        library = self._library = ctypes.CDLL(ctypes.util.find_library("ssl"))
        pointer = ctypes.c_void_p
        for name, gives in (
            ("TLS_client_method", pointer),
            ("SSL_CTX_new", pointer),
            ("SSL_new", pointer),
            ("SSL_CTX_ctrl", ctypes.c_long),
        ):
            getattr(library, name).restype = gives
        context = pointer(library.SSL_CTX_new(pointer(library.TLS_client_method())))
        for command in (self._SET_MIN, self._SET_MAX):
            library.SSL_CTX_ctrl(context, command, ctypes.c_long(version), None)
        self.socket = socket.create_connection(address, 10)
        self.socket.settimeout(None)  # OpenSSL reads and writes the descriptor itself
        self._ssl = pointer(library.SSL_new(context))
        library.SSL_set_fd(self._ssl, self.socket.fileno())
        if library.SSL_connect(self._ssl) != 1:
            raise Failed("the handshake failed")

    def send(self, data):
        return self._library.SSL_write(self._ssl, data, len(data)) == len(data)

    def receive(self, size=4096):
        data = ctypes.create_string_buffer(size)
        got = self._clean(self._library.SSL_read(self._ssl, data, size))
        return data.raw[:got] if got > 0 else b""

    def update_keys(self):
        """True when it went out."""
        return self._clean(
            self._library.SSL_key_update(self._ssl, 0) == 1
            and self._library.SSL_do_handshake(self._ssl) == 1
        )

    def renegotiate(self):
        """True when the broker agreed."""
        return self._clean(
            self._library.SSL_renegotiate(self._ssl) == 1
            and self._library.SSL_do_handshake(self._ssl) == 1
            and bool(self.receive(1))
        )

    def _clean(self, result):
        """The ssl module would take what is left in the thread's queue of errors for its own."""
        self._library.ERR_clear_error()
        return result

    def close(self):
        self.socket.close()
