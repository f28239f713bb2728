# SPDX-License-Identifier: Apache-2.0
"""Who asks usherd by HTTP."""

import http.client
import json
import socket

from prometheus_client.parser import text_string_to_metric_families

from usherplay.stage import check, check_equal

SLOW_SECONDS = 20


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode()

    def json(self):
        return json.loads(self.text)


class Http:
    """Asks an endpoint of a broker: the one for operators, or with `whose` http that of backends."""

    def __init__(self, broker, token=None, whose="admin"):
        lines = [line for line in broker.log_events("listening") if line["for"] == whose]
        self.address = ("127.0.0.1", lines[-1]["port"])
        self.token = token

    def ask(self, method, path, body=None, headers=(), token=None):
        connection = http.client.HTTPConnection(*self.address, timeout=SLOW_SECONDS)
        given = dict(headers)
        if token or self.token:
            given["Authorization"] = f"Bearer {token or self.token}"
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        try:
            connection.request(method, path, body, given)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path, status=200, **more):
        answer = self.ask("GET", path, **more)
        check_equal(answer.status, status, f"status of GET {path}: {answer.text[:300]}")
        return answer

    def json(self, path, status=200, **more):
        return self.get(path, status, **more).json()

    def post(self, path, body=None, status=200, **more):
        answer = self.ask("POST", path, body, **more)
        check_equal(answer.status, status, f"status of POST {path}: {answer.text[:300]}")
        return answer.json()

    def error(self, method, path, status, error, **more):
        answer = self.ask(method, path, **more)
        check_equal(
            (answer.status, answer.json()["error"]),
            (status, error),
            f"{method} {path}: {answer.text[:300]}",
        )

    def raw(self, data=b""):
        connection = socket.create_connection(self.address, SLOW_SECONDS)
        connection.sendall(data)
        return connection

    def scrape(self):
        """{(name, labels as a sorted tuple): value}, and the families by name."""
        families = list(text_string_to_metric_families(self.get("/metrics").text))
        samples = {}
        for family in families:
            for sample in family.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                check(key not in samples, f"the scrape has {key} twice")
                samples[key] = sample.value
        return samples, {family.name: family for family in families}


def read_all(connection):
    """What comes until the other side closes."""
    data = b""
    try:
        while True:
            more = connection.recv(65536)
            if not more:
                return data
            data += more
    except ConnectionResetError:
        return data
