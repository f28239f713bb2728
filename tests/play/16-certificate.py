# SPDX-License-Identifier: Apache-2.0
"""The end of the TLS certificate: a number, and a word in the log before it is too late. Nothing is
refused for it, and nothing is taken in silence."""

import datetime
import os
import signal
import socket
import ssl
import tempfile
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from usherplay import Broker, Client, check, check_equal, eventually, play
from usherplay.broker import free_port
from usherplay.shim import Shim

DAY = 86400
EVENTS = ("certificate_ends", "certificate_expired", "certificate_not_yet")


class Certificate:
    """Files of a certificate that is good from `begins` to `ends`, in seconds from now, and of one
    that signed it, which is sent along."""

    def __init__(self, folder):
        self.folder = folder
        self.certificate = os.path.join(folder, "chain.pem")
        self.key = os.path.join(folder, "key.pem")

    def write(self, begins, ends, signer_ends=3650 * DAY):
        authority = self._make("authority", -DAY, signer_ends)
        own = self._make("localhost", begins, ends, authority)
        with open(self.certificate, "wb") as file:
            for _, certificate in (own, authority):
                file.write(certificate.public_bytes(serialization.Encoding.PEM))
        with open(self.key, "wb") as file:
            os.chmod(self.key, 0o600)
            file.write(
                own[0].private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
        return own[1].not_valid_after.replace(tzinfo=datetime.timezone.utc).timestamp()

    def _make(self, name, begins, ends, by=None):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.datetime.utcnow().replace(microsecond=0)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .public_key(key.public_key())
            .issuer_name(by[1].subject if by else subject)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(seconds=begins))
            .not_valid_after(now + datetime.timedelta(seconds=ends))
        )
        return key, builder.sign(by[0] if by else key, hashes.SHA256())

    def options(self, **more):
        return {
            "listen.tls": f"127.0.0.1:{free_port()}",
            "tls.certificate_file": self.certificate,
            "tls.key_file": self.key,
            "admin.listen": "127.0.0.1:0",
            **more,
        }


def told(broker):
    """What the log says of certificates since the start."""
    return [line["event"] for event in EVENTS for line in broker.log_events(event)]


def reading(broker):
    numbers = broker.numbers()
    return (numbers["certificate_not_after_timestamp_seconds"], numbers["certificate_ending"])


def shake_hands(options):
    """A client that goes by no date."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host, port = options["listen.tls"].split(":")
    with socket.create_connection((host, int(port)), 10) as plain:
        with context.wrap_socket(plain) as wrapped:
            return wrapped.getpeercert(True) is not None


def scene_at_the_start():
    """Fine, near, over, not yet, and the one that signed it near: each is served, and told."""
    rows = (
        ((-DAY, 90 * DAY), {}, [], 0),
        ((-80 * DAY, 10 * DAY), {}, ["certificate_ends"], 1),
        ((-4.5 * DAY, 1.5 * DAY), {}, ["certificate_ends"], 1),
        ((-DAY, 6 * DAY), {}, [], 0),
        ((-90 * DAY, -60), {}, ["certificate_expired"], 1),
        ((DAY, 90 * DAY), {}, ["certificate_not_yet"], 1),
    )
    with tempfile.TemporaryDirectory(prefix="usher-play-") as folder:
        files = Certificate(folder)
        for (begins, ends), more, events, ending in rows:
            not_after = files.write(begins, ends, **more)
            options = files.options()
            with Broker(options) as broker:
                check_equal(told(broker), events, f"the log with {begins} to {ends}")
                check_equal(
                    reading(broker), (not_after, ending), f"numbers with {begins} to {ends}"
                )
                check(shake_hands(options), "who goes by no date is served")
        # Clients judge the whole chain: the first one to end counts.
        files.write(-DAY, 90 * DAY, signer_ends=DAY / 4)
        with Broker(files.options()) as broker:
            check_equal(told(broker), ["certificate_ends"], "the log with an authority that ends")
            check(abs(reading(broker)[0] - time.time() - DAY / 4) < 60, "which end is told")
        with Broker({"admin.listen": "127.0.0.1:0"}) as broker:
            check_equal((told(broker), reading(broker)), ([], (0, 0)), "without TLS")


def scene_a_reload_renews_it():
    """And says at once when what was put there is no better."""
    with tempfile.TemporaryDirectory(prefix="usher-play-") as folder:
        files = Certificate(folder)
        files.write(-90 * DAY, DAY)
        with Broker(files.options()) as broker:
            for count, (ends, events, ending) in enumerate(
                (
                    (DAY, ["certificate_ends"] * 2, 1),
                    (90 * DAY, ["certificate_ends"] * 2, 0),
                    (-5, ["certificate_ends"] * 2 + ["certificate_expired"], 1),
                ),
                1,
            ):
                not_after = files.write(-90 * DAY, ends)
                broker.process.send_signal(signal.SIGHUP)
                broker.wait_log("tls_reloaded", count=count)
                broker.wait_log("reloaded", count=count)
                check_equal(told(broker), events, f"the log after reload {count}")
                check_equal(reading(broker), (not_after, ending), f"numbers after reload {count}")
            with Client(broker) as alice:
                alice.login("alice")  # the plain port never minded


def scene_while_it_runs():
    """Somebody looks again as time goes by: once a day while it is near, at once when it is over. The
    wall clock is the shim's; any signal makes the main thread come round."""
    shim = Shim()

    def look():
        broker.process.send_signal(signal.SIGUSR1)
        count = len(broker.log_events("recorder_written")) + 1
        broker.wait_log("recorder_written", count=count)

    with tempfile.TemporaryDirectory(prefix="usher-play-") as folder:
        files = Certificate(folder)
        files.write(-60 * DAY, 20 * DAY)
        options = {**files.options(), "store.path": shim.store}
        with Broker(options, environment=shim.environment()) as broker:
            for days, ending, events in (
                (0, 0, []),
                (5.9, 0, []),
                (6.1, 1, ["certificate_ends"]),
                (6.5, 1, ["certificate_ends"]),
                (7.2, 1, ["certificate_ends"] * 2),
                (20.1, 1, ["certificate_ends"] * 2 + ["certificate_expired"]),
            ):
                shim["realtime_offset_ms"] = int(days * DAY * 1000)
                look()
                eventually(
                    lambda: told(broker) == events, f"what is told after {days} days: {events}"
                )
                check_equal(reading(broker)[1], ending, f"certificate_ending after {days} days")
            line = broker.log_events("certificate_ends")[0]
            check_equal((line["level"], line["hours"] // 24), ("warn", 13), "the line")
            check_equal(broker.log_events("certificate_expired")[0]["level"], "error", "its level")


play(scene_at_the_start, scene_a_reload_renews_it, scene_while_it_runs)
