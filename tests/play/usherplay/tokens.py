# SPDX-License-Identifier: Apache-2.0
"""Keys and tokens of a login service, and brokers that believe them."""

import base64
import json
import os
import tempfile
import time

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from usherplay.broker import Broker


def text_of(number_or_bytes, size=None):
    data = number_or_bytes
    if isinstance(data, int):
        data = data.to_bytes(size or (data.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Key:
    """A key of a login service: `jwk` is what usherd is told of it."""

    def __init__(self, algorithm, kid):
        self.algorithm, self.kid = algorithm, kid
        self.jwk = {"alg": algorithm, "kid": kid}
        getattr(self, "_make_" + algorithm.lower())()

    def _make_hs256(self):
        self.secret = os.urandom(32)
        self.jwk.update(kty="oct", k=text_of(self.secret))

    def _make_eddsa(self):
        self.secret = ed25519.Ed25519PrivateKey.generate()
        raw = self.secret.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
        self.jwk.update(kty="OKP", crv="Ed25519", x=text_of(raw))

    def _make_es256(self):
        self.secret = ec.generate_private_key(ec.SECP256R1())
        numbers = self.secret.public_key().public_numbers()
        self.jwk.update(kty="EC", crv="P-256", x=text_of(numbers.x, 32), y=text_of(numbers.y, 32))

    def _make_rs256(self):
        self.secret = rsa.generate_private_key(65537, 2048)
        numbers = self.secret.public_key().public_numbers()
        self.jwk.update(kty="RSA", n=text_of(numbers.n), e=text_of(numbers.e))

    def sign(self, user, ttl=300, headers=None, **claims):
        """A token as bytes; ttl None leaves exp out."""
        payload = {"sub": user}
        if ttl is not None:
            payload["exp"] = time.time() + ttl
        payload.update(claims)
        headers = {"kid": self.kid} if headers is None else headers
        return jwt.encode(payload, self.secret, self.algorithm, headers).encode()


class Keys:
    """A key file that can be written anew."""

    def __init__(self, *keys):
        handle, self.path = tempfile.mkstemp(prefix="usher-keys-")
        os.close(handle)
        self.write(*keys)

    def write(self, *keys):
        self.write_text(json.dumps({"keys": [key.jwk for key in keys]}))

    def write_text(self, text):
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(text)

    def broker(self, options=None, **more):
        return Broker(
            {"auth.mode": "token", "auth.keys_file": self.path, **(options or {})}, **more
        )

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        os.unlink(self.path)
